"""Manage what one customer has beside his plan: grants and overrides."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, pagination, requests, responses, schema
from core.api import serializers as strict
from core.models import Customer
from metering import errors as own_errors
from metering.api import hold_bodies
from metering.api import hold_serializers as shapes
from metering.models import Grant
from metering.services import granting
from subscriptions import errors as subscription_errors
from subscriptions.api.serializers import PageQuery
from subscriptions.models import Override
from subscriptions.services import lifecycle, overriding

CUSTOMER = OpenApiParameter(
    "customer", str, OpenApiParameter.PATH, description="Id or external key."
)
MANAGED = (errors.NotFound, errors.PermissionDenied, errors.InsufficientScope)
GRANT_EXAMPLE = {
    "id": "01936d3c-7c00-7000-8000-0000000000d1",
    "feature": "api_calls",
    "units": 500,
    "remaining": 500,
    "priority": 100,
    "category": "paid",
    "effective_at": "2026-11-23T09:30:00Z",
    "expires_at": "2027-11-23T09:30:00Z",
    "rollover_min": 0,
    "rollover_max": None,
    "recurrence": None,
    "voided_at": None,
    "reason": "Top-up of 23 November",
}
OVERRIDE_EXAMPLE = {
    "id": "01936d3c-7c00-7000-8000-0000000000e1",
    "feature": "api_calls",
    "units": 500,
    "starts_at": "2026-11-23T09:30:00Z",
    "ends_at": "2026-12-23T09:30:00Z",
    "reason": "Trial of a larger plan",
}


class GrantsView(APIView):
    """Give a customer units, and list what he was given."""

    @schema.operation(
        operation_id="createGrant",
        tag="customers",
        summary="Grant units",
        description="Give units beside the allowance, from `effective_at` (now) to `expires_at` "
        "(never), or for `expires_after`: a month after 31 January is the last day of February. "
        "They burn by priority, then by expiry; at a reset what is left is kept within "
        "`rollover_min` and `rollover_max` (all of it). Overage that stands is covered first.",
        request=shapes.GrantInput,
        request_example={"feature": "api_calls", "units": 500, "reason": "Top-up"},
        answers={201: shapes.GrantSerializer},
        example=GRANT_EXAMPLE,
        parameters=(CUSTOMER,),
        refusals=(
            own_errors.FeatureNotMetered,
            subscription_errors.FeatureUnknown,
            errors.NaiveDatetime,
            *MANAGED,
        ),
        keyed=True,
    )
    def post(self, request: Request, customer: str) -> Response:
        """Grant units."""
        owner = managed(request, customer, permission="metering.add_grant")
        given = strict.read(shapes.GrantInput, request)
        answer = granting.create(
            customer_id=owner.pk,
            order=shapes.grant_order(given),
            actor=_actor(request, given),
            keyed=requests.keyed(request),
            render=hold_bodies.grant,
            clock=clock.process_clock(),
        )
        return responses.recorded(answer)

    @schema.operation(
        operation_id="listGrants",
        tag="customers",
        summary="List grants",
        description="List all that the customer was granted, newest first. `remaining` is as of "
        "the last operation on the balance.",
        answers={200: schema.page_of(shapes.GrantSerializer)},
        example={"results": [GRANT_EXAMPLE], "next": None, "previous": None},
        parameters=(CUSTOMER, *schema.PAGE_PARAMETERS),
        refusals=(errors.UnknownField, errors.Invalid, *MANAGED),
    )
    def get(self, request: Request, customer: str) -> Response:
        """List grants."""
        owner = managed(request, customer, permission="metering.view_grant", scope="read")
        strict.read_query(PageQuery, request)
        pages = pagination.CursorPages()
        rows = Grant.objects.filter(customer=owner).select_related("feature")
        page = pages.paginate_queryset(rows, request, view=self) or []
        return pages.get_paginated_response([hold_bodies.grant(each) for each in page])


class VoidGrantView(APIView):
    """Void a grant."""

    @schema.operation(
        operation_id="voidGrant",
        tag="customers",
        summary="Void a grant",
        description="End a grant now: what it gave stays used, what is left of it is gone.",
        request=shapes.ReverseInput,
        request_example={"reason": "Refunded"},
        answers={200: shapes.GrantSerializer},
        example=GRANT_EXAMPLE | {"voided_at": "2026-11-24T10:00:00Z"},
        parameters=(CUSTOMER,),
        refusals=MANAGED,
        keyed=True,
    )
    def post(self, request: Request, customer: str, grant_id: UUID) -> Response:
        """Void a grant."""
        owner = managed(request, customer, permission="metering.change_grant")
        given = strict.read(shapes.ReverseInput, request)
        answer = granting.void(
            customer_id=owner.pk,
            grant_id=grant_id,
            actor=_actor(request, given),
            keyed=requests.keyed(request),
            render=hold_bodies.grant,
            clock=clock.process_clock(),
        )
        return responses.recorded(answer)


class OverridesView(APIView):
    """Override a customer's entitlement, and list what overrides it."""

    @schema.operation(
        operation_id="createOverride",
        tag="customers",
        summary="Override an entitlement",
        description="Give the customer something of a feature beside his plan on `[starts_at, "
        "ends_at)`: units added or unlimited, a value, or a switch turned on.",
        request=shapes.OverrideInput,
        request_example={"feature": "api_calls", "units": 500, "reason": "Trial"},
        answers={201: shapes.OverrideSerializer},
        example=OVERRIDE_EXAMPLE,
        parameters=(CUSTOMER,),
        refusals=(subscription_errors.FeatureUnknown, errors.NaiveDatetime, *MANAGED),
        keyed=True,
    )
    def post(self, request: Request, customer: str) -> Response:
        """Override an entitlement."""
        owner = managed(request, customer, permission="subscriptions.add_override")
        given = strict.read(shapes.OverrideInput, request)
        answer = overriding.create(
            customer_id=owner.pk,
            order=shapes.override_order(given),
            actor=_actor(request, given),
            keyed=requests.keyed(request),
            render=hold_bodies.override,
            clock=clock.process_clock(),
        )
        return responses.recorded(answer)

    @schema.operation(
        operation_id="listOverrides",
        tag="customers",
        summary="List overrides",
        description="List all overrides of the customer, newest first, ended ones included.",
        answers={200: schema.page_of(shapes.OverrideSerializer)},
        example={"results": [OVERRIDE_EXAMPLE], "next": None, "previous": None},
        parameters=(CUSTOMER, *schema.PAGE_PARAMETERS),
        refusals=(errors.UnknownField, errors.Invalid, *MANAGED),
    )
    def get(self, request: Request, customer: str) -> Response:
        """List overrides."""
        owner = managed(request, customer, permission="subscriptions.view_override", scope="read")
        strict.read_query(PageQuery, request)
        pages = pagination.CursorPages()
        rows = Override.objects.filter(customer=owner).select_related("feature")
        page = pages.paginate_queryset(rows, request, view=self) or []
        return pages.get_paginated_response([hold_bodies.override(each) for each in page])


