"""Move a subscription: lock, settle, act from the table, tell. Every operation is made of this."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings

from core import clock as clocks
from core import db, errors, events
from core import locks as core_locks
from core.models import Customer
from core.periods import Period
from core.services import idempotency
from core.services.idempotency import KeyedRequest, Recorded
from subscriptions import locks, renewals, selectors, states, transitions
from subscriptions.models import Subscription
from subscriptions.services import settling, timeline
from subscriptions.services.timeline import Actor
from subscriptions.states import NOTHING, Given

OK = 200
Render = Callable[[Subscription, datetime], Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Locked:
    """A customer with his subscriptions that are not final, locked and settled at an instant."""

    customer: Customer
    rows: list[Subscription]
    at: datetime

    def get(self, subscription_id: UUID) -> Subscription:
        """Return one of the customer's subscriptions, a final one included.

        :raises NotFound: where it is not his.
        """
        for row in self.rows:
            if row.pk == subscription_id:
                return row
        final = Subscription.objects.filter(customer=self.customer, pk=subscription_id).first()
        if final is None:
            raise errors.NotFound("There is no such subscription.")
        return final

    def own(self) -> Subscription:
        """Return the one that `me` means: of the primary group, live before waiting before final.

        :raises NotFound: where the customer never had one.
        """
        group_key = settings.ENGINE.primary_plan_group_key
        rows = [row for row in self.rows if row.plan_group.key == group_key]
        open_rows = [row for row in rows if row.status not in Subscription.FINAL_STATUSES]
        live = [row for row in open_rows if row.status in Subscription.SLOT_STATUSES]
        if live or open_rows:
            return (live or open_rows)[-1]
        ended = Subscription.objects.filter(customer=self.customer, plan_group__key=group_key)
        last = ended.order_by("-ended_at", "-id").first()
        if last is None:
            raise errors.NotFound("The customer has no subscription.")
        return last


Action = Callable[[Locked, Subscription], None]


def lock_step(*, customer_id: UUID, clock: clocks.Clock) -> Locked:
    """Take every lock of a move and of all that its facts may run, then read the time, settle.

    First thing in the caller's transaction, once. The instant is the customer's own where he
    has a test clock, and never before the last operation that revised him.

    :raises NotFound: where there is no such customer.
    """
    try:
        customer = core_locks.lock_customer(customer_id=customer_id)
    except Customer.DoesNotExist as error:
        raise errors.NotFound("There is no such customer.") from error
    return settle_rows_step(customer=customer, clock=clock)


def settle_rows_step(*, customer: Customer, clock: clocks.Clock) -> Locked:
    """Do what `lock_step` does once the customer is locked."""
    locked = lock_rows_step(customer=customer, clock=clock)
    settled = settling.settle_step(rows=locked.rows, at=locked.at)
    settling.tell_step(settled, at=locked.at)
    if settled:
        locked.customer.revised_at = locked.at
    return locked


def lock_rows_step(
    *,
    customer: Customer,
    clock: clocks.Clock,
    event_types: Sequence[str] = timeline.EVENT_TYPES,
) -> Locked:
    """Take the locks that follow a customer's, then read the time; settling is the caller's.

    Without events that he may publish, he moves no subscription.
    """
    rows = locks.lock_subscriptions(customer_id=customer.pk)
    selectors.give_prices(rows)
    events.lock_for(event_types=event_types, customer=customer, clock=clock)
    return Locked(customer=customer, rows=rows, at=clocks.instant_of(customer, clock=clock))


def move_step(
    locked: Locked, *, row: Subscription, event: str, actor: Actor, given: Given = NOTHING
) -> None:
    """Apply the event, store the row, write its timeline and publish what follows from it.

    A billing period that begins with it is renewed. The caller took `lock_step`.

    :raises SubscriptionEnded, InvalidTransition: where the state does not allow the event.
    """
    opened = move_quietly_step(locked, row=row, event=event, actor=actor, given=given)
    if opened is not None:
        timeline.renewed_step(row, period=opened, at=locked.at)


def move_quietly_step(
    locked: Locked, *, row: Subscription, event: str, actor: Actor, given: Given = NOTHING
) -> Period | None:
    """Do what `move_step` does, and return the billing period that opens instead of telling it.

    For a caller who bills it himself.
    """
    former = states.state_of(row)
    transitions.take(row, event=event, at=locked.at, given=given)
    opened = renewals.open_period(row, at=locked.at) if former.status != row.status else None
    if states.state_of(row) != former:
        settling.save_step(row)
    timeline.record_step(row, before=former.status, event=event, actor=actor, at=locked.at)
    settling.tell_of_step(row, former=former, at=locked.at)
    return opened


@db.operation
def run(*, subscription_id: UUID, action: Action, clock: clocks.Clock) -> Subscription:
    """Do one thing to one subscription, in a transaction of its own.

    A refusal leaves everything as it was, what the clock brought about included.

    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, InvalidTransition: where its state does not allow it.
    """
    customer_id = customer_of(subscription_id)
    with db.transaction():
        locked = lock_step(customer_id=customer_id, clock=clock)
        row = locked.get(subscription_id)
        action(locked, row)
        return row


def run_once(
    *,
    subscription_id: UUID,
    action: Action,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Do what `run` does, once under the key; record the answer.

    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, InvalidTransition: where its state does not allow it.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    return _once(
        customer_id=customer_of(subscription_id),
        find=lambda locked: locked.get(subscription_id),
        action=action,
        keyed=keyed,
        render=render,
        clock=clock,
    )


def run_own(
    *,
    customer_id: UUID,
    action: Action,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Do one thing to the subscription that `me` means, once under the key; record the answer.

    :raises NotFound: where the customer never had one.
    :raises SubscriptionEnded, InvalidTransition: where its state does not allow it.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    return _once(
        customer_id=customer_id,
        find=Locked.own,
        action=action,
        keyed=keyed,
        render=render,
        clock=clock,
    )


def _once(
    *,
    customer_id: UUID,
    find: Callable[[Locked], Subscription],
    action: Action,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    @db.operation
    def once() -> Recorded:
        with db.transaction():
            locked = lock_step(customer_id=customer_id, clock=clock)
            row = find(locked)
            action(locked, row)
            return idempotency.claim_step(
                customer_id=customer_id,
                keyed=keyed,
                status=OK,
                body=render(row, locked.at),
                at=locked.at,
            )

    return idempotency.once(customer_id=customer_id, keyed=keyed, run=once)


def customer_of(subscription_id: UUID) -> UUID:
    """Return whose subscription it is, without a lock: it never changes.

    :raises NotFound: where there is no such subscription.
    """
    row = Subscription.objects.filter(pk=subscription_id).only("customer_id").first()
    if row is None:
        raise errors.NotFound("There is no such subscription.")
    return row.customer_id
