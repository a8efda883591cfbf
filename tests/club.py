"""Make a small club with one call: a venue, courts, a coach, rackets, and members who may book."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from typing import Any

from rest_framework.test import APIClient

from core import clock
from core.models import Customer
from metering.models import Balance
from resources.models import (
    Booking,
    BookingPolicy,
    OpeningRule,
    PeakWindow,
    Resource,
    ResourceType,
    Venue,
)
from resources.opening import Span
from resources.services import booking, planning
from tests import factories

STARTED = datetime(2026, 3, 1, tzinfo=UTC)
ALL_WEEK = range(7)
_numbers = count(1)


def make_venue(
    *,
    time_zone: str = "Europe/Berlin",
    key: str = "club",
    opens: time = time(8),
    closes: time = time(22),
) -> Venue:
    venue = Venue.objects.create(key=key, name=key.title(), time_zone=time_zone)
    for weekday in ALL_WEEK:
        OpeningRule.objects.create(venue=venue, weekday=weekday, opens_at=opens, closes_at=closes)
    return venue


def make_type(key: str = "court", *, feature: str = "court_minutes", **fields: Any) -> ResourceType:
    defaults = {"minutes_min": 60, "minutes_max": 120, "grid_minutes": 30} | fields
    return ResourceType.objects.get_or_create(
        key=key,
        defaults={
            "name": key.title(),
            "feature": factories.make_feature(feature, at=STARTED),
            **defaults,
        },
    )[0]


def make_resource(
    key: str = "court-1", *, venue: Venue, type_: ResourceType | None = None, **fields: Any
) -> Resource:
    if fields.get("capacity", 1) > 1:
        fields.setdefault("kind", Resource.Kind.POOL)
    return Resource.objects.create(
        venue=venue, type=type_ or make_type(), key=key, name=key.title(), **fields
    )


def make_policy(type_: ResourceType, *, peaks: Any = (), **fields: Any) -> BookingPolicy:
    policy = BookingPolicy.objects.create(type=type_, **fields)
    for peak in peaks:
        PeakWindow.objects.create(policy=policy, **peak)
    return policy


def make_plan(limits: Mapping[str, int | None] | None = None, *, key: str = "free") -> None:
    """Make the plan that serves everybody: 600 court minutes a month unless told otherwise."""
    factories.make_plan(key, at=STARTED, limits=limits or {"court_minutes": 600})


def make_member() -> Customer:
    return factories.make_customer(at=STARTED)


def local(
    hour: int, minute: int = 0, *, day: date = date(2026, 3, 11), hours_east: int = 1
) -> datetime:
    """Return the instant of a wall time so many hours east of UTC; Berlin's winter by default."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(
        hours=hour - hours_east, minutes=minute
    )


def span(starts_at: datetime, minutes: int = 60) -> Span:
    return Span(starts_at=starts_at, ends_at=starts_at + timedelta(minutes=minutes))


def counted(customer: Customer, feature: str = "court_minutes") -> tuple[int, int]:
    """Return the used and held units over all usage periods."""
    rows = Balance.objects.filter(customer=customer, feature__key=feature)
    return sum(row.used_units for row in rows), sum(row.held_units for row in rows)


def book(client: APIClient, start: datetime, /, **fields: Any) -> Any:
    """Ask for a court, or for what is named, under a key of its own unless one is given."""
    key = fields.pop("key", f"book{next(_numbers)}")
    minutes = fields.pop("minutes", 60)
    body = {
        "starts_at": clock.rfc3339(start),
        "ends_at": clock.rfc3339(start + timedelta(minutes=minutes)),
        "allocations": [{"resource": "court-1"}],
    } | fields
    return client.post("/api/bookings/", body, format="json", HTTP_IDEMPOTENCY_KEY=key)


def act(client: APIClient, booking: str, move: str, **fields: Any) -> Any:
    """Move a booking under a key of its own unless one is given."""
    key = fields.pop("key", f"act{next(_numbers)}")
    url = f"/api/bookings/{booking}/{move}/"
    return client.post(url, fields, format="json", HTTP_IDEMPOTENCY_KEY=key)


def booked(
    customer: Customer, resource: Resource, start: datetime, *, at: datetime, held: bool = False
) -> Booking:
    """Book an hour by the service and return the booking."""
    order = planning.Order(
        customer_id=customer.pk,
        span=span(start),
        wishes=[planning.Wish(resource_key=resource.key)],
        actor=factories.ACTOR,
        held_seconds=600 if held else None,
    )
    return booking.book_by_staff(order, clock=factories.standing(at))
