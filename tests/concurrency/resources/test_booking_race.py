"""One slot, one booking; 600 minutes, ten hours: with the locks taken away, both races show."""

import contextlib
import random
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest
from django.db import connection

from core import clock
from core import errors as core_errors
from core.actors import Actor
from core.models import IdempotencyRecord, OutboxEvent
from metering.models import Balance
from resources import locks, selectors
from resources.models import Allocation, Booking
from resources.opening import Span
from resources.services import ending, settling, turns
from resources.timetable import Want
from tests import club, factories
from tests.concurrency import racing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
TEN = club.local(10)
HOUR = timedelta(hours=1)
THREADS = 50
PROCESSES = 16
ACTOR = Actor(name="test")


@pytest.fixture(autouse=True)
def _standing():
    with clock.overridden(factories.standing(AT)):
        yield


@pytest.fixture
def apart(monkeypatch):
    """Let the threads be as far apart as processes are: no line, the locks alone."""
    monkeypatch.setattr(turns, "of", lambda **_: contextlib.nullcontext(enter_result=False))


@pytest.fixture
def court():
    club.make_plan({"court_minutes": 600})
    return club.make_resource(venue=club.make_venue())


def many_clients(number):
    return [factories.client_for(factories.make_user(at=STARTED)) for _ in range(number)]


def booked_by(client, start=TEN, **fields):
    """Return status and code of a booking."""
    answer = club.book(client, start, **fields)
    return answer.status_code, answer.json().get("code")


def overlaps():
    """Return the pairs of live allocations of one exclusive resource that overlap."""
    rows = list(Allocation.objects.filter(is_live=True, is_exclusive=True).order_by("id"))
    return [
        (first.pk, second.pk)
        for index, first in enumerate(rows)
        for second in rows[index + 1 :]
        if first.resource_id == second.resource_id
        and first.starts_at < second.occupied_until
        and second.starts_at < first.occupied_until
    ]


def held():
    """Return the units held by balances, and those of the bookings that hold: always equal."""
    balances = sum(Balance.objects.values_list("held_units", flat=True))
    rows = Allocation.objects.filter(booking__hold_id__isnull=False)
    return balances, sum(rows.values_list("units", flat=True))


@pytest.mark.usefixtures("apart")
class TestControl:
    """The races, with what prevents them taken away."""

    def test_without_the_lock_both_find_the_slot_free(self, court):
        barrier = threading.Barrier(2)

        def unlocked():
            places = selectors.find_places(resource_keys=["court-1"])
            span = Span(starts_at=TEN, ends_at=TEN + HOUR)
            timetable = selectors.get_public_timetable(places, span=span, at=AT)
            (place,) = places.values()
            refusal = timetable.refuse(Want(place=place, span=span))
            barrier.wait()
            return refusal

        assert racing.in_threads([unlocked, unlocked]) == [None, None]

    def test_without_the_lock_only_the_constraint_stands_between(self, court, monkeypatch):
        monkeypatch.setattr(locks, "lock_resources", lambda **_: [])
        answers = racing.in_threads([lambda each=each: booked_by(each) for each in many_clients(8)])
        assert Counter(answers) == {(201, None): 1, (409, "slot_taken"): 7}
        assert overlaps() == []

    def test_without_the_lock_a_pool_is_oversold(self, court, monkeypatch):
        """No constraint counts places: here the lock alone keeps the promise."""
        club.make_resource("yoga", venue=court.venue, capacity=2)
        barrier = threading.Barrier(6, timeout=20)
        monkeypatch.setattr(locks, "lock_resources", lambda **_: barrier.wait())
        places = [{"resource": "yoga"}]
        answers = racing.in_threads(
            [lambda each=each: booked_by(each, allocations=places) for each in many_clients(6)]
        )
        assert Counter(answers)[(201, None)] > 2


def race_for_a_slot(threads):
    """Let many want one slot, and show that one has it."""
    answers = racing.in_threads([partial(booked_by, each) for each in many_clients(threads)])

    assert Counter(answers) == {(201, None): 1, (409, "slot_taken"): threads - 1}
    assert Booking.objects.count() == Allocation.objects.count() == 1
    assert held() == (60, 60)


