"""Show the public catalog, and a customer's subscriptions with their timeline."""

from typing import Any

from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import cache, clock, errors
from core.api import access, pagination, responses, schema
from core.api import serializers as strict
from core.models import Customer
from subscriptions import errors as own_errors
from subscriptions import selectors
from subscriptions.api import bodies
from subscriptions.api import serializers as shapes

PLAN_EXAMPLE = {
    "key": "pro",
    "name": "Pro",
    "description": "For teams.",
    "version": 1,
    "group": "main",
    "rank": 20,
    "trial_days": 0,
    "prices": [
        {
            "key": "pro-monthly",
            "currency": "EUR",
            "unit_amount_minor": 2900,
            "interval": "month",
            "interval_count": 1,
            "model": "flat",
            "terms": None,
        }
    ],
    "metered_prices": [],
    "features": [
        {
            "feature": "api_calls",
            "type": "metered",
            "display": "1,000 API calls per month",
            "limit": 1000,
            "value": None,
            "resets": "month",
        }
    ],
}
FEATURE_EXAMPLE = {
    "key": "api_calls",
    "name": "API calls",
    "description": "",
    "type": "metered",
    "unit": "call",
}
SUBSCRIPTION_EXAMPLE = {
    "id": "01936d3c-7c00-7000-8000-0000000000b1",
    "plan": "pro",
    "version": 1,
    "price": "pro-monthly",
    "quantity": 1,
    "status": "active",
    "collection_paused": False,
    "created_at": "2026-11-01T00:00:00Z",
    "trial_ends_at": None,
    "ended_at": None,
}
TIMELINE_EXAMPLE = {
    "subscription": "01936d3c-7c00-7000-8000-0000000000b1",
    "at": "2026-11-01T00:00:00Z",
    "from": None,
    "to": "active",
    "event": "subscribed",
    "actor": "user 7",
    "reason": "",
}


def page(example: object) -> dict[str, object]:
    """Return an example of a page with one entry."""
    return {"results": [example], "next": None, "previous": None}


class PlansView(APIView):
    """Show the plans on offer."""

    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="listPlans",
        tag="catalog",
        summary="Plans on offer",
        description="Show every plan on offer with prices and display-ready features; signed in, "
        "also what the caller may do with each. Not paged: a catalog is short.",
        answers={200: shapes.PlanListSerializer},
        example=page(PLAN_EXAMPLE),
        parameters=(schema.CUSTOMER_PARAMETER,),
        refusals=(errors.UnknownField, *schema.CUSTOMER),
    )
    def get(self, request: Request) -> Response:
        """Show the plans on offer."""
        customer = _shown_customer(request)
        revision = selectors.get_catalog_revision()
        plans = _plans(revision=revision, customer=customer)
        body = {"results": list(plans.values()), "next": None, "previous": None}
        tag = responses.etag(
            "plans", revision, [plan.get("eligibility") for plan in plans.values()]
        )
        return responses.conditional(request, tag=tag, body=lambda: body)


class PlanView(APIView):
    """Show one plan on offer."""

    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="getPlan",
        tag="catalog",
        summary="One plan on offer",
        description="Show one plan on offer, by its key.",
        answers={200: shapes.PlanSerializer},
        example=PLAN_EXAMPLE,
        parameters=(schema.CUSTOMER_PARAMETER,),
        refusals=(errors.UnknownField, own_errors.PlanUnknown, *schema.CUSTOMER),
    )
    def get(self, request: Request, key: str) -> Response:
        """Show one plan on offer."""
        customer = _shown_customer(request)
        revision = selectors.get_catalog_revision()
        plans = _plans(revision=revision, customer=customer)
        if key not in plans:
            raise own_errors.PlanUnknown.named(key)
        tag = responses.etag("plan", revision, key, plans[key].get("eligibility"))
        return responses.conditional(request, tag=tag, body=lambda: plans[key])


def _shown_customer(request: Request) -> Customer | None:
    """Return the customer whose eligibility is shown; None for an anonymous caller."""
    asked = strict.read_query(shapes.CatalogQuery, request)
    identity = access.identity_of(request)
    if identity.user is None and asked.get("customer") is None:
        return None
    if identity.user is not None and not identity.memberships:
        return None
    return access.access_customer(request, scope="subscriptions:read", named=asked.get("customer"))


def _plans(*, revision: int, customer: Customer | None) -> dict[str, bodies.Body]:
    """Return the plans on offer by key, from the cache of this revision where it has them."""
    plans: dict[str, Any] = cache.remembered(
        f"catalog:plans:{revision}",
        build=lambda: bodies.catalog(selectors.list_offered_versions()),
    )
    if customer is None:
        return plans
    own_clock = clock.customer_clock(customer, clock=clock.process_clock())
    holdings = selectors.get_holdings(customer=customer, at=own_clock.now())
    return {key: bodies.with_eligibility(body, holdings) for key, body in plans.items()}


class FeaturesView(APIView):
    """Show the features."""

    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="listFeatures",
        tag="catalog",
        summary="Features",
        description="Show every feature that plans may grant. Not paged: a catalog is short.",
        answers={200: shapes.FeatureListSerializer},
        example=page(FEATURE_EXAMPLE),
        public=True,
    )
    def get(self, request: Request) -> Response:
        """Show the features."""
        revision = selectors.get_catalog_revision()
        body = cache.remembered(
            f"catalog:features:{revision}",
            build=lambda: {
                "results": [bodies.feature(row) for row in selectors.list_features()],
                "next": None,
                "previous": None,
            },
        )
        tag = responses.etag("features", revision)
        return responses.conditional(request, tag=tag, body=lambda: body)


class SubscriptionListView(APIView):
    """List a customer's subscriptions."""

    @schema.operation(
        operation_id="listSubscriptions",
        tag="subscriptions",
        summary="All subscriptions of a customer",
        description="List live and ended subscriptions, newest first.",
        answers={200: schema.page_of(shapes.SubscriptionSerializer)},
        example=page(SUBSCRIPTION_EXAMPLE),
        parameters=(schema.CUSTOMER_PARAMETER, *schema.PAGE_PARAMETERS),
        refusals=(errors.UnknownField, *schema.CUSTOMER),
    )
    def get(self, request: Request) -> Response:
        """List subscriptions."""
        rows = selectors.list_subscriptions(customer=_named_customer(request))
        pages = pagination.CursorPages()
        found = pages.paginate_queryset(rows, request, view=self) or []
        return pages.get_paginated_response([bodies.subscription(row) for row in found])


class TimelineView(APIView):
    """List what happened to a customer's subscriptions."""

    @schema.operation(
        operation_id="listTimeline",
        tag="subscriptions",
        summary="Timeline of a customer",
        description="List every transition of the customer's subscriptions, newest first.",
        answers={200: schema.page_of(shapes.TimelineEntrySerializer)},
        example=page(TIMELINE_EXAMPLE),
        parameters=(schema.CUSTOMER_PARAMETER, *schema.PAGE_PARAMETERS),
        refusals=(errors.UnknownField, *schema.CUSTOMER),
    )
    def get(self, request: Request) -> Response:
        """List the timeline."""
        rows = selectors.list_timeline(customer=_named_customer(request))
        pages = pagination.CursorPages()
        found = pages.paginate_queryset(rows, request, view=self) or []
        return pages.get_paginated_response([bodies.timeline_entry(row) for row in found])


def _named_customer(request: Request) -> Customer:
    asked = strict.read_query(shapes.PageQuery, request)
    return access.access_customer(request, scope="subscriptions:read", named=asked.get("customer"))
