"""Answer which slots of a type may be booked, what each costs, and why one may not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from core import clock as clocks
from core import errors
from core.models import Customer
from resources import opening, selectors
from resources.opening import Span
from resources.services import headroom
from resources.services.headroom import Headroom
from resources.timetable import Place, Timetable, Want

DAYS_MAX = 31
SLOTS_MAX = 20_000
ALTERNATIVES_MAX = 5


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which slots are asked for: local days of a venue, and a duration in minutes (or the least).

    `days` is 1 … 31.
    """

    type_key: str
    first_day: date
    days: int = 1
    minutes: int | None = None
    quantity: int = 1
    venue_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One start of one resource: its cost, and the code of what refuses it, empty where free."""

    place: Place
    span: Span
    units: int
    code: str


@dataclass(frozen=True, kw_only=True)
class Availability:
    """The slots in order of time, and what the customer has left of the feature now."""

    time_zone: str
    slots: Sequence[Slot]
    remaining_units: int | None


def find(*, customer: Customer, query: Query, clock: clocks.Clock) -> Availability:
    """Return every slot of the days within opening hours, in a constant number of statements.

    A slot without a code would be granted if it were booked at this instant: the same functions
    decide there, under the locks.

    :raises NotFound: where nothing of the type is on offer.
    :raises Invalid: where the type stands in several venues and none is named, or where the
        answer would have more than 20,000 slots.
    """
    places = _list_places(query)
    first = next(iter(places.values()))
    span = opening.day_span(day=query.first_day, days=query.days, time_zone=first.time_zone)
    scene = selectors.get_scene(customer=customer, places=places, at=clock.now())
    left = headroom.read(customer=customer, feature_key=first.terms.feature.key, at=clock.now())
    minutes = query.minutes or first.terms.minutes_min
    reach = Span(starts_at=span.starts_at, ends_at=span.ends_at + timedelta(minutes=minutes))
    timetable = selectors.get_timetable(scene, span=reach, at=clock.now())
    slots = [
        _judged(timetable, left, want)
        for want in _wants(query, places, timetable=timetable, minutes=minutes)
    ]
    return Availability(
        time_zone=first.time_zone,
        slots=slots,
        remaining_units=left.remaining_units(),
    )


def _list_places(query: Query) -> Mapping[int, Place]:
    rows = selectors.list_resources(type_key=query.type_key, venue_key=query.venue_key)
    if not rows:
        detail = f"No {query.type_key} is on offer here."
        raise errors.NotFound(detail)
    if len({row.venue_id for row in rows}) > 1:
        detail = f"There are {query.type_key}s in several venues: name one."
        raise errors.Invalid.at("/venue", code="required", detail=detail)
    return selectors.places_of(rows)


def _wants(
    query: Query, places: Mapping[int, Place], *, timetable: Timetable, minutes: int
) -> Sequence[Want]:
    """Return each start within opening hours, in order of time, then of the places."""
    found = [
        Want(place=place, span=span, quantity=query.quantity)
        for place in places.values()
        for span in _spans_within_hours(place, query, timetable=timetable, minutes=minutes)
    ]
    if len(found) > SLOTS_MAX:
        detail = f"That is {len(found)} slots; ask for fewer days, at most {SLOTS_MAX} at once."
        raise errors.Invalid.at("/days", code="max_value", detail=detail)
    return sorted(found, key=lambda want: want.span.starts_at)


def _spans_within_hours(
    place: Place, query: Query, *, timetable: Timetable, minutes: int
) -> Iterator[Span]:
    days = opening.day_span(day=query.first_day, days=query.days, time_zone=place.time_zone)
    opened = timetable.open_spans(place, span=days)
    duration = timedelta(minutes=minutes)
    starts = opening.grid_starts(
        time_zone=place.time_zone,
        first_day=query.first_day,
        days=query.days,
        grid_minutes=place.terms.grid_minutes,
    )
    for starts_at in starts:
        span = Span(starts_at=starts_at, ends_at=starts_at + duration)
        if any(each.contains(span) for each in opened):
            yield span


def _judged(timetable: Timetable, left: Headroom, want: Want) -> Slot:
    units = timetable.cost_units(want)
    refusal = timetable.refuse(want)
    code = (
        refusal.code
        if refusal is not None
        else left.refuse(units=units, starts_at=want.span.starts_at)
    )
    return Slot(place=want.place, span=want.span, units=units, code=code)


def list_alternatives(*, customer: Customer, want: Want, clock: clocks.Clock) -> list[Slot]:
    """Return up to five free slots of the same type and duration, the nearest in time first.

    Those of the day before, of the day and of the day after are looked at.
    """
    day = opening.local_day(want.span.starts_at, time_zone=want.place.time_zone)
    query = Query(
        type_key=want.place.terms.key,
        venue_key=want.place.venue_key,
        first_day=day - opening.ONE_DAY,
        days=3,
        minutes=int(want.span.minutes),
        quantity=want.quantity,
    )
    found = find(customer=customer, query=query, clock=clock)
    free = [slot for slot in found.slots if not slot.code]
    return sorted(free, key=lambda slot: _distance(slot, want))[:ALTERNATIVES_MAX]


def _distance(slot: Slot, want: Want) -> tuple[timedelta, datetime, int]:
    return abs(slot.span.starts_at - want.span.starts_at), slot.span.starts_at, slot.place.id