def race_for_units(venue, threads):
    """Let one customer want more courts than he has hours, and show that he gets his ten."""
    for number in range(2, threads + 1):
        club.make_resource(f"court-{number}", venue=venue)
    user = factories.make_user(at=STARTED)
    wishes = [[{"resource": f"court-{number + 1}"}] for number in range(threads)]

    answers = racing.in_threads(
        [partial(booked_by, factories.client_for(user), allocations=wish) for wish in wishes]
    )

    denied = (403, "usage_limit_reached")
    assert Counter(answers) == {(201, None): 10, denied: threads - 10}
    assert club.counted(factories.customer_of(user)) == (0, 600)
    assert held() == (600, 600)
    assert IdempotencyRecord.objects.count() == threads


class TestRush:
    """Fifty threads of one process, twenty connections: they stand in line, and none is sent away.

    Every answer is the first: nobody tries again.
    """

    def test_fifty_users_for_one_slot_are_one_booking(self, court):
        race_for_a_slot(THREADS)

    def test_fifty_courts_against_600_minutes_are_exactly_ten(self, court):
        race_for_units(court.venue, THREADS)

    def test_fifty_series_over_one_slot_are_one_series(self, court):
        club.make_policy(court.type, days_ahead=31)
        body = {
            "starts_at": clock.rfc3339(TEN),
            "ends_at": clock.rfc3339(TEN + HOUR),
            "allocations": [{"resource": "court-1"}],
            "occurrences": 2,
        }

        def ask(client):
            answer = client.post(
                "/api/bookings/series/", body, format="json", HTTP_IDEMPOTENCY_KEY="series"
            )
            return answer.status_code, answer.json().get("code")

        answers = racing.in_threads([partial(ask, each) for each in many_clients(THREADS)])

        assert Counter(answers) == {(201, None): 1, (409, "slot_taken"): THREADS - 1}
        assert Booking.objects.filter(state="confirmed").count() == 2
        assert overlaps() == []
        assert held() == (120, 120)

    def test_leaves_the_connections_to_others(self, court):
        """While fifty stand in line behind one who takes his time, reads are answered."""
        clients = many_clients(THREADS)
        reader = factories.client_for(factories.make_user(at=STARTED))
        is_read = threading.Event()

        def read():
            statuses = [reader.get("/api/subscriptions/me/").status_code for _ in range(5)]
            is_read.set()
            return statuses

        def slow():
            with turns.of(customer_id=uuid4(), resource_ids=[court.pk]):
                return is_read.wait(timeout=9)

        waiting = [partial(booked_by, each) for each in clients]
        done = racing.in_threads([slow, read, *waiting])

        assert done[:2] == [True, [200] * 5]
        assert Counter(done[2:]) == {(201, None): 1, (409, "slot_taken"): THREADS - 1}


@pytest.mark.usefixtures("apart")
class TestLocks:
    def test_users_for_one_slot_are_one_booking(self, court):
        race_for_a_slot(PROCESSES)

    def test_courts_against_600_minutes_are_exactly_ten(self, court):
        race_for_units(court.venue, PROCESSES)

    def test_twins_with_one_key_are_one_booking_with_equal_answers(self, court):
        user = factories.make_user(at=STARTED)
        clients = [factories.client_for(user) for _ in range(PROCESSES)]

        answers = racing.in_threads([partial(club.book, each, TEN, key="one") for each in clients])

        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert Booking.objects.count() == 1

    def test_a_class_is_filled_to_its_places_and_no_further(self, court):
        club.make_resource("yoga", venue=court.venue, capacity=8)
        places = [{"resource": "yoga"}]

        answers = racing.in_threads(
            [partial(booked_by, each, allocations=places) for each in many_clients(PROCESSES)]
        )

        assert Counter(answers) == {(201, None): 8, (409, "slot_taken"): 8}
        assert held() == (480, 480)


