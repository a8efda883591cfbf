"""Closing over bookings is refused unless told; told, each returns its units."""

from datetime import timedelta

import pytest

from core import clock
from resources.models import Booking, Closure
from resources.services import closures, ending, jobs
from tests import club, factories

pytestmark = pytest.mark.django_db
TEN = club.local(10)
HOUR = timedelta(hours=1)


@pytest.fixture
def court(standing_clock):
    club.make_plan({"court_minutes": 600})
    return club.make_resource(venue=club.make_venue())


@pytest.fixture
def user(court):
    return factories.make_user(at=club.STARTED)


@pytest.fixture
def client(user):
    return factories.client_for(user)


@pytest.fixture
def backend(court):
    return factories.service_client()


def close(backend, **fields):
    body = {
        "venue": "club",
        "starts_at": clock.rfc3339(TEN),
        "ends_at": clock.rfc3339(TEN + 2 * HOUR),
        "reason": "rain",
    } | fields
    return backend.post("/api/resources/closures/", body, format="json")


class TestClosure:
    def test_over_bookings_is_refused_and_changes_nothing(self, backend, client, user):
        club.book(client, TEN + HOUR)
        refused = close(backend)
        assert (refused.status_code, refused.json()["code"]) == (409, "closure_conflict")
        assert refused.json()["bookings"] == 1
        assert not Closure.objects.exists()
        assert Booking.objects.get().state == "confirmed"
        assert club.counted(factories.customer_of(user)) == (0, 60)

    def test_returns_all_units_where_told_however_late_it_is(self, backend, client, user, court):
        club.make_policy(court.type, free_cancel_minutes=10_080, late_fee_minor=900)
        inside = club.book(client, TEN + HOUR).json()
        after = club.book(client, TEN + 2 * HOUR).json()

        answer = close(backend, cancel_bookings=True)

        assert answer.status_code == 201, answer.content
        assert answer.json()["cancelled"] == [inside["id"]]
        row = Booking.objects.get(pk=inside["id"])
        assert (row.state, row.reason) == ("cancelled", "rain")
        assert Booking.objects.get(pk=after["id"]).state == "confirmed"
        assert club.counted(factories.customer_of(user)) == (0, 60)
        assert club.book(client, TEN + HOUR).json()["code"] == "resource_closed"

    def test_of_one_resource_leaves_the_others(self, backend, client, court):
        club.make_resource("court-2", venue=court.venue)
        kept = club.book(client, TEN, allocations=[{"resource": "court-2"}]).json()
        answer = close(backend, resource="court-1")
        assert (answer.status_code, answer.json()["resource"]) == (201, "court-1")
        assert answer.json()["cancelled"] == []
        assert Booking.objects.get(pk=kept["id"]).state == "confirmed"

    def test_is_finished_after_a_crash_between_its_commits(
        self, backend, client, user, monkeypatch
    ):
        booked = club.book(client, TEN).json()

        class Crash(BaseException):
            """The process dies."""

        def die(**_):
            raise Crash

        with monkeypatch.context() as broken:
            broken.setattr(ending, "cancel_by_staff", die)
            with pytest.raises(Crash):
                close(backend, cancel_bookings=True)
        assert Booking.objects.get(pk=booked["id"]).state == "confirmed"
        assert Closure.objects.count() == 1
        assert jobs.run_due(clock=clock.process_clock()).closed == 1
        assert jobs.run_due(clock=clock.process_clock()).closed == 0
        assert club.counted(factories.customer_of(user)) == (0, 0)

    def test_lifted_opens_again(self, backend, client):
        closure_id = close(backend).json()["id"]
        for _ in range(2):
            closures.lift(closure_id=closure_id, clock=clock.process_clock())
        assert club.book(client, TEN).status_code == 201

    @pytest.mark.parametrize(
        ("fields", "status", "code"),
        [
            ({"venue": "moon"}, 404, "not_found"),
            ({"resource": "moon"}, 404, "not_found"),
            ({"ends_at": "2026-03-11T09:00:00Z"}, 422, "invalid"),
            (
                {"starts_at": "2026-03-01T09:00:00Z", "ends_at": "2026-03-02T09:00:00Z"},
                422,
                "invalid",
            ),
            ({"starts_at": "2026-03-11T09:00:00"}, 400, "naive_datetime"),
            ({"reason": ""}, 422, "invalid"),
        ],
    )
    def test_refuses_bad_input(self, backend, fields, status, code):
        answer = close(backend, **fields)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert not Closure.objects.exists()

    def test_is_for_service_keys_with_the_scope(self, client, court):
        weak = factories.service_client(scopes=("bookings:read",))
        for caller, code in ((client, "permission_denied"), (weak, "insufficient_scope")):
            answer = close(caller)
            assert (answer.status_code, answer.json()["code"]) == (403, code)
        assert not Closure.objects.exists()

    def test_asks_the_database_a_constant_number_of_times(
        self, backend, django_assert_num_queries, court
    ):
        for number in range(2, 5):
            club.make_resource(f"court-{number}", venue=court.venue)
        # key, venue, resources; lock, affected, insert in a transaction (two of the test's own);
        # resources and affected again
        with django_assert_num_queries(11):
            assert close(backend).status_code == 201
