"""A series keeps its wall time, and is had whole or for what can be had."""

from datetime import UTC, datetime, timedelta

import pytest

from core import clock
from core.models import IdempotencyRecord
from metering import selectors as metering_selectors
from resources.models import Allocation, Booking, BookingSeries
from resources.services import series as service
from resources.services import turns
from tests import club, factories

pytestmark = pytest.mark.django_db
TEN = club.local(10)
WEEK = timedelta(days=7)


@pytest.fixture
def user():
    club.make_plan({"court_minutes": 600})
    return factories.make_user(at=club.STARTED)


@pytest.fixture
def court():
    resource = club.make_resource(venue=club.make_venue())
    club.make_policy(resource.type, days_ahead=365)
    return resource


@pytest.fixture
def client(user, court, standing_clock):
    return factories.client_for(user)


@pytest.fixture
def other(court, standing_clock):
    return factories.client_for(factories.make_user(at=club.STARTED))


def ask(client, start=TEN, *, key="series", minutes=60, **fields):
    body = {
        "starts_at": clock.rfc3339(start),
        "ends_at": clock.rfc3339(start + timedelta(minutes=minutes)),
        "allocations": [{"resource": "court-1"}],
        "occurrences": 4,
    } | fields
    return client.post("/api/bookings/series/", body, format="json", HTTP_IDEMPOTENCY_KEY=key)


def standing_bookings():
    return list(Booking.objects.open().order_by("starts_at").values_list("starts_at", flat=True))


class TestBalance:
    def test_of_each_booking_is_that_of_its_period_after_all_of_them(self, client):
        body = ask(client).json()
        march, april = [{"held": 180}, {"held": 60}]
        wanted = [march, march, march, april]
        for shown, own in zip(body["bookings"], wanted, strict=True):
            remaining = 600 - own["held"]
            ends = "2026-04-01T00:00:00Z" if own is march else "2026-05-01T00:00:00Z"
            assert shown["balance"] == {
                "feature": "court_minutes",
                "used": 0,
                "held": own["held"],
                "limit": 600,
                "remaining": remaining,
                "resets_at": ends,
            }
        assert ask(client).json() == body  # its replay

    def test_is_read_once_for_each_period(self, client, court, monkeypatch):
        asked = []
        read = metering_selectors.get_balances_at
        monkeypatch.setattr(
            metering_selectors,
            "get_balances_at",
            lambda **given: asked.append(given["at"]) or read(**given),
        )
        assert ask(client, occurrences=8).status_code == 201
        assert [each.month for each in asked] == [3, 4]


class TestLine:
    def test_is_stood_in_by_each_occurrence_and_by_the_whole(self, client, court, monkeypatch):
        stood, of = [], turns.of

        def noting(*, customer_id, resource_ids=()):
            stood.append(list(resource_ids))
            return of(customer_id=customer_id, resource_ids=resource_ids)

        monkeypatch.setattr(turns, "of", noting)
        assert ask(client).status_code == 201
        assert stood == [[], *[[court.pk]] * 4, []]


