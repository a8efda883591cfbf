"""Record usage after the fact, and take counted usage back."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, requests, schema
from core.api import serializers as strict
from metering import errors as own_errors
from metering.api import bodies
from metering.api import hold_serializers as inputs
from metering.api import serializers as shapes
from metering.api.views import CONSUMED_EXAMPLE, USAGE_EXAMPLE
from metering.services import recording, reversing
from subscriptions import errors as subscription_errors


class RecordView(APIView):
    """Record units."""

    @schema.operation(
        operation_id="recordUsage",
        tag="usage",
        summary="Record units after the fact",
        description="Count usage that has happened: it is never refused for a limit. What is left "
        "burns first, the rest is overage. For service keys.",
        request=shapes.UsageSerializer,
        request_example=USAGE_EXAMPLE,
        answers={200: shapes.ConsumedSerializer},
        example=CONSUMED_EXAMPLE,
        refusals=(
            own_errors.FeatureNotInPlan,
            own_errors.NoActiveSubscription,
            own_errors.PaymentRequired,
            own_errors.FeatureNotMetered,
            subscription_errors.FeatureUnknown,
            errors.PermissionDenied,
            *schema.CUSTOMER,
        ),
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Record units."""
        access.access_scope(request, scope="usage:write")
        given = strict.read(shapes.UsageSerializer, request)
        customer = access.access_customer(request, scope="usage:write", named=given.get("customer"))
        asked = shapes.usage_request(given, request, customer_id=customer.pk)
        done = recording.record(asked, clock=clock.process_clock())
        headers = {"Idempotent-Replayed": "true"} if done.replayed else None
        return Response(bodies.consumed(done.entries), headers=headers)


class GiveBackView(APIView):
    """Give allocated units back."""

    @schema.operation(
        operation_id="giveBackUsage",
        tag="usage",
        summary="Give allocated units back",
        description="Free units of an allocated feature, such as a seat that nobody takes any "
        "longer.",
        request=shapes.UsageSerializer,
        request_example={"feature": "seats", "units": 1},
        answers={200: shapes.ConsumedSerializer},
        example=CONSUMED_EXAMPLE | {"feature": "seats", "units": 1, "used": 4, "limit": 10},
        refusals=(
            own_errors.NotAllocated,
            own_errors.ExceedsUsage,
            own_errors.FeatureNotMetered,
            subscription_errors.FeatureUnknown,
            *schema.CUSTOMER,
        ),
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Give allocated units back."""
        given = strict.read(shapes.UsageSerializer, request)
        customer = access.access_customer(request, scope="usage:write", named=given.get("customer"))
        asked = shapes.usage_request(given, request, customer_id=customer.pk)
        done = reversing.give_back(asked, clock=clock.process_clock())
        headers = {"Idempotent-Replayed": "true"} if done.replayed else None
        return Response(bodies.consumed(done.entries), headers=headers)


class ReverseView(APIView):
    """Reverse a line of the ledger."""

    @schema.operation(
        operation_id="reverseUsageEntry",
        tag="usage",
        summary="Take counted usage back",
        description="Reverse a consumed, recorded or captured line, at most once: its units leave "
        "the period that counted them and go back where they came from. For service keys.",
        request=inputs.ReverseInput,
        request_example={"customer": "acme", "reason": "The job failed"},
        answers={200: shapes.ConsumedSerializer},
        example=CONSUMED_EXAMPLE | {"used": 998, "remaining": 2},
        refusals=(own_errors.EntryAlreadyReversed, errors.PermissionDenied, *schema.CUSTOMER),
        keyed=True,
    )
    def post(self, request: Request, entry_id: UUID) -> Response:
        """Reverse a line of the ledger."""
        access.access_scope(request, scope="usage:write")
        given = strict.read(inputs.ReverseInput, request)
        customer = access.access_customer(request, scope="usage:write", named=given.get("customer"))
        reversal = reversing.Reversal(
            customer_id=customer.pk,
            entry_id=entry_id,
            keyed=requests.keyed(request),
            reason=given["reason"],
            actor=access.actor(request, reason=given["reason"]),
        )
        done = reversing.reverse(reversal, clock=clock.process_clock())
        headers = {"Idempotent-Replayed": "true"} if done.replayed else None
        return Response(bodies.consumed(done.entries), headers=headers)
