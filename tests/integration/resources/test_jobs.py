"""The worker's kinds of work, and what a club gives beside its plans."""

from datetime import timedelta

import pytest

from core import clock
from core.services import jobs as registry
from core.services import worker
from core.services.idempotency import KeyedRequest
from metering.services import granting
from resources.models import Booking, Closure, WaitlistEntry
from resources.services import jobs, waiting
from resources.services.planning import Order, Wish
from tests import club, factories

pytestmark = pytest.mark.django_db
TEN = club.local(10)
HOUR = timedelta(hours=1)


@pytest.fixture
def court(standing_clock):
    club.make_plan({"court_minutes": 600})
    return club.make_resource(venue=club.make_venue())


def run(at):
    """Run one pass of the booking work alone."""
    kinds = [jobs.SettleJob(), jobs.ClosureJob(), jobs.WaitlistJob()]
    return worker.run_pass(jobs=kinds, clock=factories.standing(at), should_stop=lambda: False)


class TestWorker:
    def test_knows_the_kinds_of_booking_work(self):
        names = {job.name for job in registry.registered()}
        assert {"bookings", "closures", "waiting list"} <= names

    def test_captures_completes_and_then_finds_nothing(self, court, at):
        customer = club.make_member()
        club.booked(customer, court, TEN, at=at)
        assert run(at).done == 0
        assert run(TEN).done == 1
        assert club.counted(customer) == (60, 0)
        assert run(TEN + HOUR).done == 1
        assert Booking.objects.get().state == "completed"
        assert run(TEN + HOUR).done == 0

    def test_offers_what_lapsed_to_the_next_in_line(self, court, at):
        club.booked(club.make_member(), court, TEN, at=at, held=True)
        waiter = club.make_member()
        order = Order(
            customer_id=waiter.pk,
            span=club.span(TEN),
            wishes=[Wish(resource_key=court.key)],
            actor=factories.ACTOR,
        )
        waiting.join(
            order,
            keyed=KeyedRequest(key="wait", fingerprint="f"),
            render=lambda row, _: {"id": str(row.pk)},
            clock=factories.standing(at),
        )
        assert WaitlistEntry.objects.get().state == "waiting"
        assert run(at + timedelta(minutes=10)).done == 1
        entry = WaitlistEntry.objects.get()
        assert (entry.state, entry.booking.state) == ("offered", "held")
        assert club.counted(waiter) == (0, 60)

    def test_ends_what_waited_past_its_start(self, court, at):
        WaitlistEntry.objects.create(
            customer=club.make_member(),
            type=court.type,
            venue=court.venue,
            starts_at=TEN,
            ends_at=TEN + HOUR,
            created_at=at,
        )
        assert run(at).done == 0
        assert run(TEN).done == 1
        assert WaitlistEntry.objects.get().state == "ended"

    def test_cancels_what_a_closure_still_covers(self, court, at):
        customer = club.make_member()
        club.booked(customer, court, TEN, at=at)
        club.booked(customer, court, TEN + 2 * HOUR, at=at)
        Closure.objects.create(
            venue=court.venue,
            starts_at=TEN,
            ends_at=TEN + HOUR,
            reason="rain",
            created_at=at,
            is_pending=True,
        )
        assert run(at).done == 1
        states = Booking.objects.order_by("starts_at").values_list("state", "reason")
        assert list(states) == [("cancelled", "rain"), ("confirmed", "")]
        assert club.counted(customer) == (0, 60)

    def test_passes_test_clocks_by(self, court, at):
        customer = factories.make_customer(at=club.STARTED, test_clock_at=at)
        club.booked(customer, court, TEN, at=at)
        assert run(TEN + HOUR).done == 0
        assert Booking.objects.get().state == "confirmed"


class TestPunchCard:
    def test_of_ten_visits_without_expiry_is_a_grant(self, court, at):
        factories.make_plan("other", at=club.STARTED, limits={"visits": 5})
        customer = club.make_member()
        granting.create(
            customer_id=customer.pk,
            order=granting.Order(feature_key="visits", units=10),
            actor=factories.ACTOR,
            keyed=KeyedRequest(key="card", fingerprint="f"),
            render=lambda row: {"id": str(row.pk)},
            clock=factories.standing(at),
        )
        type_ = club.make_type("yoga", feature="visits", unit="visit")
        yoga = club.make_resource("yoga", venue=court.venue, type_=type_, capacity=20)
        club.make_policy(type_, days_ahead=365)
        client = factories.service_client()
        named = {"customer": customer.external_key, "allocations": [{"resource": yoga.key}]}
        for days in range(10):
            start = TEN + timedelta(days=days)
            done = club.book(client, start.replace(hour=12), **named)
            assert done.status_code == 201, done.content
        assert club.counted(customer, "visits") == (0, 10)
        refused = club.book(client, TEN.replace(hour=15), **named)
        assert (refused.status_code, refused.json()["code"]) == (403, "usage_limit_reached")
        assert club.counted(customer, "visits") == (0, 10)
        with clock.overridden(factories.standing(TEN + timedelta(hours=12))):
            jobs.run_due(clock=clock.process_clock())
        assert club.counted(customer, "visits") == (1, 9)
