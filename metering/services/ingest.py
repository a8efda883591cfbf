"""Count events exactly once: decide each, claim all, and answer for each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from uuid import UUID

from django.db import OperationalError

from core import clock as clocks
from core import db, periods
from core import errors as core_errors
from core.errors import DomainError
from metering import errors, readings
from metering.models import Meter
from metering.readings import Reader, Reading
from metering.services import claims
from metering.services.claims import EventKey, Row

EVENTS_MAX = 10_000
FUTURE_SKEW_SECONDS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One event as its sender tells it; without its own time it is taken as of its arrival."""

    customer_id: UUID
    source: str
    event_id: str
    event_type: str
    occurred_at: datetime | None
    data: object

    @property
    def key(self) -> EventKey:
        """Return what identifies the event for ever."""
        return EventKey(self.customer_id, self.source, self.event_id)


class Result(StrEnum):
    """What became of an event."""

    COUNTED = "counted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one event, and why it was refused."""

    result: Result
    refusal: DomainError | None = None


COUNTED = Outcome(result=Result.COUNTED)
DUPLICATE = Outcome(result=Result.DUPLICATE)


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
    received_at = clock.now()
    readers = _readers(events)
    outcomes: list[Outcome] = [DUPLICATE] * len(events)
    fresh: set[EventKey] = set()
    rows: list[Row] = []
    for position, event in enumerate(events):
        if isinstance(event, DomainError):
            outcomes[position] = Outcome(result=Result.REFUSED, refusal=event)
            continue
        if event.key in fresh:
            continue
        try:
            found = _read(event, readers, received_at=received_at)
        except DomainError as refusal:
            outcomes[position] = Outcome(result=Result.REFUSED, refusal=refusal)
            continue
        fresh.add(event.key)
        rows += _rows(event, found, position=position, received_at=received_at)
    claimed = _claim(rows)
    for position in claimed:
        outcomes[position] = COUNTED
    return _forgiven(events, outcomes)


def _readers(events: Sequence[Event | DomainError]) -> dict[str, list[Reader]]:
    types = {event.event_type for event in events if isinstance(event, Event)}
    meters = Meter.objects.filter(event_type__in=types, archived_at__isnull=True).order_by("id")
    return readings.readers_by_type(meters)


def _read(
    event: Event, readers: Mapping[str, list[Reader]], *, received_at: datetime
) -> list[Reading]:
    """Return what the meters of the event's type read from it; nothing where no filter matches.

    :raises MeterUnknown, EventTooOld, EventInFuture, Invalid: where it is to be refused.
    """
    own = readers.get(event.event_type)
    if not own:
        raise errors.MeterUnknown.counting(event.event_type)
    _check_time(event, own, received_at=received_at)
    try:
        found = [reader.read(event.data) for reader in own]
    except readings.Unreadable as error:
        raise core_errors.Invalid.at("/data", code="invalid", detail=f"{error}.") from error
    return [reading for reading in found if reading is not None]


def _check_time(event: Event, readers: Sequence[Reader], *, received_at: datetime) -> None:
    if event.occurred_at is None:
        return
    horizon = min(reader.meter.late_horizon_seconds for reader in readers)
    if periods.is_accepted(
        event_at=event.occurred_at,
        received_at=received_at,
        late_horizon_seconds=horizon,
        future_skew_seconds=FUTURE_SKEW_SECONDS,
    ):
        return
    if event.occurred_at > received_at:
        detail = f"Its time lies more than {FUTURE_SKEW_SECONDS} s ahead of the engine's clock."
        raise errors.EventInFuture(detail)
    detail = f"Its time lies more than {horizon} s before its arrival."
    raise errors.EventTooOld(detail)


def _rows(
    event: Event, found: Sequence[Reading], *, position: int, received_at: datetime
) -> Iterator[Row]:
    """Yield the rows of an event: at least its item 0, which claims it."""
    for item, reading in enumerate(found or [readings.NOTHING]):
        yield Row(
            customer_id=event.customer_id,
            source=event.source,
            event_id=event.event_id,
            item=item,
            event_type=event.event_type,
            occurred_at=event.occurred_at or received_at,
            received_at=received_at,
            position=position,
            meter_id=reading.meter_id,
            value=reading.value,
            text=reading.text,
            groups=reading.groups,
        )


def _claim(rows: Sequence[Row]) -> set[int]:
    """Claim all in one transaction; where one customer's twin is in the way, each by itself."""
    try:
        with db.transaction():
            return claims.claim_step(rows=rows)
    except OperationalError as error:
        if not (db.is_postgres() and db.is_lock_timeout(error)):
            raise
    claimed: set[int] = set()
    stuck: OperationalError | None = None
    ordered = sorted(rows, key=lambda row: row.customer_id)
    for _, own in groupby(ordered, key=lambda row: row.customer_id):
        try:
            with db.transaction():
                claimed |= claims.claim_step(rows=list(own))
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
        if isinstance(event, Event) and outcomes[position].refusal
    }
    counted = {
        event.key
        for event, outcome in zip(events, outcomes, strict=True)
        if isinstance(event, Event) and outcome is COUNTED
    }
    known = claims.find_claimed(keys=set(refused.values()) - counted) if refused else set()
    return [
        DUPLICATE if refused.get(position) in known else outcome
        for position, outcome in enumerate(outcomes)
    ]
