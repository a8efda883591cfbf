"""Lay out a venue's day: a row for each hour, a column for each resource."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.safestring import SafeString

from core.admin import base
from core.admin.operations import Table
from resources import opening, selectors
from resources.models import Allocation, Venue
from resources.opening import Span
from resources.timetable import Closed, Place

HOUR_MINUTES = 60
HOUR = timedelta(minutes=HOUR_MINUTES)
FREE, NOT_OPEN = "free", ""


def table_of(venue: Venue, *, day: date, at: datetime, can_book: bool) -> Table:
    """Return the day on the venue's clock; hours in which nothing opens are left out.

    For who may book, a free hour to come leads to its booking. A constant number of statements,
    whatever is booked.
    """
    rows = selectors.list_resources(venue_key=venue.key)
    places = selectors.places_of(rows)
    span = opening.day_span(day=day, days=1, time_zone=venue.time_zone)
    timetable = selectors.get_public_timetable(places, span=span, at=at)
    booked: dict[int, list[Allocation]] = defaultdict(list)
    for each in selectors.list_allocations(places, span=span, at=at):
        booked[each.resource_id].append(each)
    lines = []
    for hour in _hours(span):
        cells = [
            _cell(
                place,
                hour,
                is_open=_touches(timetable.open_spans(place, span=span), hour),
                closed=timetable.closed.get(place.id, ()),
                booked=booked[place.id],
                can_book=can_book and hour.starts_at > at,
            )
            for place in places.values()
        ]
        if any(cells):
            lines.append([_wall(hour.starts_at, place_zone=venue.time_zone), *cells])
    return Table(
        title=f"{venue.name}, {day:%A %Y-%m-%d}",
        headers=["", *(place.name for place in places.values())],
        rows=lines,
        empty_text="Nothing opens on this day.",
    )


def _hours(span: Span) -> Iterable[Span]:
    starts_at = span.starts_at
    while starts_at < span.ends_at:
        yield Span(starts_at=starts_at, ends_at=starts_at + HOUR)
        starts_at += HOUR


def _touches(spans: Iterable[Span], hour: Span) -> bool:
    return any(each.overlaps(hour) for each in spans)


def _cell(
    place: Place,
    hour: Span,
    *,
    is_open: bool,
    closed: Sequence[Closed],
    booked: Sequence[Allocation],
    can_book: bool,
) -> str | SafeString:
    """Return who plays in the hour, why it is closed, or that it is free."""
    own = [
        each
        for each in booked
        if Span(starts_at=each.starts_at, ends_at=each.ends_at).overlaps(hour)
    ]
    if own:
        return base.links((_address(each), _booked_text(each, place)) for each in own)
    for each in closed:
        if each.span.overlaps(hour):
            return f"closed: {each.reason}"
    if not is_open:
        return NOT_OPEN
    return base.links([(_address_to_book(place, hour), FREE)]) if can_book else FREE


def _address_to_book(place: Place, hour: Span) -> str:
    wall = hour.starts_at.astimezone(opening.zone(place.time_zone))
    asked = {"day": f"{wall:%Y-%m-%d}", "starts_at": f"{wall:%H:%M}", "minutes": HOUR_MINUTES}
    address = reverse("admin:resources_resource_book_for_customer", args=(place.id,))
    return f"{address}?{urlencode(asked)}"


def _address(row: Allocation) -> str:
    return reverse("admin:resources_booking_change", args=(row.booking_id,))


def _booked_text(row: Allocation, place: Place) -> str:
    first = _wall(row.starts_at, place_zone=place.time_zone)
    last = _wall(row.ends_at, place_zone=place.time_zone)
    places = f" × {row.quantity}" if not place.is_exclusive else ""
    mark = {"held": " (held)", "no_show": " (not come)"}.get(row.booking.state, "")
    come = " ✓" if row.booking.checked_in_at else ""
    return f"{first}–{last} {row.booking.customer.name}{places}{mark}{come}"


def _wall(at: datetime, *, place_zone: str) -> str:
    return f"{at.astimezone(opening.zone(place_zone)):%H:%M}"
