"""Publish facts: at once to the steps of other apps, and to the outbox with the commit."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from core import db
from core.clock import Clock
from core.models import Customer, OutboxDelivery, OutboxEvent


@dataclass(frozen=True, kw_only=True)
class Event:
    """A fact of the domain; its payload is JSON-ready."""

    event_type: str
    customer_id: UUID
    occurred_at: datetime
    payload: dict[str, object] = field(default_factory=dict)


Step = Callable[[Event], None]


class Lock(Protocol):
    """Take locks for a customer, and settle what the time alone has brought."""

    def __call__(self, *, customer: Customer, clock: Clock) -> None:
        """Do so in the caller's transaction, before he reads the time."""
        ...


@dataclass(frozen=True, kw_only=True)
class Subscriber:
    """An app above the publisher: what it does before the change and with it.

    `lock` takes its locks, before the operation reads the time, and settles what the time alone
    has brought: a change does not reach back. `step` follows the change.
    """

    lock: Lock
    step: Step


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """Who is told of events after their commit: at least once each, by the worker.

    `deliver` runs outside any transaction, may be slow, raises where it failed, and is safe to
    repeat for the same event id.
    """

    name: str
    event_types: frozenset[str]
    deliver: Callable[[OutboxEvent], None]


_subscribers: dict[str, list[Subscriber]] = {}
_consumers: dict[str, Consumer] = {}


def subscribe(*, event_type: str, subscriber: Subscriber) -> None:
    """Run the subscriber inside the publisher's transaction from now on; twice is once."""
    registered = _subscribers.setdefault(event_type, [])
    if subscriber not in registered:
        registered.append(subscriber)


def register_consumer(consumer: Consumer) -> None:
    """Deliver events of these types to the consumer from now on; a name stands once."""
    _consumers[consumer.name] = consumer


def forget_consumer(*, name: str) -> None:
    """Deliver nothing more to the consumer."""
    _consumers.pop(name, None)


def find_consumer(*, name: str) -> Consumer | None:
    """Return the consumer of the name; None where this process knows none."""
    return _consumers.get(name)


def lock_for(*, event_types: Iterable[str], customer: Customer, clock: Clock) -> None:
    """Take the locks of every step that these events may run, before the time is read.

    An operation calls it after its own locks and before it writes, with all events that it may
    publish. Each lock is taken once, in the order in which the subscribers of an event were
    registered.
    """
    db.transaction_required()
    locks = [subscriber.lock for name in event_types for subscriber in _subscribers.get(name, ())]
    for lock in dict.fromkeys(locks):
        lock(customer=customer, clock=clock)


def publish(event: Event) -> None:
    """Write the fact to the outbox and run its steps, all in the caller's transaction.

    The caller holds the customer's lock and called `lock_for` before it read the clock.

    :raises RuntimeError: outside a transaction.
    """
    publish_all([event])


def publish_all(events: Sequence[Event]) -> None:
    """Publish the facts in their order, as `publish` does; writing them takes one statement.

    :raises RuntimeError: outside a transaction.
    """
    db.transaction_required()
    stored = OutboxEvent.objects.bulk_create(
        OutboxEvent(
            event_type=event.event_type,
            customer_id=event.customer_id,
            payload=event.payload,
            occurred_at=event.occurred_at,
        )
        for event in events
    )
    told = [
        OutboxDelivery(event=row, consumer=each.name)
        for row in stored
        for each in _consumers.values()
        if row.event_type in each.event_types
    ]
    if told:
        OutboxDelivery.objects.bulk_create(told)
    for event in events:
        for subscriber in _subscribers.get(event.event_type, ()):
            subscriber.step(event)
