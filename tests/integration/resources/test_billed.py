"""What a closure gives back is not billed, or comes back as a credit where it was billed."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.models import InvoiceLine
from billing.services import late
from resources.opening import Span
from resources.services import closures, settling
from subscriptions.services import actions
from tests import club, factories, till

pytestmark = pytest.mark.django_db
APRIL, MAY, JUNE = (datetime(2026, month, 1, tzinfo=UTC) for month in (4, 5, 6))
HOUR = timedelta(hours=1)
PLAY = datetime(2026, 4, 10, 15, tzinfo=UTC)
LATE = MAY - HOUR


@pytest.fixture
def court():
    till.make_catalog()
    plan = factories.make_plan(
        "club", at=till.STARTED, rank=60, publish=False, limits={"court_minutes": 99_999}
    )
    till.price_plan(
        plan,
        till.STARTED,
        alter=lambda price: setattr(price, "unit_amount_minor", 500),
        court_minutes={"unit_amount": "0.10"},
    )
    return club.make_resource(venue=club.make_venue(time_zone="UTC", opens="00:00", closes="00:00"))


@pytest.fixture
def customer(court):
    return factories.make_customer(at=till.STARTED)


def play(customer, court, start):
    """Book an hour a day before, and let its start capture it."""
    row = club.booked(customer, court, start, at=start - timedelta(days=1))
    settling.settle(booking_id=row.pk, clock=factories.standing(start))


def rain(court, start, *, at):
    """Close an hour of the court, however late it is."""
    planned = closures.Planned(
        venue_key=court.venue.key,
        span=Span(starts_at=start, ends_at=at + HOUR),
        reason="rain",
        cancels_bookings=True,
    )
    clock = factories.standing(at)
    assert len(closures.close(planned, actor=factories.ACTOR, clock=clock).cancelled) == 1


def billed():
    rows = InvoiceLine.objects.filter(item__startswith="metered:").order_by("id")
    return [(row.quantity, row.amount_minor) for row in rows]


def test_usage_that_was_returned_is_not_billed(customer, court):
    own = till.Till(customer)
    own.subscribe("club", APRIL)
    play(customer, court, PLAY)
    play(customer, court, PLAY + 24 * HOUR)
    rain(court, PLAY, at=PLAY + HOUR / 2)
    own.settle(MAY)
    assert billed() == [(60, 600)]
    own.settle(JUNE)
    assert billed() == [(60, 600)]


def test_usage_that_was_billed_comes_back_once(customer, court):
    own = till.Till(customer)
    own.subscribe("club", APRIL)
    play(customer, court, PLAY)
    play(customer, court, LATE)
    own.settle(MAY)
    assert billed() == [(120, 1200)]
    rain(court, LATE, at=MAY + HOUR / 2)
    own.settle(JUNE)
    assert [amount for _, amount in billed()] == [1200, -600]
    own.settle(JUNE + timedelta(days=30))
    assert sum(amount for _, amount in billed()) == 600


@pytest.mark.parametrize("is_returned", [False, True])
def test_play_before_the_end_is_billed_to_who_had_booked_it(customer, court, is_returned):
    own = till.Till(customer)
    subscribed = own.subscribe("club", APRIL)
    row = club.booked(customer, court, PLAY, at=PLAY - HOUR)
    ended_at = PLAY + HOUR / 4
    actions.cancel_now(
        subscription_id=subscribed.pk, actor=factories.ACTOR, clock=factories.standing(ended_at)
    )
    settling.settle(booking_id=row.pk, clock=factories.standing(PLAY + HOUR / 3))
    bill(at=PLAY + 48 * HOUR)
    assert billed() == [(60, 600)]
    if is_returned:
        rain(court, PLAY, at=PLAY + 50 * HOUR)
        bill(at=MAY)
        assert billed()[1:] == [(60, -600)]


def bill(*, at):
    job = late.LateUsageJob()
    keys = job.list_due(at=at, limit=9, excluded=())
    assert [job.work(key=key, clock=factories.standing(at)) for key in keys] == [True]
