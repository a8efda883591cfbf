"""Hold units, and capture, release or extend what is held."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, requests, schema
from core.api import serializers as strict
from core.models import Customer
from metering import errors as own_errors
from metering.api import hold_bodies
from metering.api import hold_serializers as inputs
from metering.api import serializers as shapes
from metering.api.bodies import Body
from metering.api.views import DENIALS, USAGE_EXAMPLE
from metering.services import consumption, endings, holds
from subscriptions import errors as subscription_errors

HOLD_ID = "01936d3c-7c00-7000-8000-0000000000c1"
HOLD_EXAMPLE = {
    "id": HOLD_ID,
    "state": "live",
    "feature": "api_calls",
    "units": 2,
    "captured_units": 0,
    "expires_at": "2026-11-23T09:35:00Z",
    "usage_at": "2026-11-23T09:30:00Z",
    "used": 900,
    "held": 2,
    "limit": 1000,
    "remaining": 98,
}
ENDED = (own_errors.HoldExpired, own_errors.HoldAlreadyCaptured, own_errors.HoldAlreadyReleased)


class HoldsView(APIView):
    """Hold units."""

    @schema.operation(
        operation_id="createHold",
        tag="usage",
        summary="Hold units",
        description="Set units of one feature, or of several, aside: all or nothing. They count "
        "as used ones do until they are captured, released, or `ttl_seconds` are over: nothing "
        "has to run for that. A denial is recorded as consuming does.",
        request=inputs.HoldInput,
        request_example=USAGE_EXAMPLE | {"ttl_seconds": 300},
        answers={201: inputs.HoldSerializer},
        example=HOLD_EXAMPLE,
        refusals=(
            *DENIALS,
            own_errors.PaymentRequired,
            own_errors.FeatureNotMetered,
            subscription_errors.FeatureUnknown,
            *schema.CUSTOMER,
        ),
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Hold units."""
        given = strict.read(inputs.HoldInput, request)
        customer = access.access_customer(request, scope="usage:write", named=given.get("customer"))
        done = holds.create(
            shapes.usage_request(given, request, customer_id=customer.pk),
            ttl_seconds=given["ttl_seconds"],
            clock=clock.process_clock(),
        )
        return _answer(done, body=hold_bodies.held(done.entries), status=201)


class HoldView(APIView):
    """Show one hold."""

    @schema.operation(
        operation_id="getHold",
        tag="usage",
        summary="One hold",
        description="Show a hold as it stands now.",
        answers={200: inputs.HoldSerializer},
        example={key: HOLD_EXAMPLE[key] for key in tuple(HOLD_EXAMPLE)[:7]},
        parameters=(schema.CUSTOMER_PARAMETER,),
        refusals=(errors.UnknownField, *schema.CUSTOMER),
    )
    def get(self, request: Request, hold_id: UUID) -> Response:
        """Show one hold."""
        asked = strict.read_query(shapes.CustomerQuery, request)
        customer = access.access_customer(request, scope="usage:read", named=asked.get("customer"))
        found = endings.find_holds(customer_id=customer.pk, operation_id=hold_id)
        if not found:
            raise errors.NotFound("There is no such hold.")
        now = clock.customer_clock(customer, clock=clock.process_clock()).now()
        return Response(hold_bodies.hold(found, at=now))


class CaptureView(APIView):
    """Capture a hold."""

    @schema.operation(
        operation_id="captureHold",
        tag="usage",
        summary="Capture a hold",
        description="Count what was held as used: all of it, or fewer `units`, and the rest goes "
        "back. More than was held is counted only with `allow_exceed` and if it fits. The same "
        "capture again is answered alike.",
        request=inputs.CaptureInput,
        request_example={"units": 2},
        answers={200: inputs.HoldSerializer},
        example=HOLD_EXAMPLE | {"state": "captured", "captured_units": 2},
        refusals=(*ENDED, own_errors.ExceedsHold, *schema.CUSTOMER),
        keyed=True,
    )
    def post(self, request: Request, hold_id: UUID) -> Response:
        """Capture a hold."""
        given = strict.read(inputs.CaptureInput, request)
        ending = endings.Ending(
            customer_id=_customer(request, given).pk,
            hold_id=hold_id,
            keyed=requests.keyed(request),
            units=given.get("units"),
            may_exceed=given["allow_exceed"],
        )
        done = endings.capture(ending, clock=clock.process_clock())
        return _answer(done, body=hold_bodies.held(done.entries, done.holds))


class ReleaseView(APIView):
    """Release a hold."""

    @schema.operation(
        operation_id="releaseHold",
        tag="usage",
        summary="Release a hold",
        description="Give back what was held. Released before, or expired, it is answered alike.",
        request=inputs.ReleaseInput,
        request_example={},
        answers={200: inputs.HoldSerializer},
        example=HOLD_EXAMPLE | {"state": "released", "held": 0, "remaining": 100},
        refusals=(own_errors.HoldAlreadyCaptured, *schema.CUSTOMER),
        keyed=True,
    )
    def post(self, request: Request, hold_id: UUID) -> Response:
        """Release a hold."""
        given = strict.read(inputs.ReleaseInput, request)
        ending = endings.Ending(
            customer_id=_customer(request, given).pk,
            hold_id=hold_id,
            keyed=requests.keyed(request),
        )
        done = endings.release(ending, clock=clock.process_clock())
        return _answer(done, body=hold_bodies.held(done.entries, done.holds))


class ExtendView(APIView):
    """Extend a hold."""

    @schema.operation(
        operation_id="extendHold",
        tag="usage",
        summary="Extend a hold",
        description="Let a live hold expire `ttl_seconds` from now.",
        request=inputs.ExtendInput,
        request_example={"ttl_seconds": 600},
        answers={200: inputs.HoldSerializer},
        example=HOLD_EXAMPLE,
        refusals=(*ENDED, *schema.CUSTOMER),
        keyed=True,
    )
    def post(self, request: Request, hold_id: UUID) -> Response:
        """Extend a hold."""
        given = strict.read(inputs.ExtendInput, request)
        ending = endings.Ending(
            customer_id=_customer(request, given).pk,
            hold_id=hold_id,
            keyed=requests.keyed(request),
            ttl_seconds=given["ttl_seconds"],
        )
        done = endings.extend(ending, clock=clock.process_clock())
        return _answer(done, body=hold_bodies.held(done.entries, done.holds))


def _customer(request: Request, given: dict[str, object]) -> Customer:
    named = given.get("customer")
    return access.access_customer(
        request, scope="usage:write", named=str(named) if named is not None else None
    )


def _answer(
    done: consumption.Consumed | endings.Ended, *, body: Body, status: int = 200
) -> Response:
    headers = {"Idempotent-Replayed": "true"} if done.replayed else None
    return Response(body, status=status, headers=headers)
