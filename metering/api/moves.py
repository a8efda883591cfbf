"""Let a customer cancel, undo, pause and resume his subscription; each answers his new state."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, requests, responses, schema
from core.api import serializers as strict
from metering.api import bodies
from metering.api import serializers as shapes
from metering.api.overview import OVERVIEW_EXAMPLE
from subscriptions import errors as subscription_errors
from subscriptions.services import actions, moves
from subscriptions.services.moves import Action
from subscriptions.services.timeline import Actor

REFUSALS = (
    subscription_errors.InvalidTransition,
    subscription_errors.SubscriptionEnded,
    errors.PermissionDenied,
    *schema.CUSTOMER,
)
REASON_EXAMPLE = {"reason": "Too many meetings"}


def answered(
    request: Request, *, given: dict[str, Any], acting: Callable[[Actor], Action]
) -> Response:
    """Do one thing to the caller's own subscription, once under the key; answer his new state."""
    customer = access.access_customer(
        request,
        scope="subscriptions:write",
        named=given.get("customer"),
        roles=access.PAYING_ROLES,
    )
    actor = access.actor(request, reason=given.get("reason", ""))
    answer = moves.run_own(
        customer_id=customer.pk,
        action=acting(actor),
        keyed=requests.keyed(request),
        render=bodies.overview_at,
        clock=clock.process_clock(),
    )
    return responses.recorded(answer)


class CancelView(APIView):
    """Cancel the subscription."""

    @schema.operation(
        operation_id="cancelSubscription",
        tag="subscriptions",
        summary="Cancel",
        description="Cancel at the end of the billing period or trial (the default), which can be "
        "undone until then, or now. What waits for its first payment can be canceled now alone; "
        "canceling now what has ended changes nothing.",
        request=shapes.CancelSerializer,
        request_example={"when": "period_end", "reason": "Too expensive"},
        answers={200: shapes.OverviewSerializer},
        example=OVERVIEW_EXAMPLE | {"cancel_at": "2026-12-01T00:00:00Z"},
        refusals=REFUSALS,
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Cancel the subscription."""
        given = strict.read(shapes.CancelSerializer, request)
        if given["when"] == "now":
            return answered(
                request, given=given, acting=lambda by: actions.cancelling_now(actor=by)
            )
        return answered(
            request, given=given, acting=lambda by: actions.cancelling_at_period_end(actor=by)
        )


class UndoCancelView(APIView):
    """Take a cancellation back."""

    @schema.operation(
        operation_id="undoCancelSubscription",
        tag="subscriptions",
        summary="Undo a cancellation",
        description="Take back a cancellation before its instant has come; nothing else is "
        "restored.",
        request=shapes.MoveSerializer,
        request_example=REASON_EXAMPLE,
        answers={200: shapes.OverviewSerializer},
        example=OVERVIEW_EXAMPLE,
        refusals=REFUSALS,
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Take a cancellation back."""
        given = strict.read(shapes.MoveSerializer, request)
        return answered(request, given=given, acting=lambda by: actions.undoing_cancel(actor=by))


class PauseView(APIView):
    """Pause the subscription."""

    @schema.operation(
        operation_id="pauseSubscription",
        tag="subscriptions",
        summary="Pause",
        description="Pause an active subscription: no access until it resumes, by itself at "
        "`resume_at` (at most 366 days ahead) where that is given. Periods and usage run on.",
        request=shapes.PauseSerializer,
        request_example={"resume_at": "2027-01-04T08:00:00Z", "reason": "Parental leave"},
        answers={200: shapes.OverviewSerializer},
        example=OVERVIEW_EXAMPLE | {"status": "paused"},
        refusals=(*REFUSALS, errors.NaiveDatetime),
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Pause the subscription."""
        given = strict.read(shapes.PauseSerializer, request)
        resume_at: datetime | None = given.get("resume_at")
        return answered(
            request,
            given=given,
            acting=lambda by: actions.pausing(actor=by, resume_at=resume_at),
        )


class ResumeView(APIView):
    """Resume the subscription."""

    @schema.operation(
        operation_id="resumeSubscription",
        tag="subscriptions",
        summary="Resume",
        description="Resume a paused subscription in the period that runs; a billing period that "
        "began during the pause is billed now.",
        request=shapes.MoveSerializer,
        request_example=REASON_EXAMPLE,
        answers={200: shapes.OverviewSerializer},
        example=OVERVIEW_EXAMPLE,
        refusals=REFUSALS,
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Resume the subscription."""
        given = strict.read(shapes.MoveSerializer, request)
        return answered(request, given=given, acting=lambda by: actions.resuming(actor=by))