class EndOverrideView(APIView):
    """End an override."""

    @schema.operation(
        operation_id="endOverride",
        tag="customers",
        summary="End an override",
        description="End an override now; one that has ended stays as it is.",
        request=shapes.ReverseInput,
        request_example={"reason": "The trial is over"},
        answers={200: shapes.OverrideSerializer},
        example=OVERRIDE_EXAMPLE,
        parameters=(CUSTOMER,),
        refusals=(own_errors.AllocatedUsageExceedsLimit, *MANAGED),
        keyed=True,
    )
    def post(self, request: Request, customer: str, override_id: UUID) -> Response:
        """End an override."""
        owner = managed(request, customer, permission="subscriptions.change_override")
        given = strict.read(shapes.ReverseInput, request)
        answer = overriding.end(
            customer_id=owner.pk,
            override_id=override_id,
            actor=_actor(request, given),
            keyed=requests.keyed(request),
            render=hold_bodies.override,
            clock=clock.process_clock(),
        )
        return responses.recorded(answer)


def managed(request: Request, named: str, *, permission: str, scope: str = "write") -> Customer:
    """Return the named customer to a service key with the scope or to permitted staff."""
    return access.access_managed_customer(
        request, scope=f"customers:{scope}", permission=permission, named=named
    )


def _actor(request: Request, given: Mapping[str, Any]) -> lifecycle.Actor:
    return lifecycle.Actor(
        name=access.actor_name(request),
        reason=given["reason"],
        request_id=requests.request_id(request),
    )
