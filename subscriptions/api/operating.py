"""Operate subscriptions by service keys. Operators have the admin."""

from typing import Any
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, requests, responses, schema
from core.api import serializers as strict
from core.api.serializers import StrictSerializer
from subscriptions import errors as own_errors
from subscriptions.api import bodies
from subscriptions.api import serializers as shapes
from subscriptions.api.views import SUBSCRIPTION_EXAMPLE
from subscriptions.services import actions, collection, lifecycle, moves
from subscriptions.services.moves import Action
from subscriptions.services.timeline import Actor

SERVICE = (errors.PermissionDenied, errors.InsufficientScope, errors.NotFound)
REFUSALS = (own_errors.InvalidTransition, own_errors.SubscriptionEnded, *SERVICE)


class MarkPaidView(APIView):
    """Confirm a first payment by hand."""

    @schema.operation(
        operation_id="markSubscriptionPaid",
        tag="subscriptions",
        summary="Mark a subscription as paid",
        description="Confirm the first payment of an incomplete subscription that is paid outside "
        "any gateway: access and periods start now.",
        request=shapes.SubscriptionReasonSerializer,
        request_example={"reason": "Bank transfer of 23 November"},
        answers={200: shapes.SubscriptionSerializer},
        example=SUBSCRIPTION_EXAMPLE,
        refusals=(own_errors.SubscriptionExists, *REFUSALS),
        keyed=True,
    )
    def post(self, request: Request, subscription_id: UUID) -> Response:
        """Mark a subscription as paid."""
        actor, _ = _asked(request, shapes.SubscriptionReasonSerializer)
        return _recorded(request, subscription_id, action=lifecycle.marking_paid(actor=actor))


class ExtendTrialView(APIView):
    """Let a trial last longer."""

    @schema.operation(
        operation_id="extendTrial",
        tag="subscriptions",
        summary="Extend a trial",
        description="Let a trial last until a later instant. A cancellation or a change that is "
        "scheduled for the trial's end moves along. Asking again for the same end changes nothing.",
        request=shapes.ExtendTrialSerializer,
        request_example={"ends_at": "2026-12-24T00:00:00Z", "reason": "Asked for more time"},
        answers={200: shapes.SubscriptionSerializer},
        example=SUBSCRIPTION_EXAMPLE
        | {"status": "trialing", "trial_ends_at": "2026-12-24T00:00:00Z"},
        refusals=(errors.NaiveDatetime, *REFUSALS),
        keyed=True,
    )
    def post(self, request: Request, subscription_id: UUID) -> Response:
        """Extend a trial."""
        actor, given = _asked(request, shapes.ExtendTrialSerializer)
        action = actions.extending_trial(ends_at=given["ends_at"], actor=actor)
        return _recorded(request, subscription_id, action=action)


class PauseCollectionView(APIView):
    """Keep what a subscription bills as drafts."""

    @schema.operation(
        operation_id="pauseCollection",
        tag="subscriptions",
        summary="Pause collection",
        description="Keep the invoices of a live subscription as drafts from now on: nothing is "
        "asked for, while access, renewals and revenue go on as they are. What is issued already "
        "stays due. One whose collection is paused stays as it is.",
        request=shapes.SubscriptionReasonSerializer,
        request_example={"reason": "Disputed; waiting for the lawyers"},
        answers={200: shapes.SubscriptionSerializer},
        example=SUBSCRIPTION_EXAMPLE | {"collection_paused": True},
        refusals=REFUSALS,
        keyed=True,
    )
    def post(self, request: Request, subscription_id: UUID) -> Response:
        """Keep what a subscription bills as drafts."""
        actor, _ = _asked(request, shapes.SubscriptionReasonSerializer)
        return _recorded(request, subscription_id, action=collection.pausing(actor=actor))


class ResumeCollectionView(APIView):
    """Let a subscription's drafts be issued."""

    @schema.operation(
        operation_id="resumeCollection",
        tag="subscriptions",
        summary="Resume collection",
        description="Let the invoices of a subscription be issued again, those that were kept as "
        "drafts too, shortly after; each is due as of its issue. The subscription may have ended "
        "meanwhile. One whose collection is not paused stays as it is.",
        request=shapes.SubscriptionReasonSerializer,
        request_example={"reason": "The dispute is settled"},
        answers={200: shapes.SubscriptionSerializer},
        example=SUBSCRIPTION_EXAMPLE,
        refusals=SERVICE,
        keyed=True,
    )
    def post(self, request: Request, subscription_id: UUID) -> Response:
        """Let a subscription's drafts be issued."""
        actor, _ = _asked(request, shapes.SubscriptionReasonSerializer)
        return _recorded(request, subscription_id, action=collection.resuming(actor=actor))


def _asked(request: Request, shape: type[StrictSerializer]) -> tuple[Actor, dict[str, Any]]:
    """Return who acts and why, and what is asked."""
    service_key = access.access_scope(request, scope="subscriptions:write")
    given = strict.read(shape, request)
    actor = Actor(
        name=f"service key {service_key.prefix}",
        reason=given["reason"],
        request_id=requests.request_id(request),
    )
    return actor, given


def _recorded(request: Request, subscription_id: UUID, *, action: Action) -> Response:
    """Do one thing to a subscription, once under the key."""
    answer = moves.run_once(
        subscription_id=subscription_id,
        action=action,
        keyed=requests.keyed(request),
        render=lambda row, _: bodies.subscription(row),
        clock=clock.process_clock(),
    )
    return responses.recorded(answer)
