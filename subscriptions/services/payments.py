"""Take note of payments: what a success or a failure means for a subscription's state.

Steps stand in a caller's transaction, after `moves.lock_step`: billing composes them with what
it does to its invoice. The operations beside them are for callers without an invoice.
"""

from enum import StrEnum
from uuid import UUID

from core import clock as clocks
from subscriptions.models import Subscription
from subscriptions.services import lifecycle, moves, timeline
from subscriptions.services.moves import Locked
from subscriptions.services.timeline import Actor

Status = Subscription.Status
NOTED = frozenset(
    {
        "payment_failed",
        "payment_action_required",
        "retries_exhausted",
        "resume_payment_failed",
    }
)


class Outcome(StrEnum):
    """What a payment did."""

    APPLIED = "applied"
    LATE = "late"


def succeed_step(locked: Locked, *, row: Subscription, actor: Actor) -> Outcome:
    """Take note of a payment: activate, recover, or record it as late; never refuse it.

    A payment for what has ended, or whose slot another subscription took, changes no state: it
    stands in the timeline, and `subscription.payment_late` asks an operator to refund it.
    """
    is_final = row.status in Subscription.FINAL_STATUSES
    is_waiting = row.status == Status.INCOMPLETE
    if is_final or (is_waiting and not lifecycle.may_activate(locked, row=row)):
        timeline.record_step(
            row, before=row.status, event="payment_succeeded", actor=actor, at=locked.at
        )
        facts = {"status": row.status}
        timeline.publish_step(row, event_type=timeline.PAYMENT_LATE, at=locked.at, facts=facts)
        return Outcome.LATE
    if is_waiting:
        lifecycle.activate_step(locked, row=row, actor=actor)
    else:
        moves.move_step(locked, row=row, event="payment_succeeded", actor=actor)
    return Outcome.APPLIED


def fail_step(locked: Locked, *, row: Subscription, actor: Actor) -> None:
    """Take note of a failed payment: the first starts grace, a retry never extends it.

    :raises SubscriptionEnded, InvalidTransition: where the state awaits no payment.
    """
    moves.move_step(locked, row=row, event="payment_failed", actor=actor)


def convert_trial_step(locked: Locked, *, row: Subscription, actor: Actor) -> None:
    """End the trial now, since its first payment succeeded: periods count from here.

    The caller bills the period that opens; `subscription.renewed` is not published for it.

    :raises SubscriptionEnded, InvalidTransition: where it is not on trial.
    """
    moves.move_quietly_step(locked, row=row, event="trial_converted_early", actor=actor)


def succeed(*, subscription_id: UUID, actor: Actor, clock: clocks.Clock) -> Subscription:
    """Take note of a payment that no invoice stands for.

    :raises NotFound: where there is no such subscription.
    :raises InvalidTransition: where it is scheduled or paused, and awaits none.
    """

    def act(locked: Locked, row: Subscription) -> None:
        succeed_step(locked, row=row, actor=actor)

    return moves.run(subscription_id=subscription_id, action=act, clock=clock)


def note(*, subscription_id: UUID, event: str, actor: Actor, clock: clocks.Clock) -> Subscription:
    """Take note of what a gateway tells of a payment, by the name of its event.

    The events are those of `NOTED`.

    :raises ValueError: for any other.
    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, InvalidTransition: where its state does not know the event.
    """
    if event not in NOTED:
        msg = f"{event} is not told by a payment"
        raise ValueError(msg)

    def act(locked: Locked, row: Subscription) -> None:
        moves.move_step(locked, row=row, event=event, actor=actor)

    return moves.run(subscription_id=subscription_id, action=act, clock=clock)
