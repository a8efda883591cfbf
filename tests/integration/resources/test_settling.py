"""What the clock makes of bookings, written down by a job that may be late or run twice."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command

from core import clock
from core.actors import Actor
from core.models import OutboxEvent
from resources.models import Allocation, Booking
from resources.services import ending, jobs, settling
from subscriptions import errors as subscription_errors
from tests import club, factories

pytestmark = pytest.mark.django_db
TEN = club.local(10)
HOUR = timedelta(hours=1)
STAFF = Actor(name="staff", reason="did not come")


@pytest.fixture
def court(standing_clock):
    club.make_plan({"court_minutes": 600})
    return club.make_resource(venue=club.make_venue())


@pytest.fixture
def user(court):
    return factories.make_user(at=club.STARTED)


@pytest.fixture
def customer(user):
    return factories.customer_of(user)


@pytest.fixture
def client(user):
    return factories.client_for(user)


def run(at):
    return jobs.run_due(clock=factories.standing(at)).settled


def events():
    rows = OutboxEvent.objects.filter(event_type__startswith="booking.").order_by("id")
    return [(row.event_type, row.occurred_at, row.payload["fee_minor"]) for row in rows][1:]


class TestStart:
    def test_captures_and_the_end_completes(self, client, customer):
        club.book(client, TEN)
        assert run(TEN - timedelta(seconds=1)) == {}
        assert club.counted(customer) == (0, 60)
        assert run(TEN) == {"confirmed": 1}
        assert club.counted(customer) == (60, 0)
        assert run(TEN) == {}
        assert run(TEN + HOUR) == {"completed": 1}
        assert events() == [
            ("booking.started", TEN, 0),
            ("booking.completed", TEN + HOUR, 0),
        ]
        assert Allocation.objects.get().is_live

    def test_late_job_ends_in_the_same_state_with_the_same_instants(self, client, customer):
        club.book(client, TEN)
        assert run(TEN + 50 * HOUR) == {"completed": 1}
        row = Booking.objects.get()
        assert (row.captured_at, row.ended_at) == (TEN, TEN + HOUR)
        assert club.counted(customer) == (60, 0)
        assert [(name, at) for name, at, _ in events()] == [
            ("booking.started", TEN),
            ("booking.completed", TEN + HOUR),
        ]

    def test_is_shown_before_any_job_ran(self, client):
        booked = club.book(client, TEN).json()
        with clock.overridden(factories.standing(TEN + HOUR)):
            shown = client.get(f"/api/bookings/{booked['id']}/").json()
        assert shown["state"] == "completed"
        assert Booking.objects.get().state == "confirmed"

    def test_batches_are_bounded(self, client):
        for hours in range(3):
            club.book(client, TEN + hours * HOUR)
        late = factories.standing(TEN + 24 * HOUR)
        assert settling.settle_due(clock=late, limit=2).count == 2
        assert settling.settle_due(clock=late, limit=2).count == 1


class TestNoShow:
    def test_follows_by_itself_where_the_terms_ask_for_a_check_in(self, client, customer, court):
        club.make_policy(
            court.type,
            requires_check_in=True,
            no_show_units_percent=50,
            no_show_fee_minor=1500,
        )
        club.book(client, TEN)
        assert run(TEN) == {}
        assert run(TEN + HOUR) == {"no_show": 1}
        assert club.counted(customer) == (30, 0)
        assert events() == [("booking.no_show", TEN + HOUR, 1500)]
        assert not Allocation.objects.get().is_live

    def test_does_not_follow_a_check_in(self, client, customer, court):
        club.make_policy(court.type, requires_check_in=True, no_show_units_percent=50)
        booked = club.book(client, TEN).json()
        with clock.overridden(factories.standing(TEN)):
            assert club.act(client, booked["id"], "check-in").status_code == 200
        assert run(TEN + HOUR) == {"completed": 1}
        assert club.counted(customer) == (60, 0)

    def test_marked_by_staff_charges_once_and_keeps_what_the_start_captured(
        self, client, customer, court
    ):
        club.make_policy(court.type, no_show_fee_minor=1500)
        club.book(client, TEN)
        booking_id = Booking.objects.get().pk
        with pytest.raises(subscription_errors.InvalidTransition):
            ending.mark_no_show(booking_id=booking_id, actor=STAFF, clock=clock.process_clock())
        assert Booking.objects.get().state == "confirmed"
        run(TEN)
        later = factories.standing(TEN + timedelta(minutes=20))
        for _ in range(2):
            row = ending.mark_no_show(booking_id=booking_id, actor=STAFF, clock=later)
            assert (row.state, row.reason) == ("no_show", "did not come")
        assert club.counted(customer) == (60, 0)
        assert [(name, fee) for name, _, fee in events()] == [
            ("booking.started", 0),
            ("booking.no_show", 1500),
        ]
        assert run(TEN + HOUR) == {}


class TestExpiry:
    def test_returns_units_at_the_boundary_s_own_instant(self, client, customer, at):
        club.book(client, TEN, confirm=False)
        lapse = at + timedelta(minutes=10)
        assert run(lapse - timedelta(seconds=1)) == {}
        assert run(lapse + 5 * HOUR) == {"expired": 1}
        row = Booking.objects.get()
        assert (row.state, row.ended_at, row.hold_id) == ("expired", lapse, None)
        assert club.counted(customer) == (0, 0)
        assert events() == [("booking.expired", lapse, 0)]


class TestDowngrade:
    def test_keeps_what_is_held(self, client, customer, at, court):
        factories.make_plan("gold", at=club.STARTED, limits={"court_minutes": 900}, rank=1)
        row = factories.subscribe(customer, "gold", at=club.STARTED)
        for hours in range(5):
            assert club.book(client, TEN + 2 * hours * HOUR, minutes=120).status_code == 201
        assert club.book(client, TEN + 24 * HOUR).status_code == 201
        factories.lifecycle.cancel_now(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(at)
        )
        assert club.counted(customer) == (0, 660)
        refused = club.book(client, TEN + 48 * HOUR)
        assert (refused.status_code, refused.json()["code"]) == (403, "usage_limit_reached")
        assert Booking.objects.filter(state="confirmed").count() == 6
        run(TEN + 100 * HOUR)
        assert club.counted(customer) == (660, 0)


class TestCommand:
    def test_prints_what_it_did(self, client, capsys):
        club.book(client, TEN)
        with clock.overridden(factories.standing(TEN)):
            call_command("settle_bookings", "--json")
            call_command("settle_bookings")
        first, second = capsys.readouterr().out.splitlines()
        assert json.loads(first) == {"settled": {"confirmed": 1}, "closed": 0, "offered": 0}
        assert second == "Bookings moved: none; cancelled under closures: 0; offers made: 0."
