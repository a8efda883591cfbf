"""What can be booked, when, for how much, and why not."""

from datetime import date, time, timedelta

import pytest

from resources.models import Booking, Closure, OpeningRule
from tests import club, factories

pytestmark = pytest.mark.django_db
URL = "/api/resources/availability/"


@pytest.fixture
def user():
    club.make_plan({"court_minutes": 600})
    return factories.make_user(at=club.STARTED)


@pytest.fixture
def venue():
    return club.make_venue(opens=time(9), closes=time(12))


@pytest.fixture
def client(user, standing_clock):
    return factories.client_for(user)


def ask(client, **query):
    answer = client.get(URL, {"type": "court", "date": "2026-03-11"} | query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def reasons(body):
    return {(slot["resource"], slot["starts_at"][11:16]): slot["reason"] for slot in body["slots"]}


class TestAvailability:
    def test_lists_every_start_within_hours_with_its_cost(self, client, venue):
        club.make_resource(venue=venue)

        body = ask(client)

        assert body["time_zone"] == "Europe/Berlin"
        assert body["remaining"] == 600
        assert body["slots"][0] == {
            "resource": "court-1",
            "starts_at": "2026-03-11T08:00:00Z",
            "ends_at": "2026-03-11T09:00:00Z",
            "available": True,
            "reason": None,
            "cost": {"feature": "court_minutes", "units": 60},
        }
        assert [slot["starts_at"][11:16] for slot in body["slots"]] == [
            "08:00",
            "08:30",
            "09:00",
            "09:30",
            "10:00",
        ]

    def test_says_why_a_slot_is_not_offered(self, client, venue, at):
        first = club.make_resource(venue=venue, buffer_after_minutes=30)
        second = club.make_resource("court-2", venue=venue)
        occupy(first, club.local(10), customer=club.make_member())
        Closure.objects.create(
            venue=venue,
            resource=second,
            starts_at=club.local(9),
            ends_at=club.local(10),
            reason="rain",
            created_at=at,
        )

        found = reasons(ask(client))

        assert found[("court-1", "08:00")] == "slot_taken"  # its own gap reaches the booking
        assert found[("court-1", "09:30")] == "slot_taken"
        assert found[("court-1", "10:00")] == "slot_taken"
        assert found[("court-2", "08:30")] == "resource_closed"
        assert found[("court-2", "09:00")] is None

    def test_knows_the_policy_of_the_plan_and_the_units_left(self, client, venue, user, at):
        resource = club.make_resource(venue=venue)
        club.make_policy(resource.type, notice_minutes=24 * 60, days_ahead=2)
        factories.consume(factories.customer_of(user), 560, at=at, feature="court_minutes")

        body = ask(client, days=3)

        assert body["remaining"] == 40
        by_day = {slot["starts_at"]: slot["reason"] for slot in body["slots"]}
        assert by_day["2026-03-11T08:00:00Z"] == "booking_too_soon"
        assert by_day["2026-03-12T08:00:00Z"] == "usage_limit_reached"
        assert by_day["2026-03-13T08:00:00Z"] == "booking_too_far"

    def test_pays_from_the_period_of_the_start(self, client, venue, user, at):
        club.make_resource(venue=venue)
        factories.consume(factories.customer_of(user), 600, at=at, feature="court_minutes")

        body = ask(client, date="2026-03-31", days=2)

        by_start = {slot["starts_at"]: slot["reason"] for slot in body["slots"]}
        assert by_start["2026-03-31T07:00:00Z"] == "usage_limit_reached"
        assert by_start["2026-04-01T07:00:00Z"] is None

    def test_follows_a_resource_s_own_hours_and_leaves_out_what_is_not_offered(self, client, venue):
        early = club.make_resource(venue=venue)
        club.make_resource("court-2", venue=venue, is_active=False)
        OpeningRule.objects.create(
            venue=venue, resource=early, weekday=2, opens_at=time(6), closes_at=time(7)
        )
        assert list(reasons(ask(client))) == [("court-1", "05:00")]

    def test_counts_the_places_of_a_class(self, client, venue):
        resource = club.make_resource("yoga", venue=venue, capacity=3)
        occupy(resource, club.local(9), customer=club.make_member(), quantity=2)

        assert reasons(ask(client))[("yoga", "08:00")] is None
        assert reasons(ask(client, quantity=2))[("yoga", "08:00")] == "slot_taken"
        assert reasons(ask(client, quantity=4))[("yoga", "08:00")] == "capacity_exceeded"

    def test_answers_304_to_the_same_state(self, client, venue):
        resource = club.make_resource(venue=venue)
        query = {"type": "court", "date": "2026-03-11"}
        tag = client.get(URL, query)["ETag"]
        assert client.get(URL, query, HTTP_IF_NONE_MATCH=tag).status_code == 304
        occupy(resource, club.local(9), customer=club.make_member())
        assert client.get(URL, query, HTTP_IF_NONE_MATCH=tag).status_code == 200

    def test_asks_the_database_a_constant_number_of_times(
        self, client, venue, django_assert_num_queries
    ):
        first = club.make_resource(venue=venue)
        club.make_policy(first.type, peaks=[])
        ask(client)  # a process reads an immutable feature once
        # identity; resources, hours; policies, peaks; the plan in three, balances, grants;
        # closures, allocations, own bookings
        with django_assert_num_queries(12):
            assert len(ask(client)["slots"]) == 5
        for number in range(2, 5):
            resource = club.make_resource(f"court-{number}", venue=venue)
            for day in range(10, 20):
                starts_at = club.local(9, day=date(2026, 3, day))
                occupy(resource, starts_at, customer=club.make_member())
        with django_assert_num_queries(12):
            assert len(ask(client, days=20)["slots"]) == 4 * 20 * 5

    @pytest.mark.parametrize(
        ("query", "status", "code"),
        [
            ({"type": "moon"}, 404, "not_found"),
            ({"days": "0"}, 422, "invalid"),
            ({"days": "32"}, 422, "invalid"),
            ({"days": "1.0"}, 422, "invalid"),
            ({"date": "2026-02-30"}, 422, "invalid"),
            ({"date": "9999-12-31"}, 422, "invalid"),
            ({"date": "2026-03-11T00:00:00"}, 422, "invalid"),
            ({"duration": "-60"}, 422, "invalid"),
            ({"quantity": "0"}, 422, "invalid"),
            ({"customer": "nobody"}, 404, "not_found"),
            ({"colour": "red"}, 400, "unknown_field"),
        ],
    )
    def test_refuses_bad_parameters(self, client, venue, query, status, code):
        club.make_resource(venue=venue)
        answer = client.get(URL, {"type": "court", "date": "2026-03-11"} | query)
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    def test_asks_which_venue_where_there_are_several(self, client, venue):
        club.make_resource(venue=venue)
        club.make_resource("far", venue=club.make_venue(key="island", time_zone="Asia/Tokyo"))

        refused = client.get(URL, {"type": "court", "date": "2026-03-11"})
        named = client.get(URL, {"type": "court", "date": "2026-03-11", "venue": "island"})

        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/venue")
        assert named.json()["time_zone"] == "Asia/Tokyo"

    def test_refuses_to_list_without_end(self, client, venue, monkeypatch):
        club.make_resource(venue=venue)
        monkeypatch.setattr("resources.services.availability.SLOTS_MAX", 4)
        answer = client.get(URL, {"type": "court", "date": "2026-03-11"})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/days")


class TestResources:
    def test_are_listed_with_how_they_are_booked(self, client, venue, django_assert_num_queries):
        club.make_resource(venue=venue)
        club.make_resource("coach", venue=venue, type_=club.make_type("coach"))
        with django_assert_num_queries(2):
            answer = client.get("/api/resources/")
        assert [row["key"] for row in answer.json()["results"]] == ["coach", "court-1"]
        assert answer.json()["results"][1] == {
            "key": "court-1",
            "name": "Court-1",
            "type": "court",
            "venue": "club",
            "time_zone": "Europe/Berlin",
            "kind": "exclusive",
            "capacity": 1,
            "feature": "court_minutes",
            "unit": "minute",
            "minutes_min": 60,
            "minutes_max": 120,
            "grid_minutes": 30,
        }
        only = client.get("/api/resources/", {"type": "coach", "venue": "club"})
        assert len(only.json()["results"]) == 1
        tag = answer["ETag"]
        assert client.get("/api/resources/", HTTP_IF_NONE_MATCH=tag).status_code == 304


def occupy(resource, starts_at, *, customer, minutes=60, quantity=1):
    """Write a confirmed booking without its hold: what availability reads."""
    gap = max(resource.buffer_before_minutes, resource.buffer_after_minutes)
    ends_at = starts_at + timedelta(minutes=minutes)
    booking = Booking.objects.create(
        customer=customer,
        venue=resource.venue,
        state=Booking.State.CONFIRMED,
        starts_at=starts_at,
        ends_at=ends_at,
        created_at=club.STARTED,
        free_cancel_until=starts_at,
    )
    booking.allocations.create(
        resource=resource,
        quantity=quantity,
        starts_at=starts_at,
        ends_at=ends_at,
        occupied_until=ends_at + timedelta(minutes=gap),
        is_exclusive=resource.kind == "exclusive",
        feature=resource.type.feature,
        units=minutes * quantity,
    )
    return booking