class TestSeries:
    def test_keeps_the_wall_time_over_the_change_and_each_period_pays_its_own(self, client, user):
        answer = ask(client)

        assert answer.status_code == 201, answer.content
        body = answer.json()
        assert [each["starts_at"] for each in body["bookings"]] == [
            "2026-03-11T09:00:00Z",
            "2026-03-18T09:00:00Z",
            "2026-03-25T09:00:00Z",
            "2026-04-01T08:00:00Z",  # summer time
        ]
        assert {each["state"] for each in body["bookings"]} == {"confirmed"}
        assert {each["series"] for each in body["bookings"]} == {body["id"]}
        assert body["skipped"] == []
        rows = club.Balance.objects.order_by("period_starts_at")
        assert [row.held_units for row in rows] == [180, 60]

    def test_replays_to_the_byte(self, client):
        first = ask(client)
        again = ask(client)
        assert (again.status_code, again["Idempotent-Replayed"]) == (201, "true")
        assert again.content == first.content
        assert Booking.objects.count() == 4
        reused = ask(client, occurrences=5)
        assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")

    def test_with_a_conflict_is_refused_whole_and_keeps_nothing(self, client, other, user):
        club.book(other, TEN + 2 * WEEK)
        refused = ask(client)
        assert (refused.status_code, refused.json()["code"]) == (409, "slot_taken")
        assert standing_bookings() == [TEN + 2 * WEEK]
        assert club.counted(factories.customer_of(user)) == (0, 0)
        assert Allocation.objects.filter(is_live=True).count() == 1
        assert IdempotencyRecord.objects.count() == 1  # the other's booking
        Booking.objects.filter(starts_at=TEN + 2 * WEEK).delete()
        assert ask(client).status_code == 201  # the same key, since nothing was recorded

    def test_skips_a_conflict_where_told_and_says_so(self, client, other):
        club.book(other, TEN + 2 * WEEK)
        body = ask(client, on_conflict="skip").json()
        assert [each["starts_at"][:10] for each in body["bookings"]] == [
            "2026-03-11",
            "2026-03-18",
            "2026-04-01",
        ]
        assert body["skipped"] == [{"date": "2026-03-25", "code": "slot_taken"}]

    def test_skips_what_the_units_of_a_period_do_not_cover(self, client, user, at):
        factories.consume(factories.customer_of(user), 490, at=at, feature="court_minutes")
        body = ask(client, on_conflict="skip").json()
        assert body["skipped"] == [
            {"date": "2026-03-18", "code": "usage_limit_reached"},
            {"date": "2026-03-25", "code": "usage_limit_reached"},
        ]
        assert club.counted(factories.customer_of(user)) == (490, 120)

    def test_is_refused_where_nothing_can_be_had(self, client, other):
        for number in range(4):
            club.book(other, (TEN, TEN + WEEK, TEN + 2 * WEEK, club.local(10) + 3 * WEEK)[number])
        before = standing_bookings()
        refused = ask(client, on_conflict="skip", occurrences=3)
        assert (refused.status_code, refused.json()["code"]) == (409, "slot_taken")
        assert standing_bookings() == before

    def test_reports_the_day_whose_clocks_leave_the_time_out(self, client, court):
        for weekday in range(7):
            club.OpeningRule.objects.create(
                venue=court.venue,
                resource=court,
                weekday=weekday,
                opens_at="00:00",
                closes_at="00:00",
            )
        at = datetime(2027, 3, 13, 12, tzinfo=UTC)
        with clock.overridden(factories.standing(at)):
            body = ask(client, datetime(2027, 3, 14, 1, 30, tzinfo=UTC), occurrences=4).json()
        assert [each["starts_at"] for each in body["bookings"]] == [
            "2027-03-14T01:30:00Z",
            "2027-03-21T01:30:00Z",
            "2027-04-04T00:30:00Z",
        ]
        assert body["skipped"] == [{"date": "2027-03-28", "code": "wall_time_missing"}]

    @pytest.mark.parametrize(
        ("fields", "status", "code"),
        [
            ({"occurrences": 520}, 422, "invalid"),
            ({"occurrences": 1}, 422, "invalid"),
            ({"occurrences": "4"}, 422, "invalid"),
            ({"interval_weeks": 0}, 422, "invalid"),
            ({"on_conflict": "hope"}, 422, "invalid"),
            ({"confirm": True}, 400, "unknown_field"),
            ({"occurrences": 52, "interval_weeks": 4}, 422, "booking_too_far"),
            ({"starts_at": "2026-03-11T10:00:00"}, 400, "naive_datetime"),
            ({"allocations": [{"resource": "moon"}]}, 404, "not_found"),
            ({"ends_at": "2026-03-11T18:00:00Z"}, 422, "duration_not_allowed"),
        ],
    )
    def test_refuses_bad_input_and_keeps_nothing(self, client, user, fields, status, code):
        answer = ask(client, **fields)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert standing_bookings() == []
        assert club.counted(factories.customer_of(user)) == (0, 0)

    def test_what_a_crash_leaves_lapses_and_the_key_works_again(
        self, client, user, at, monkeypatch
    ):
        class Crash(BaseException):
            """The process dies."""

        def die(*_, **__):
            raise Crash

        with monkeypatch.context() as broken:
            broken.setattr(service, "_confirm_all", die)
            with pytest.raises(Crash):
                ask(client)
        customer = factories.customer_of(user)
        assert club.counted(customer) == (0, 240)
        running = ask(client)
        assert (running.status_code, running.json()["code"]) == (409, "idempotency_in_progress")
        later = at + timedelta(seconds=service.HELD_SECONDS)
        with clock.overridden(factories.standing(later)):
            assert ask(client).status_code == 201
        assert club.counted(customer) == (0, 240)
        assert len(standing_bookings()) == 4
        assert BookingSeries.objects.get().confirmed_at == later
