"""Cancel, pause and resume: what a customer, an operator or a gateway does to a subscription.

Each action returns what `moves.run` (by id) or `moves.run_own` (for `me`, once under a key) does.
"""

from datetime import datetime, timedelta
from uuid import UUID

from core import clock as clocks
from core import errors
from subscriptions import errors as own_errors
from subscriptions import renewals
from subscriptions.models import Subscription
from subscriptions.services import moves, settling, timeline
from subscriptions.services.moves import Action, Locked
from subscriptions.services.timeline import Actor
from subscriptions.states import NOTHING, Given

PAUSE_MAX = TRIAL_MAX = timedelta(days=366)
TRIAL_EXTENDED = "trial_extended"


def cancelling_now(*, actor: Actor, event: str = "cancel_now") -> Action:
    """End the subscription at once; one that has ended stays as it is."""

    def act(locked: Locked, row: Subscription) -> None:
        if row.status not in Subscription.FINAL_STATUSES:
            moves.move_step(locked, row=row, event=event, actor=actor)

    return act


def cancelling_at_period_end(*, actor: Actor) -> Action:
    """Let the subscription end with its billing period, or with its trial."""

    def act(locked: Locked, row: Subscription) -> None:
        ends_at = renewals.billing_period(row, at=locked.at).ends_at
        given = Given(cancel_at=ends_at)
        moves.move_step(locked, row=row, event="schedule_cancel", actor=actor, given=given)

    return act


def undoing_cancel(*, actor: Actor) -> Action:
    """Take back a cancellation that has not come about; nothing else is restored."""
    return _moving("undo_cancel", actor=actor)


def pausing(*, actor: Actor, resume_at: datetime | None = None) -> Action:
    """Pause access from now on, until an instant where one is given; periods run on.

    :raises Invalid: for an end that is not ahead, or more than 366 days away.
    """

    def act(locked: Locked, row: Subscription) -> None:
        if resume_at is not None and not locked.at < resume_at <= locked.at + PAUSE_MAX:
            detail = f"A pause ends after now and within {PAUSE_MAX.days} days."
            raise errors.Invalid.at("/resume_at", code="out_of_range", detail=detail)
        given = Given(resume_at=resume_at)
        moves.move_step(locked, row=row, event="pause", actor=actor, given=given)

    return act


def resuming(*, actor: Actor, is_payment_secured: bool = False) -> Action:
    """Give access again, in the period that runs; it is renewed now where it began meanwhile."""
    return _moving("resume", actor=actor, given=Given(is_payment_secured=is_payment_secured))


def extending_trial(*, ends_at: datetime, actor: Actor) -> Action:
    """Let the trial last longer; what is scheduled for its end moves along.

    Asking for the end that it has changes nothing.

    :raises SubscriptionEnded, InvalidTransition: unless it is on trial.
    :raises Invalid: for an end before the present one, or more than 366 days away.
    """

    def act(locked: Locked, row: Subscription) -> None:
        former = _end_of_trial(row)
        if ends_at == former:
            return
        if not former < ends_at <= locked.at + TRIAL_MAX:
            detail = f"The trial ends {former}; a later end within {TRIAL_MAX.days} days is one."
            raise errors.Invalid.at("/ends_at", code="out_of_range", detail=detail)
        row.trial_ends_at = ends_at
        row.cancel_at = ends_at if row.cancel_at == former else row.cancel_at
        row.change_at = ends_at if row.change_at == former else row.change_at
        settling.save_step(row)
        timeline.record_step(
            row, before=row.status, event=TRIAL_EXTENDED, actor=actor, at=locked.at
        )
        timeline.changed_step(row, at=locked.at)

    return act


def _end_of_trial(row: Subscription) -> datetime:
    detail = f"A subscription that is {row.status} is on no trial."
    if row.status in Subscription.FINAL_STATUSES:
        raise own_errors.SubscriptionEnded(detail)
    if row.status != Subscription.Status.TRIALING or row.trial_ends_at is None:
        raise own_errors.InvalidTransition(detail)
    return row.trial_ends_at


def releasing_schedule(*, actor: Actor) -> Action:
    """Drop the scheduled change."""
    return _moving("release_schedule", actor=actor)


def _moving(event: str, *, actor: Actor, given: Given = NOTHING) -> Action:
    def act(locked: Locked, row: Subscription) -> None:
        moves.move_step(locked, row=row, event=event, actor=actor, given=given)

    return act


def cancel_now(*, subscription_id: UUID, actor: Actor, clock: clocks.Clock) -> Subscription:
    """End a subscription at once; one that has ended stays as it is.

    :raises NotFound: where there is no such subscription.
    """
    action = cancelling_now(actor=actor)
    return moves.run(subscription_id=subscription_id, action=action, clock=clock)


def cancel_at_period_end(
    *, subscription_id: UUID, actor: Actor, clock: clocks.Clock
) -> Subscription:
    """Let a subscription end with its billing period.

    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, InvalidTransition: where its state does not allow it.
    """
    action = cancelling_at_period_end(actor=actor)
    return moves.run(subscription_id=subscription_id, action=action, clock=clock)


def undo_cancel(*, subscription_id: UUID, actor: Actor, clock: clocks.Clock) -> Subscription:
    """Take back a scheduled cancellation.

    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, InvalidTransition: where its state does not allow it.
    """
    action = undoing_cancel(actor=actor)
    return moves.run(subscription_id=subscription_id, action=action, clock=clock)


def pause(
    *,
    subscription_id: UUID,
    actor: Actor,
    clock: clocks.Clock,
    resume_at: datetime | None = None,
) -> Subscription:
    """Pause a subscription.

    :raises Invalid: for an end that is not ahead, or too far.
    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, InvalidTransition: where its state does not allow it.
    """
    action = pausing(actor=actor, resume_at=resume_at)
    return moves.run(subscription_id=subscription_id, action=action, clock=clock)


def resume(
    *,
    subscription_id: UUID,
    actor: Actor,
    clock: clocks.Clock,
    is_payment_secured: bool = False,
) -> Subscription:
    """Resume a paused subscription; a payment secured by the caller counts as a method.

    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, InvalidTransition: where its state does not allow it.
    """
    action = resuming(actor=actor, is_payment_secured=is_payment_secured)
    return moves.run(subscription_id=subscription_id, action=action, clock=clock)


def extend_trial(
    *, subscription_id: UUID, ends_at: datetime, actor: Actor, clock: clocks.Clock
) -> Subscription:
    """Let a trial last until a later instant.

    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, InvalidTransition: unless it is on trial.
    :raises Invalid: for an end that is not ahead of the present one, or too far.
    """
    action = extending_trial(ends_at=ends_at, actor=actor)
    return moves.run(subscription_id=subscription_id, action=action, clock=clock)


def release_schedule(*, subscription_id: UUID, actor: Actor, clock: clocks.Clock) -> Subscription:
    """Drop a scheduled change.

    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, InvalidTransition: where its state does not allow it.
    """
    action = releasing_schedule(actor=actor)
    return moves.run(subscription_id=subscription_id, action=action, clock=clock)


def end_by_gateway(*, subscription_id: UUID, actor: Actor, clock: clocks.Clock) -> Subscription:
    """End a subscription that its gateway has deleted; repeating it changes nothing.

    :raises NotFound: where there is no such subscription.
    """
    action = cancelling_now(actor=actor, event="gateway_deleted")
    return moves.run(subscription_id=subscription_id, action=action, clock=clock)
