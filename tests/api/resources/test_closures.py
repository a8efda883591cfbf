"""Closing over bookings is refused unless told; told, each returns its units."""

from datetime import date, timedelta

import pytest

from core import clock
from core.models import OutboxEvent
from core.services.idempotency import KeyedRequest
from metering import errors as metering_errors
from metering.models import Grant, UsageEntry
from metering.services import granting
from resources.models import Booking, Closure, OpeningRule
from resources.services import closures, ending, jobs
from subscriptions.models import Feature
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
            broken.setattr(ending, "cancel_closed", die)
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
        # key, venue, resources; lock, affected, insert in a transaction (two of the test's own)
        with django_assert_num_queries(9):
            assert close(backend).status_code == 201


RAIN = TEN + 0.5 * HOUR


def settle(at):
    jobs.run_due(clock=factories.standing(at))


def close_at(backend, at, *, starts_at=RAIN, ends_at=TEN + 4 * HOUR, **fields):
    """Close from the rain on, or from another instant, as of an instant."""
    span = {"starts_at": clock.rfc3339(starts_at), "ends_at": clock.rfc3339(ends_at)}
    with clock.overridden(factories.standing(at)):
        return close(backend, **span, **({"cancel_bookings": True} | fields))


def kinds():
    rows = UsageEntry.objects.order_by("id").values_list("kind", "units", "used_units")
    return list(rows)


