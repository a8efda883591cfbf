"""First come, first offered: to the first who may book it."""

from datetime import timedelta

import pytest

from core import clock
from resources.models import Booking, WaitlistEntry
from resources.services import jobs, turns
from tests import club, factories

pytestmark = pytest.mark.django_db
TEN = club.local(10) + timedelta(days=7)
HOUR = timedelta(hours=1)


@pytest.fixture
def court(standing_clock):
    club.make_plan({"court_minutes": 600})
    return club.make_resource(venue=club.make_venue())


@pytest.fixture
def users(court):
    return [factories.make_user(at=club.STARTED) for _ in range(4)]


@pytest.fixture
def clients(users):
    return [factories.client_for(user) for user in users]


def wait(client, *, key="wait", start=TEN, **fields):
    body = {
        "starts_at": clock.rfc3339(start),
        "ends_at": clock.rfc3339(start + HOUR),
        "resource": "court-1",
    } | fields
    return client.post("/api/waitlist/", body, format="json", HTTP_IDEMPOTENCY_KEY=key)


def entries(client):
    return client.get("/api/waitlist/").json()["results"]


class TestLine:
    def test_is_stood_in_by_who_joins_and_by_every_offer(self, clients, court, monkeypatch):
        stood, of = [], turns.of

        def noting(*, customer_id, resource_ids=()):
            stood.append(list(resource_ids))
            return of(customer_id=customer_id, resource_ids=resource_ids)

        monkeypatch.setattr(turns, "of", noting)
        joined = wait(clients[0]).json()
        (offer,) = entries(clients[0])
        assert (joined["state"], offer["state"]) == ("waiting", "offered")
        assert stood == [[], [court.pk]]


class TestWaitlist:
    def test_offers_a_freed_time_first_in_first_out(self, clients, court, at):
        owner, first, second, third = clients
        booked = club.book(owner, TEN).json()
        for client in (first, second, third):
            answer = wait(client)
            assert answer.status_code == 201
            assert answer.json()["state"] == "waiting"

        club.act(owner, booked["id"], "cancel")

        (offer,) = entries(first)
        assert offer["state"] == "offered"
        held = first.get(f"/api/bookings/{offer['booking']}/").json()
        assert (held["state"], held["expires_at"]) == ("held", "2026-03-10T12:30:00Z")
        assert [entries(client)[0]["state"] for client in (second, third)] == ["waiting"] * 2
        later = at + timedelta(minutes=30)
        with clock.overridden(factories.standing(later)):
            done = jobs.run_due(clock=factories.standing(later))
            assert (done.settled, done.offered) == ({"expired": 1}, 1)
            (offer,) = entries(second)
            confirmed = club.act(second, offer["booking"], "confirm")
            assert confirmed.json()["state"] == "confirmed"
        assert entries(third)[0]["state"] == "waiting"

    def test_passes_over_who_may_not_book_it(self, clients, users, court, at):
        owner, first, second, _ = clients
        booked = club.book(owner, TEN).json()
        wait(first)
        wait(second)
        broke = factories.customer_of(users[1])
        factories.consume(broke, 560, at=at, feature="court_minutes")

        club.act(owner, booked["id"], "cancel")

        assert entries(first)[0]["state"] == "waiting"
        assert entries(second)[0]["state"] == "offered"
        assert club.counted(broke) == (560, 0)

    def test_offers_what_a_move_leaves(self, clients, court):
        owner, first, *_ = clients
        booked = club.book(owner, TEN).json()
        wait(first)
        club.act(
            owner,
            booked["id"],
            "move",
            starts_at=clock.rfc3339(TEN + 5 * HOUR),
            ends_at=clock.rfc3339(TEN + 6 * HOUR),
        )
        assert entries(first)[0]["state"] == "offered"

    def test_offers_at_once_what_is_free_and_any_of_a_type(self, clients, court):
        _, first, *_ = clients
        club.make_resource("court-2", venue=court.venue)
        body = {
            "starts_at": clock.rfc3339(TEN),
            "ends_at": clock.rfc3339(TEN + HOUR),
            "type": "court",
        }
        answer = first.post("/api/waitlist/", body, format="json", HTTP_IDEMPOTENCY_KEY="any")
        assert answer.status_code == 201
        assert entries(first)[0]["state"] == "offered"

    def test_replays_and_is_left_once(self, clients, court):
        owner, first, *_ = clients
        booked = club.book(owner, TEN).json()
        entry = wait(first).json()
        assert wait(first).json() == entry
        url = f"/api/waitlist/{entry['id']}/leave/"
        left = first.post(url, {}, format="json", HTTP_IDEMPOTENCY_KEY="leave")
        assert left.json()["state"] == "ended"
        again = first.post(url, {}, format="json", HTTP_IDEMPOTENCY_KEY="leave2")
        assert again.json() == left.json()
        club.act(owner, booked["id"], "cancel")
        assert Booking.objects.count() == 1
        assert owner.post(url, {}, format="json", HTTP_IDEMPOTENCY_KEY="x").status_code == 404

    def test_refuses_to_leave_what_was_offered(self, clients, court):
        _, first, *_ = clients
        entry = wait(first).json()
        url = f"/api/waitlist/{entry['id']}/leave/"
        refused = first.post(url, {}, format="json", HTTP_IDEMPOTENCY_KEY="leave")
        assert (refused.status_code, refused.json()["code"]) == (409, "invalid_transition")
        assert WaitlistEntry.objects.get().state == "offered"

    @pytest.mark.parametrize(
        ("fields", "status", "code"),
        [
            ({"type": "court"}, 422, "invalid"),
            ({"resource": "moon"}, 404, "not_found"),
            ({"ends_at": "2026-03-18T09:00:00Z"}, 422, "invalid"),
            ({"ends_at": "2026-03-18T09:30:00Z"}, 422, "duration_not_allowed"),
            ({"quantity": 2}, 422, "capacity_exceeded"),
            ({"starts_at": "2026-03-18T09:00:00"}, 400, "naive_datetime"),
        ],
    )
    def test_refuses_what_could_never_be_offered(self, clients, court, fields, status, code):
        answer = wait(clients[0], **fields)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert not WaitlistEntry.objects.exists()

    def test_bounds_what_one_waits_for(self, clients, court, monkeypatch):
        monkeypatch.setattr("resources.services.waiting.WAITING_MAX", 1)
        owner, first, *_ = clients
        club.book(owner, TEN, minutes=120)
        wait(first)
        refused = wait(first, key="second", start=TEN + HOUR)
        assert (refused.status_code, refused.json()["rule"]) == (403, "waiting_max")
        assert WaitlistEntry.objects.count() == 1

    def test_ends_with_the_start_of_play(self, clients, court):
        owner, first, *_ = clients
        club.book(owner, TEN)
        wait(first)
        jobs.run_due(clock=factories.standing(TEN))
        assert WaitlistEntry.objects.get().state == "ended"

    def test_lists_in_a_constant_number_of_statements(
        self, clients, court, django_assert_num_queries
    ):
        owner, first, *_ = clients
        club.book(owner, TEN, minutes=120)
        wait(first)
        wait(first, key="second", start=TEN + HOUR)
        with django_assert_num_queries(2):
            assert len(entries(first)) == 2
