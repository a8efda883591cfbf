"""R13: random intervals from several threads: capacity exactly, no overlap, refunds once.

INTERVALS=10000 is the long form; it prints what it saw.
"""

import os
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from core import clock
from core.errors import DomainError
from core.models import OutboxEvent
from metering.models import UsageEntry
from metering.services import auditing
from resources import errors
from resources.models import Allocation, Booking
from resources.services import booking, ending, planning
from tests import club, factories
from tests.concurrency import racing

SHORT = 60
INTERVALS = int(os.environ.get("INTERVALS", str(SHORT)))
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgres,
    pytest.mark.timeout(120 + INTERVALS),
]
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
THREADS = 4
CAPACITIES = {"court-1": 1, "court-2": 1, "court-3": 1, "class-1": 3, "class-2": 8}
GAP_MINUTES = 15
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _standing():
    with clock.overridden(factories.standing(AT)):
        yield


@pytest.fixture
def customers():
    club.make_plan({"court_minutes": 10_000_000})
    venue = club.make_venue(time_zone="UTC")
    kind = club.make_type(minutes_min=30, minutes_max=120)
    club.make_policy(kind, free_cancel_minutes=0)
    for key, capacity in CAPACITIES.items():
        gap = GAP_MINUTES if key == "court-3" else 0
        club.make_resource(
            key, venue=venue, type_=kind, capacity=capacity, buffer_after_minutes=gap
        )
    return [club.make_member() for _ in range(THREADS * 2)]


def attempt(dice, customer):
    """Ask for a random interval; return what was asked for, and the booking or the refusal."""
    key = dice.choice(list(CAPACITIES))
    start = AT.replace(hour=8) + timedelta(
        days=dice.randint(1, 12), minutes=30 * dice.randrange(24)
    )
    span = club.span(start, 30 * dice.randint(1, 4))
    wish = planning.Wish(resource_key=key, quantity=dice.randint(1, min(CAPACITIES[key], 2)))
    order = planning.Order(customer_id=customer.pk, span=span, wishes=[wish], actor=factories.ACTOR)
    try:
        made = booking.book_by_staff(order, clock=factories.standing(AT))
    except errors.SlotTaken:
        return wish, span, None
    return wish, span, made.pk


def work(seed, customers, number):
    dice = random.Random(f"intervals {seed}")
    return [attempt(dice, dice.choice(customers)) for _ in range(number)]


def taken_by_minute(rows):
    """Count the places that are occupied of each resource in each minute, the gap included."""
    places = Counter()
    for row in rows:
        at = row.starts_at
        while at < row.occupied_until:
            places[row.resource.key, at] += row.quantity
            at += MINUTE
    return places


def would_fit(places, wish, span):
    gap = GAP_MINUTES if wish.resource_key == "court-3" else 0
    minutes = int((span.ends_at - span.starts_at) / MINUTE) + gap
    return all(
        places[wish.resource_key, span.starts_at + minute * MINUTE] + wish.quantity
        <= CAPACITIES[wish.resource_key]
        for minute in range(minutes)
    )


def cancel(dice, ids):
    """Cancel them in an order of one's own."""
    for booking_id in dice.sample(ids, len(ids)):
        try:
            ending.cancel_by_staff(
                booking_id=booking_id,
                actor=factories.ACTOR,
                clock=factories.standing(AT),
                is_free=True,
            )
        except DomainError as refusal:  # pragma: no cover - none is expected
            return refusal.code
    return ""


def live():
    return list(Allocation.objects.filter(is_live=True).select_related("resource"))


def held_units():
    return sum(club.Balance.objects.values_list("held_units", flat=True))


def test_random_intervals_keep_capacity_and_return_units_once(customers):
    share = -(-INTERVALS // THREADS)
    answers = [
        each
        for part in racing.in_threads(
            [partial(work, seed, customers, share) for seed in range(THREADS)]
        )
        for each in part
    ]

    made = [booking_id for _, _, booking_id in answers if booking_id is not None]
    rows = live()
    places = taken_by_minute(rows)
    assert len(rows) == len(made) == Booking.objects.count()
    assert all(units <= CAPACITIES[key] for (key, _), units in places.items())
    refused = [(wish, span) for wish, span, booking_id in answers if booking_id is None]
    assert refused
    assert not any(would_fit(places, wish, span) for wish, span in refused)  # none for nothing
    assert held_units() == sum(row.units for row in rows)

    given_up = sorted(made)[::2]
    codes = racing.in_threads(
        [partial(cancel, random.Random(f"cancel {seed}"), given_up) for seed in range(THREADS)]
    )

    assert codes == [""] * THREADS
    assert held_units() == sum(row.units for row in live())
    assert UsageEntry.objects.filter(kind="release").count() == len(given_up)
    cancelled = OutboxEvent.objects.filter(event_type="booking.cancelled")
    assert cancelled.count() == len(given_up)
    assert auditing.audit()[0] == []
    print(  # noqa: T201 - the figure
        f"R13: {len(answers)} intervals: {len(made)} booked, {len(refused)} refused, "
        f"{len(given_up)} cancelled {THREADS} times each; 0 overlaps, units returned once"
    )
