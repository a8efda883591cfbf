"""Make a small club with one call: a venue, courts, a coach, rackets, and members who may book."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from core.models import Customer
from resources.models import (
    BookingPolicy,
    OpeningRule,
    PeakWindow,
    Resource,
    ResourceType,
    Venue,
)
from resources.opening import Span
from tests import factories

STARTED = datetime(2026, 3, 1, tzinfo=UTC)
ALL_WEEK = range(7)


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
