"""Add a small club to the example: two courts, a coach, rackets, and a booking; safe to repeat."""

from datetime import time, timedelta

from core import clock as clocks
from core import db
from core.actors import Actor
from core.models import Customer
from resources import opening
from resources.models import (
    Booking,
    BookingPolicy,
    OpeningRule,
    PeakWindow,
    Resource,
    ResourceType,
    Venue,
)
from resources.models.places import Weekday
from resources.opening import Span
from resources.services import booking
from resources.services.planning import Order, Wish
from subscriptions.models import Feature

VENUE_KEY, FEATURE_KEY = "club", "court_minutes"
ACTOR = Actor(name="demo", reason="demo data")
RESOURCES = (
    ("court-1", "Court 1", "court", 1),
    ("court-2", "Court 2", "court", 1),
    ("anna", "Anna, coach", "coach", 1),
    ("rackets", "Rackets", "rackets", 8),
)


def fill(*, member: Customer, clock: clocks.Clock) -> None:
    """Make the club where there is none, and book its first court for the member tomorrow.

    The example's catalog stands already; what stands of the club is kept.
    """
    if Venue.objects.filter(key=VENUE_KEY).exists():
        return
    with db.transaction():
        venue = _make_club()
    tomorrow = opening.local_day(clock.now(), time_zone=venue.time_zone) + opening.ONE_DAY
    starts_at = opening.instant(day=tomorrow, wall=time(10), time_zone=venue.time_zone)
    order = Order(
        customer_id=member.pk,
        span=Span(starts_at=starts_at, ends_at=starts_at + timedelta(hours=1)),
        wishes=[Wish(resource_key="court-1")],
        actor=ACTOR,
    )
    if not Booking.objects.filter(customer=member).exists():
        booking.book_by_staff(order, clock=clock)


def _make_club() -> Venue:
    venue = Venue.objects.create(key=VENUE_KEY, name="Club", time_zone="Europe/Berlin")
    OpeningRule.objects.bulk_create(
        OpeningRule(venue=venue, weekday=weekday, opens_at=time(8), closes_at=time(22))
        for weekday in Weekday.values
    )
    types = _make_types()
    for key, name, type_key, capacity in RESOURCES:
        Resource.objects.create(
            venue=venue,
            type=types[type_key],
            key=key,
            name=name,
            kind=Resource.Kind.POOL if capacity > 1 else Resource.Kind.EXCLUSIVE,
            capacity=capacity,
        )
    policy = BookingPolicy.objects.create(
        type=types["court"], days_ahead=14, free_cancel_minutes=720, late_units_percent=50
    )
    PeakWindow.objects.bulk_create(
        PeakWindow(
            policy=policy,
            weekday=weekday,
            starts_at=time(17),
            ends_at=time(20),
            rate_percent=150,
            active_max=2,
        )
        for weekday in range(Weekday.SATURDAY)
    )
    return venue


def _make_types() -> dict[str, ResourceType]:
    feature = Feature.objects.get(key=FEATURE_KEY)
    hour = {"minutes_min": 60, "minutes_max": 120, "grid_minutes": 30, "feature": feature}
    found = {
        "court": ResourceType(key="court", name="Court", **hour),
        "coach": ResourceType(key="coach", name="Coach", **hour),
        "rackets": ResourceType(key="rackets", name="Rackets", unit="visit", **hour),
    }
    for each in found.values():
        each.save(force_insert=True)
    return found
