"""Pause and resume the collection of what a subscription bills: an attribute, no state."""

from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core.services import customers
from subscriptions import errors as own_errors
from subscriptions.models import Subscription
from subscriptions.services import moves, timeline
from subscriptions.services.moves import Action, Locked
from subscriptions.services.timeline import Actor

PAUSED, RESUMED = "collection_paused", "collection_resumed"


def pausing(*, actor: Actor) -> Action:
    """Keep what it bills from now on as drafts; access, renewals and MRR go on as they are.

    One whose collection is paused already stays as it is. Source: Stripe's pause_collection with
    keep_as_draft.

    :raises SubscriptionEnded, InvalidTransition: unless it is live.
    """

    def act(locked: Locked, row: Subscription) -> None:
        detail = f"A subscription that is {row.status} has no collection to pause."
        if row.status in Subscription.FINAL_STATUSES:
            raise own_errors.SubscriptionEnded(detail)
        if row.status not in Subscription.SLOT_STATUSES:
            raise own_errors.InvalidTransition(detail)
        if row.collection_paused_at is None:
            _tell(locked, row, event=PAUSED, paused_at=locked.at, actor=actor)

    return act


def resuming(*, actor: Actor) -> Action:
    """Let its drafts be issued, those that were kept too; the worker finds them.

    It may have ended meanwhile. One whose collection is not paused stays as it is.
    """

    def act(locked: Locked, row: Subscription) -> None:
        if row.collection_paused_at is not None:
            _tell(locked, row, event=RESUMED, paused_at=None, actor=actor)

    return act


def _tell(
    locked: Locked, row: Subscription, *, event: str, paused_at: datetime | None, actor: Actor
) -> None:
    was, now = (
        None if each is None else clocks.rfc3339(each)
        for each in (row.collection_paused_at, paused_at)
    )
    row.collection_paused_at = paused_at
    row.save(update_fields=["collection_paused_at"])
    timeline.record_step(
        row,
        before=row.status,
        event=event,
        actor=actor,
        at=locked.at,
        beside={"collection_paused_at": (was, now)},
    )
    customers.revise_step(customer_id=row.customer_id, at=locked.at)


def pause(*, subscription_id: UUID, actor: Actor, clock: clocks.Clock) -> Subscription:
    """Keep what a subscription bills from now on as drafts.

    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, InvalidTransition: unless it is live.
    """
    action = pausing(actor=actor)
    return moves.run(subscription_id=subscription_id, action=action, clock=clock)


def resume(*, subscription_id: UUID, actor: Actor, clock: clocks.Clock) -> Subscription:
    """Let a subscription's drafts be issued again.

    :raises NotFound: where there is no such subscription.
    """
    action = resuming(actor=actor)
    return moves.run(subscription_id=subscription_id, action=action, clock=clock)