@pytest.mark.usefixtures("apart")
class TestEndings:
    def test_many_cancels_return_the_units_once(self, court):
        user = factories.make_user(at=STARTED)
        booked = club.book(factories.client_for(user), TEN + 24 * HOUR).json()
        clients = [factories.client_for(user) for _ in range(PROCESSES)]

        answers = racing.in_threads(
            [lambda each=each: club.act(each, booked["id"], "cancel") for each in clients]
        )

        assert {answer.status_code for answer in answers} == {200}
        assert club.counted(factories.customer_of(user)) == (0, 0)
        assert OutboxEvent.objects.filter(event_type="booking.cancelled").count() == 1

    def test_cancelling_against_capturing_is_one_of_the_two(self, court):
        user = factories.make_user(at=STARTED)
        client = factories.client_for(user)
        for number in range(5):
            start = TEN + number * HOUR
            row = Booking.objects.get(pk=club.book(client, start).json()["id"])

            def cancel(booking_id=row.pk, start=start):
                just_before = factories.standing(start - timedelta(microseconds=1))
                try:
                    ending.cancel_by_staff(
                        booking_id=booking_id, actor=ACTOR, clock=just_before, is_free=True
                    )
                except core_errors.DomainError as refusal:
                    return refusal.code
                return "cancelled"

            def capture(booking_id=row.pk, start=start):
                moved = settling.settle(booking_id=booking_id, clock=factories.standing(start))
                return "captured" if moved else "nothing"

            outcomes = racing.in_threads([cancel, capture])
            row.refresh_from_db()
            assert (row.state, outcomes) in [
                ("cancelled", ["cancelled", "nothing"]),
                ("confirmed", ["invalid_transition", "captured"]),
            ]
        captured = Booking.objects.filter(state="confirmed").count()
        assert club.counted(factories.customer_of(user)) == (60 * captured, 0)

    def test_expiring_against_confirming_is_one_of_the_two(self, court):
        user = factories.make_user(at=STARTED)
        client, second = factories.client_for(user), factories.client_for(user)
        for number in range(5):
            start = TEN + number * HOUR
            row = Booking.objects.get(pk=club.book(client, start, confirm=False).json()["id"])

            def expire(booking_id=row.pk, lapse=row.expires_at):
                late = factories.standing(lapse)
                return settling.settle(booking_id=booking_id, clock=late) is not None

            def confirm(booking_id=row.pk):
                return club.act(second, str(booking_id), "confirm").status_code == 200

            outcomes = racing.in_threads([expire, confirm])
            row.refresh_from_db()
            assert (row.state, outcomes) in [
                ("confirmed", [False, True]),
                ("expired", [True, False]),
            ]
        confirmed = Booking.objects.filter(state="confirmed").count()
        assert held() == (60 * confirmed, 60 * confirmed)


@pytest.mark.usefixtures("apart")
class TestStorm:
    def test_of_random_operations_keeps_every_invariant_without_a_deadlock(self, court):
        for number in range(2, 4):
            club.make_resource(f"court-{number}", venue=court.venue)
        users = [factories.make_user(at=STARTED) for _ in range(4)]
        before = deadlocks()

        def worker(seed):
            client = factories.client_for(users[seed % len(users)])
            return lambda: [act_randomly(client, random.Random(f"{seed} {n}")) for n in range(8)]

        statuses = [
            status
            for each in racing.in_threads([worker(seed) for seed in range(8)])
            for status in each
        ]

        assert set(statuses) <= {200, 201, 403, 404, 409, 422}
        assert deadlocks() == before
        assert overlaps() == []
        balances, bookings = held()
        assert balances == bookings > 0


def act_randomly(client, dice):
    """Book, cancel or move something at random and return the status."""
    start = TEN + dice.randrange(48, 60) * HOUR
    own = client.get("/api/bookings/").json()["results"]
    chosen = dice.random()
    if own and chosen < 0.3:
        chosen_id = dice.choice(own)["id"]
        return club.act(client, chosen_id, "cancel").status_code
    if own and chosen < 0.5:
        chosen_id = dice.choice(own)["id"]
        to = {"starts_at": clock.rfc3339(start), "ends_at": clock.rfc3339(start + HOUR)}
        return club.act(client, chosen_id, "move", **to).status_code
    wishes = [{"type": "court"}] * dice.randrange(1, 3)
    return booked_by(client, start, allocations=wishes)[0]


def deadlocks():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return cursor.fetchone()[0]