class TestOverWhatHasBegun:
    """Rain in the middle of play: what the start captured goes back to where it came from."""

    def test_cancels_a_running_booking_and_reverses_its_capture(self, backend, client, user):
        booked = club.book(client, TEN).json()
        settle(TEN)
        assert club.counted(factories.customer_of(user)) == (60, 0)

        answer = close_at(backend, RAIN)

        assert answer.json()["cancelled"] == [booked["id"]]
        row = Booking.objects.get()
        assert (row.state, row.reason, row.ended_at) == ("cancelled", "rain", RAIN)
        assert (row.hold_id, row.captured_at) == (None, None)
        assert not row.allocations.get().is_live
        assert club.counted(factories.customer_of(user)) == (0, 0)
        assert kinds() == [("hold", 60, 0), ("capture", 60, 60), ("reversal", 60, 0)]
        told = OutboxEvent.objects.get(event_type="booking.cancelled")
        assert (told.occurred_at, told.payload["fee_minor"]) == (RAIN, 0)
        assert Closure.objects.get().is_pending is False

    def test_cancels_what_is_over_as_well(self, backend, client, user):
        over, later = (club.book(client, TEN + hours * HOUR).json() for hours in (0, 2))
        settle(TEN + HOUR)
        assert Booking.objects.get(pk=over["id"]).state == "completed"
        answer = close_at(backend, TEN + 1.5 * HOUR)
        assert answer.json()["cancelled"] == [over["id"], later["id"]]
        assert set(Booking.objects.values_list("state", flat=True)) == {"cancelled"}
        assert club.counted(factories.customer_of(user)) == (0, 0)

    def test_leaves_what_ended_before_it_began(self, backend, client, user):
        club.book(client, TEN - HOUR)
        settle(TEN)
        assert close_at(backend, RAIN).json()["cancelled"] == []
        assert club.counted(factories.customer_of(user)) == (60, 0)

    def test_releases_what_no_job_has_captured_yet(self, backend, client, user):
        club.book(client, TEN)
        assert len(close_at(backend, TEN + 2 * HOUR).json()["cancelled"]) == 1
        assert kinds() == [("hold", 60, 0), ("release", 60, 0)]
        settle(TEN + 5 * HOUR)
        assert Booking.objects.get().state == "cancelled"
        assert club.counted(factories.customer_of(user)) == (0, 0)

    def test_returns_what_a_check_in_captured(self, backend, client, user, court):
        club.make_policy(court.type, requires_check_in=True)
        booked = club.book(client, TEN).json()
        with clock.overridden(factories.standing(TEN)):
            club.act(client, booked["id"], "check-in")
        assert close_at(backend, RAIN).json()["cancelled"] == [booked["id"]]
        assert club.counted(factories.customer_of(user)) == (0, 0)

    def test_leaves_who_did_not_come_and_who_cancelled_late(self, backend, client, user, court):
        club.make_policy(court.type, requires_check_in=True)
        club.book(client, TEN)
        late = club.book(client, TEN + 2 * HOUR).json()
        club.act(client, late["id"], "cancel")
        for at in (TEN + 1.2 * HOUR, TEN + 1.4 * HOUR):  # before and after the job told so
            before = club.counted(factories.customer_of(user))
            assert close_at(backend, at).json()["cancelled"] == []
            assert club.counted(factories.customer_of(user)) == before
            settle(at)
        assert set(Booking.objects.values_list("state", flat=True)) == {"no_show", "cancelled"}
        assert club.counted(factories.customer_of(user)) == (120, 0)

    def test_not_told_is_refused_over_running_ones_and_leaves_what_is_over(
        self, backend, client, user
    ):
        club.book(client, TEN)
        settle(TEN)
        before = kinds()
        refused = close_at(backend, RAIN, cancel_bookings=False)
        assert (refused.status_code, refused.json()["code"]) == (409, "closure_conflict")
        assert not Closure.objects.exists()
        settle(TEN + HOUR)
        made = close_at(backend, TEN + HOUR, cancel_bookings=False)
        assert (made.status_code, made.json()["cancelled"]) == (201, [])
        settle(TEN + 2 * HOUR)
        assert Booking.objects.get().state == "completed"
        assert club.counted(factories.customer_of(user)) == (60, 0)
        assert kinds() == before

    def test_returns_units_exactly_once_however_often_it_closes(self, backend, client, user):
        club.book(client, TEN)
        settle(TEN)
        assert len(close_at(backend, RAIN).json()["cancelled"]) == 1
        before = kinds()
        for at in (RAIN, TEN + 2 * HOUR):
            assert close_at(backend, at).json()["cancelled"] == []
        settle(TEN + 3 * HOUR)
        capture = UsageEntry.objects.get(kind="capture")
        with pytest.raises(metering_errors.EntryAlreadyReversed):
            factories.reverse(factories.customer_of(user), capture.pk, at=TEN + 3 * HOUR)
        assert kinds() == before

    def test_does_not_return_what_staff_has_reversed(self, backend, client, user):
        club.book(client, TEN)
        settle(TEN)
        capture = UsageEntry.objects.get(kind="capture")
        factories.reverse(factories.customer_of(user), capture.pk, at=TEN)
        before = kinds()
        assert len(close_at(backend, RAIN).json()["cancelled"]) == 1
        assert kinds() == before
        assert club.counted(factories.customer_of(user)) == (0, 0)

    def test_gives_grants_their_units_back(self, backend, client, user, at):
        customer = factories.customer_of(user)
        factories.consume(customer, 580, at=at, feature="court_minutes")
        for number, priority in enumerate((1, 200)):
            granting.create(
                customer_id=customer.pk,
                order=granting.Order(feature_key="court_minutes", units=25, priority=priority),
                actor=factories.ACTOR,
                keyed=KeyedRequest(key=f"grant{number}", fingerprint="f"),
                render=lambda row: {"id": str(row.pk)},
                clock=factories.standing(at),
            )
        before = figures()
        club.book(client, TEN)
        settle(TEN)
        assert figures() != before
        assert len(close_at(backend, RAIN).json()["cancelled"]) == 1
        assert figures() == before

    def test_gives_pools_and_several_features_their_units_back(self, backend, client, user, court):
        pool = factories.make_feature("tokens", at=club.STARTED)
        balls = factories.make_feature("balls", at=club.STARTED)
        Feature.objects.filter(pk=balls.pk).update(pool=pool, pool_rate_units=10)
        limits = {"court_minutes": 600, "balls": 50, "tokens": 100}
        factories.make_plan("both", at=club.STARTED, rank=2, limits=limits)
        factories.subscribe(factories.customer_of(user), "both", at=club.STARTED)
        club.make_resource(
            "balls", venue=court.venue, type_=club.make_type("ball", feature="balls", unit="visit")
        )
        both = [{"resource": "court-1"}, {"resource": "balls"}]
        assert club.book(client, TEN, allocations=both).status_code == 201
        settle(TEN)
        customer = factories.customer_of(user)
        keys = ("court_minutes", "balls", "tokens")
        assert [club.counted(customer, key) for key in keys] == [(60, 0), (1, 0), (10, 0)]
        assert len(close_at(backend, RAIN).json()["cancelled"]) == 1
        assert [club.counted(customer, key) for key in keys] == [(0, 0)] * 3

    def test_returns_to_a_period_that_has_ended(self, backend, client, user, court):
        late = club.make_resource("night", venue=court.venue)
        for weekday in range(7):
            OpeningRule.objects.create(
                venue=court.venue,
                resource=late,
                weekday=weekday,
                opens_at="00:00",
                closes_at="00:00",
            )
        start = club.local(1, day=date(2026, 4, 1), hours_east=2)  # an hour before it ends
        booked = club.book(client, start, allocations=[{"resource": "night"}]).json()
        assert booked["balance"]["resets_at"] == "2026-04-01T00:00:00Z"
        settle(start)
        closed = close_at(backend, start + 1.5 * HOUR, starts_at=start, ends_at=start + 3 * HOUR)
        assert closed.json()["cancelled"] == [booked["id"]]
        assert club.counted(factories.customer_of(user)) == (0, 0)
        line = UsageEntry.objects.get(kind="reversal")
        assert clock.rfc3339(line.period_ends_at) == "2026-04-01T00:00:00Z"

    def test_is_finished_after_a_crash(self, backend, client, user, monkeypatch):
        club.book(client, TEN)
        club.book(client, TEN + 2 * HOUR)
        settle(TEN)
        cancel, calls = ending.cancel_closed, []

        class Crash(BaseException):
            """The process dies."""

        def die_at_the_second(**given):
            calls.append(given)
            if len(calls) > 1:
                raise Crash
            return cancel(**given)

        with monkeypatch.context() as broken:
            broken.setattr(ending, "cancel_closed", die_at_the_second)
            with pytest.raises(Crash):
                close_at(backend, RAIN)
        assert sorted(Booking.objects.values_list("state", flat=True)) == ["cancelled", "confirmed"]
        assert jobs.run_due(clock=factories.standing(RAIN)).closed == 1
        assert jobs.run_due(clock=factories.standing(RAIN)).closed == 0
        assert club.counted(factories.customer_of(user)) == (0, 0)
        assert [kind for kind, _, _ in kinds()].count("reversal") == 1

    def test_lifted_before_it_was_finished_cancels_no_more(
        self, backend, client, user, monkeypatch
    ):
        booked = club.book(client, TEN).json()
        settle(TEN)
        monkeypatch.setattr(closures, "_cancel_affected", lambda *_, **__: [])
        close_at(backend, RAIN)
        monkeypatch.undo()
        closure = Closure.objects.get()
        assert closure.is_pending
        closures.lift(closure_id=closure.pk, clock=factories.standing(RAIN))
        assert jobs.run_due(clock=factories.standing(RAIN)).closed == 0
        assert Booking.objects.get(pk=booked["id"]).state == "confirmed"
        assert club.counted(factories.customer_of(user)) == (60, 0)


def figures():
    """Return what is counted, limited, and left of each grant."""
    rows = club.Balance.objects.order_by("id")
    left = Grant.objects.order_by("id").values_list("remaining_units", flat=True)
    return [(row.used_units, row.held_units, row.limit_units) for row in rows], list(left)
