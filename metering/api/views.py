"""Answer on usage: check, consume, and the ledger."""

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, pagination, schema
from core.api import serializers as strict
from metering import errors as own_errors
from metering import selectors
from metering.api import bodies
from metering.api import serializers as shapes
from metering.services import checking, consumption
from subscriptions import errors as subscription_errors

DENIALS = tuple(own_errors.DENIALS.values())
USAGE_EXAMPLE = {"feature": "api_calls", "units": 2}
PERIOD_EXAMPLE = {"starts_at": "2026-11-01T00:00:00Z", "ends_at": "2026-12-01T00:00:00Z"}
ENTRY_ID = "01936d3c-7c00-7000-8000-0000000000a1"
CONSUMED_EXAMPLE = {
    "id": ENTRY_ID,
    "feature": "api_calls",
    "units": 2,
    "used": 1000,
    "held": 0,
    "limit": 1000,
    "remaining": 0,
    "period": PERIOD_EXAMPLE,
    "consumed_at": "2026-11-23T09:30:00Z",
    "metadata": {},
}
CHECKED_EXAMPLE = {
    "feature": "api_calls",
    "allowed": True,
    "requested": 2,
    "used": 998,
    "held": 0,
    "limit": 1000,
    "remaining": 2,
    "resets_at": "2026-12-01T00:00:00Z",
}
ENTRIES_EXAMPLE = {
    "results": [
        {
            "id": ENTRY_ID,
            "kind": "consume",
            "feature": "api_calls",
            "units": 2,
            "consumed_at": "2026-11-23T09:30:00Z",
            "period": PERIOD_EXAMPLE,
            "reverses": None,
            "metadata": {},
        }
    ],
    "next": None,
    "previous": None,
}


class ConsumeView(APIView):
    """Consume units; the path that is asked most, so it asks the least."""

    knows_callers = True

    @schema.operation(
        operation_id="consumeUsage",
        tag="usage",
        summary="Consume units",
        description="Count units of one feature, or of several: all or nothing. On 200 they are "
        "committed, and `used + held ≤ limit` held under the lock. A denial is recorded and "
        "replayed under its key; a new attempt needs a new key.",
        request=shapes.UsageSerializer,
        request_example=USAGE_EXAMPLE,
        answers={200: shapes.ConsumedSerializer},
        example=CONSUMED_EXAMPLE,
        refusals=(
            *DENIALS,
            own_errors.PaymentRequired,
            own_errors.FeatureNotMetered,
            subscription_errors.FeatureUnknown,
            subscription_errors.FeatureSuspended,
            *schema.CUSTOMER,
        ),
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Consume units."""
        given = shapes.read_usage(request)
        customer_id = access.access_customer_id(
            request, scope="usage:write", named=given.get("customer")
        )
        asked = shapes.usage_request(given, request, customer_id=customer_id)
        done = consumption.consume(asked, clock=clock.process_clock())
        headers = {"Idempotent-Replayed": "true"} if done.replayed else None
        return Response(bodies.consumed(done.entries), headers=headers)


class CheckView(APIView):
    """Check units."""

    @schema.operation(
        operation_id="checkUsage",
        tag="usage",
        summary="May these units be used now?",
        description="Answer as consuming would decide now, and change nothing. A hint: only "
        "consuming decides, under the lock.",
        request=shapes.UsageSerializer,
        request_example=USAGE_EXAMPLE,
        answers={200: shapes.CheckedSerializer},
        example=CHECKED_EXAMPLE,
        refusals=(
            own_errors.FeatureNotMetered,
            subscription_errors.FeatureUnknown,
            subscription_errors.FeatureSuspended,
            *schema.CUSTOMER,
        ),
    )
    def post(self, request: Request) -> Response:
        """Check units."""
        given = strict.read(shapes.UsageSerializer, request)
        customer = access.access_customer(request, scope="usage:read", named=given.get("customer"))
        answers = checking.check(
            customer=customer,
            wanted=shapes.wanted_of(given),
            used_by=shapes.used_by(given, request),
            clock=clock.process_clock(),
        )
        return Response(bodies.checked(answers))


class EntriesView(APIView):
    """List the ledger."""

    @schema.operation(
        operation_id="listUsageEntries",
        tag="usage",
        summary="List the usage ledger",
        description="List what was counted and what was denied, newest first.",
        answers={200: schema.page_of(shapes.EntrySerializer)},
        example=ENTRIES_EXAMPLE,
        parameters=(
            schema.CUSTOMER_PARAMETER,
            OpenApiParameter("feature", str, description="Key of one feature."),
            *schema.PAGE_PARAMETERS,
        ),
        refusals=(errors.UnknownField, subscription_errors.FeatureUnknown, *schema.CUSTOMER),
    )
    def get(self, request: Request) -> Response:
        """List the ledger."""
        asked = strict.read_query(shapes.EntriesQuery, request)
        customer = access.access_customer(request, scope="usage:read", named=asked.get("customer"))
        entries = selectors.list_entries(customer=customer, feature_key=asked.get("feature"))
        pages = pagination.CursorPages()
        page = pages.paginate_queryset(entries, request, view=self) or []
        return pages.get_paginated_response([bodies.entry(each) for each in page])
