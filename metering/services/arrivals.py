"""Sort the events of a request: what is refused, what is claimed, and what feeds usage."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from django.conf import settings

from core import errors as core_errors
from core import periods
from core.errors import DomainError
from core.models import Customer
from metering import errors, readings
from metering.models import Meter
from metering.readings import Feeds, Reader, Reading
from metering.services.claims import EventKey, Row
from metering.services.recording import Fed
from subscriptions import selectors as subscription_selectors
from subscriptions.facts import FeatureFacts

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Readers:
    """What reads the events of one type; an event may be as old as its strictest meter allows."""

    readers: Sequence[Reader]
    late_horizon_seconds: int

    @classmethod
    def of(cls, readers: Sequence[Reader]) -> "Readers":
        """Return the readers of at least one meter."""
        horizon = min(reader.meter.late_horizon_seconds for reader in readers)
        return cls(readers=readers, late_horizon_seconds=horizon)


@dataclass(kw_only=True)
class Batch:
    """The events of one request, sorted into refused, plain, and feeding by customer.

    What the edge could not read stands among them as its refusal. `own_instants` say what time
    it is for customers with a test clock.
    """

    received_at: datetime
    readers: Mapping[str, Readers]
    own_instants: Mapping[UUID, datetime]
    refused: dict[int, Outcome] = field(default_factory=dict)
    plain: list[Row] = field(default_factory=list)
    feeding: dict[UUID, list[Row]] = field(default_factory=dict)
    fed: dict[int, list[Fed]] = field(default_factory=dict)
    _keys: set[EventKey] = field(default_factory=set)

    def take(self, event: Event | DomainError, *, position: int) -> None:
        """Sort an event in; a key that is in already stays a duplicate."""
        if isinstance(event, DomainError):
            self.refused[position] = Outcome(result=Result.REFUSED, refusal=event)
            return
        key = event.key
        if key in self._keys:
            return
        received_at = self.own_instants.get(event.customer_id, self.received_at)
        try:
            found = _read(event, self.readers, received_at=received_at)
        except DomainError as refusal:
            self.refused[position] = Outcome(result=Result.REFUSED, refusal=refusal)
            return
        self._keys.add(key)
        rows = _rows(event, found, position=position, received_at=received_at)
        fed = _fed(found, usage_at=event.occurred_at or received_at)
        if fed:
            self.fed[position] = fed
            self.feeding.setdefault(event.customer_id, []).extend(rows)
        else:
            self.plain += rows


def _fed(found: Sequence[Reading], *, usage_at: datetime) -> list[Fed]:
    """Return the units that the readings feed, of one event."""
    fed = []
    for reading in found:
        units = 1 if reading.value is None else reading.value
        fed += [
            Fed(feature=each.feature, usage_at=usage_at, units=units * each.rate_units)
            for each in reading.feeds
            if units
        ]
    return fed


def list_own_instants(*, events: Sequence[Event | DomainError]) -> dict[UUID, datetime]:
    """Return what time it is for those of the events' customers who have a test clock."""
    if not settings.ENGINE.test_clocks_allowed:
        return {}
    customer_ids = {event.customer_id for event in events if isinstance(event, Event)}
    rows = Customer.objects.filter(pk__in=customer_ids, test_clock_at__isnull=False)
    return {row.pk: row.test_clock_at for row in rows if row.test_clock_at is not None}


def list_readers(*, events: Sequence[Event | DomainError]) -> dict[str, Readers]:
    """Return what reads the events, by their types."""
    types = {event.event_type for event in events if isinstance(event, Event)}
    meters = list(
        Meter.objects.filter(event_type__in=types, archived_at__isnull=True)
        .select_related("feature")
        .order_by("id")
    )
    keys = {meter.feature.key for meter in meters if meter.feature}
    features = subscription_selectors.find_features(keys=keys) if keys else {}
    pool_keys = {each.pool_key for each in features.values() if each.pool_key}
    pools = subscription_selectors.find_features(keys=pool_keys) if pool_keys else {}
    found: dict[str, list[Reader]] = {}
    for meter in meters:
        feeds = _feeds(features[meter.feature.key], pools) if meter.feature else ()
        found.setdefault(meter.event_type, []).append(Reader.of(meter, feeds=feeds))
    return {event_type: Readers.of(readers) for event_type, readers in found.items()}


def _feeds(feature: FeatureFacts, pools: Mapping[str, FeatureFacts]) -> tuple[Feeds, ...]:
    """Return the feature, and the pool from which it draws at its rate."""
    if not feature.pool_key:
        return (Feeds(feature=feature),)
    pool = Feeds(feature=pools[feature.pool_key], rate_units=feature.pool_rate_units)
    return Feeds(feature=feature), pool


def _read(event: Event, readers: Mapping[str, Readers], *, received_at: datetime) -> list[Reading]:
    """Return what the meters of the event's type read from it; nothing where no filter matches.

    :raises MeterUnknown, EventTooOld, EventInFuture, Invalid: where it is to be refused.
    """
    own = readers.get(event.event_type)
    if own is None:
        raise errors.MeterUnknown.counting(event.event_type)
    if event.occurred_at is not None:
        _check_time(event.occurred_at, own.late_horizon_seconds, received_at=received_at)
    try:
        found = [reader.read(event.data) for reader in own.readers]
    except readings.Unreadable as error:
        raise core_errors.Invalid.at("/data", code="invalid", detail=f"{error}.") from error
    return [reading for reading in found if reading is not None]


def _check_time(occurred_at: datetime, horizon: int, *, received_at: datetime) -> None:
    if periods.is_accepted(
        event_at=occurred_at,
        received_at=received_at,
        late_horizon_seconds=horizon,
        future_skew_seconds=FUTURE_SKEW_SECONDS,
    ):
        return
    if occurred_at > received_at:
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
