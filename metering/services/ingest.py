"""Count events exactly once: decide each, claim all, and answer for each."""

from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from django.db import OperationalError

from core import clock as clocks
from core import db
from core.errors import DomainError
from metering.services import arrivals, claims, feeding
from metering.services.arrivals import COUNTED, DUPLICATE, Batch, Event, Outcome
from metering.services.claims import Row

EVENTS_MAX = 10_000


@db.operation
def ingest(*, events: Sequence[Event | DomainError], clock: clocks.Clock) -> list[Outcome]:
    """Count at most 10,000 events, each once for ever, and say for each what became of it.

    What the edge could not read stands among them as its refusal.

    On return every event that is told counted or duplicate is committed. An event is refused
    where no meter counts its type, where its own time is not within the late horizon of its
    meters before its arrival and 300 s after it, or where a value is not of its kind; one that
    was counted before is a duplicate whatever it is now. Where this raises, some events may be
    counted: the same request again tells which.

    :raises LockTimeout: where another request holds an event uncommitted for too long.
    """
    if len(events) > EVENTS_MAX:
        msg = f"the edge bounds a batch to {EVENTS_MAX} events"
        raise AssertionError(msg)
    if not events:
        return []
    batch = Batch(
        received_at=clock.now(),
        readers=arrivals.list_readers(events=events),
        own_instants=arrivals.list_own_instants(events=events),
    )
    for position, event in enumerate(events):
        batch.take(event, position=position)
    claimed = _claim(batch.plain) | _one_by_one(
        batch.feeding,
        lambda customer_id: feeding.feed(
            customer_id=customer_id, rows=batch.feeding[customer_id], fed=batch.fed, clock=clock
        ),
    )
    outcomes = [
        COUNTED if position in claimed else batch.refused.get(position, DUPLICATE)
        for position in range(len(events))
    ]
    return _forgiven(events, outcomes)


def _claim(rows: Sequence[Row]) -> set[int]:
    """Claim all in one transaction; where one customer's twin is in the way, each by itself."""
    try:
        return _claim_together(rows)
    except OperationalError as error:
        if not (db.is_postgres() and db.is_lock_timeout(error)):
            raise
    own: dict[UUID, list[Row]] = {}
    for row in rows:
        own.setdefault(row.customer_id, []).append(row)
    return _one_by_one(own, lambda customer_id: _claim_together(own[customer_id]))


def _claim_together(rows: Sequence[Row]) -> set[int]:
    with db.transaction():
        return claims.claim_step(rows=rows)


def _one_by_one(customers: Iterable[UUID], claim: Callable[[UUID], set[int]]) -> set[int]:
    """Claim for each customer by itself: one that waits too long fails the answer, not others."""
    claimed: set[int] = set()
    stuck: OperationalError | None = None
    for customer_id in sorted(customers):
        try:
            claimed |= claim(customer_id)
        except OperationalError as error:
            if not db.is_lock_timeout(error):
                raise
            stuck = error
    if stuck is not None:
        raise stuck
    return claimed


def _forgiven(events: Sequence[Event | DomainError], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Tell duplicate of what would be refused now and was counted by an earlier request."""
    refused = {
        position: event.key
        for position, event in enumerate(events)
        if outcomes[position].refusal and isinstance(event, Event)
    }
    if not refused:
        return list(outcomes)
    counted = {
        event.key
        for event, outcome in zip(events, outcomes, strict=True)
        if isinstance(event, Event) and outcome is COUNTED
    }
    known = claims.find_claimed(keys=set(refused.values()) - counted)
    return [
        DUPLICATE if refused.get(position) in known else outcome
        for position, outcome in enumerate(outcomes)
    ]
