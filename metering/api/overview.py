"""Show plan, limits, usage and entitlements of a customer."""

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, responses, schema
from core.api import serializers as strict
from metering import selectors
from metering.api import bodies, showing
from metering.api import explanation as explanations
from metering.api import serializers as shapes
from metering.services import explaining
from subscriptions import errors as subscription_errors
from subscriptions import selectors as subscription_selectors
from subscriptions import switches

OVERVIEW_EXAMPLE: dict[str, object] = {
    "plan": "Pro",
    "limits": {"api_calls": 1000},
    "usage": {"api_calls": 120},
    "plan_key": "pro",
    "status": "active",
    "subscription": "01936d3c-7c00-7000-8000-0000000000b1",
    "features": {"sso": True, "storage_gb": 100},
    "remaining": {"api_calls": 880},
    "held": {"api_calls": 0},
    "resets_at": {"api_calls": "2026-12-01T00:00:00Z"},
    "current_period": {"starts_at": "2026-11-01T00:00:00Z", "ends_at": "2026-12-01T00:00:00Z"},
    "trial_ends_at": None,
    "cancel_at": None,
    "collection_paused": False,
    "scheduled_change": None,
    "add_ons": [],
    "over_limit": [],
}
ENTITLEMENT_EXAMPLE = {
    "feature": "api_calls",
    "type": "metered",
    "enabled": True,
    "value": None,
    "limit": 1000,
    "mode": "hard",
    "resets_at": "2026-12-01T00:00:00Z",
    "sources": [{"kind": "plan", "key": "pro", "units": 1000}],
}
EXPLAIN_EXAMPLE = {
    "allowed": False,
    "code": "usage_limit_reached",
    "feature": "api_calls",
    "units": 1,
    "at": "2026-11-23T09:30:00Z",
    "rule": "used + held + units > limit",
    "plan": {"key": "pro", "version": 1, "status": "active"},
    "add_ons": [],
    "overrides": [],
    "grants": [],
    "holds": [],
    "balance": {"used": 1000, "held": 0, "limit": 1000, "remaining": 0},
    "steps": ["The subscription to pro (version 1) is active."],
}


class OwnSubscriptionView(APIView):
    """Show the customer's plan, limits and usage."""

    knows_callers = True

    @schema.operation(
        operation_id="getOwnSubscription",
        tag="subscriptions",
        summary="Plan, limits and usage",
        description="Show the plan in force with every metered feature's limit and usage. The "
        "ETag changes with every change of what is shown; send it as If-None-Match.",
        answers={200: shapes.OverviewSerializer},
        example=OVERVIEW_EXAMPLE,
        parameters=(schema.CUSTOMER_PARAMETER,),
        refusals=(errors.UnknownField, *schema.CUSTOMER),
    )
    def get(self, request: Request) -> Response:
        """Show plan, limits and usage."""
        asked = strict.read_query(shapes.CustomerQuery, request) if request.query_params else {}
        customer_id = access.access_customer_id(
            request, scope="subscriptions:read", named=asked.get("customer")
        )
        shown = showing.show(customer_id=customer_id, clock=clock.process_clock())
        return responses.conditional(request, tag=shown.tag, body=lambda: shown.body)


class EntitlementsView(APIView):
    """Show the whole map of entitlements."""

    @schema.operation(
        operation_id="listEntitlements",
        tag="entitlements",
        summary="All entitlements",
        description="Show what the customer may use, by feature key: limits, not counters.",
        answers={200: shapes.EntitlementMapSerializer},
        example={
            "entitlements": {"api_calls": ENTITLEMENT_EXAMPLE},
            "next_change_at": "2026-12-01T00:00:00Z",
        },
        parameters=(schema.CUSTOMER_PARAMETER,),
        refusals=(errors.UnknownField, *schema.CUSTOMER),
    )
    def get(self, request: Request) -> Response:
        """Show all entitlements."""
        asked = strict.read_query(shapes.CustomerQuery, request)
        customer = access.access_customer(
            request, scope="entitlements:read", named=asked.get("customer")
        )
        state = selectors.get_overview(customer=customer, clock=clock.process_clock())
        tag = responses.etag(
            str(customer.pk),
            customer.revision,
            bodies.instant(state.next_change_at),
            switches.fingerprint(),
        )
        return responses.conditional(request, tag=tag, body=lambda: bodies.entitlement_map(state))


class EntitlementView(APIView):
    """Show one entitlement."""

    @schema.operation(
        operation_id="getEntitlement",
        tag="entitlements",
        summary="One entitlement",
        description="Show what the customer may use of one feature.",
        answers={200: shapes.EntitlementSerializer},
        example=ENTITLEMENT_EXAMPLE,
        parameters=(schema.CUSTOMER_PARAMETER,),
        refusals=(errors.UnknownField, subscription_errors.FeatureUnknown, *schema.CUSTOMER),
    )
    def get(self, request: Request, feature: str) -> Response:
        """Show one entitlement."""
        asked = strict.read_query(shapes.CustomerQuery, request)
        customer = access.access_customer(
            request, scope="entitlements:read", named=asked.get("customer")
        )
        known = subscription_selectors.get_feature(key=feature)
        state = selectors.get_overview(customer=customer, clock=clock.process_clock())
        return Response(bodies.entitlement_of(state, feature=known))


class ExplainView(APIView):
    """Explain a decision."""

    @schema.operation(
        operation_id="explainEntitlement",
        tag="entitlements",
        summary="Why may, or may not, this be used?",
        description="Explain the decision on so many units, now or at another instant: plan, "
        "add-ons, overrides, grants, holds, balance, and the rule that decides. A later instant is "
        "told by what is known now; an earlier one, of any usage period, as it was then.",
        answers={200: shapes.ExplanationSerializer},
        example=EXPLAIN_EXAMPLE,
        parameters=(
            schema.CUSTOMER_PARAMETER,
            OpenApiParameter("units", int, description="1 … 10^12 (1)."),
            OpenApiParameter("at", str, description="RFC 3339 with offset (now)."),
            OpenApiParameter("entity", str, description="Member or entity, where counted so."),
            OpenApiParameter(
                "entry", str, description="Id of a ledger line: explain its decision instead."
            ),
        ),
        refusals=(
            errors.UnknownField,
            errors.NaiveDatetime,
            subscription_errors.FeatureUnknown,
            *schema.CUSTOMER,
        ),
    )
    def get(self, request: Request, feature: str) -> Response:
        """Explain a decision."""
        asked = strict.read_query(shapes.ExplainQuery, request)
        customer = access.access_customer(
            request, scope="entitlements:read", named=asked.get("customer")
        )
        known = subscription_selectors.get_feature(key=feature)
        if "entry" in asked:
            explained = explaining.explain_entry(customer=customer, entry_id=asked["entry"])
        else:
            question = shapes.question_of(asked, request, customer=customer, feature=known)
            explained = explaining.explain(question, clock=clock.process_clock())
        return Response(explanations.explanation(explained))
