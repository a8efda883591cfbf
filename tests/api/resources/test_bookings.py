"""Book, show, move and leave bookings: capacity and units in one commit."""

from datetime import UTC, date, datetime, timedelta

import pytest

from core import clock
from core.models import IdempotencyRecord, OutboxEvent
from core.services.idempotency import KeyedRequest
from metering.services import granting
from resources.models import Allocation, Booking, Closure, Participant
from subscriptions.services import actions
from tests import club, factories

pytestmark = pytest.mark.django_db
TEN = club.local(10)
HOUR = timedelta(hours=1)


def time(starts_at: str, ends_at: str) -> dict[str, str]:
    return {"starts_at": starts_at, "ends_at": ends_at}


@pytest.fixture
def user():
    club.make_plan({"court_minutes": 600, "coach_minutes": 120})
    return factories.make_user(at=club.STARTED)


@pytest.fixture
def customer(user):
    return factories.customer_of(user)


@pytest.fixture
def court():
    return club.make_resource(venue=club.make_venue())


@pytest.fixture
def client(user, court, standing_clock):
    return factories.client_for(user)


@pytest.fixture
def other(court, standing_clock):
    return factories.client_for(factories.make_user(at=club.STARTED))


def stored():
    """Return everything that a refusal must leave as it was."""
    return (
        list(Booking.objects.order_by("id").values()),
        list(Allocation.objects.order_by("id").values()),
        list(Participant.objects.order_by("id").values()),
        [(row.used_units, row.held_units) for row in club.Balance.objects.order_by("id")],
        IdempotencyRecord.objects.count(),
        OutboxEvent.objects.count(),
    )


def balance(*, used=0, held=0, limit=600, resets_at="2026-04-01T00:00:00Z", of="court_minutes"):
    """Return a balance as an answer shows it."""
    return {
        "feature": of,
        "used": used,
        "held": held,
        "limit": limit,
        "remaining": limit - used - held,
        "resets_at": resets_at,
    }


def recorded_once(before):
    """Return what was stored, with the one record of a denial beside it and nothing else."""
    return (*before[:4], before[4] + 1, before[5])


def events():
    return [
        (row.event_type, row.payload["fee_minor"]) for row in OutboxEvent.objects.order_by("id")
    ]


class TestBook:
    def test_holds_the_units_with_the_slot(self, client, customer):
        participants = [{"name": "Ann"}, {"name": "Ben", "guest": True}]
        answer = club.book(client, TEN, participants=participants)

        assert answer.status_code == 201, answer.content
        body = answer.json()
        row = Booking.objects.get()
        assert body == {
            "id": str(row.pk),
            "state": "confirmed",
            "venue": "club",
            "starts_at": "2026-03-11T09:00:00Z",
            "ends_at": "2026-03-11T10:00:00Z",
            "time_zone": "Europe/Berlin",
            "allocations": [{"resource": "court-1", "quantity": 1}],
            "units": {"feature": "court_minutes", "units": 60},
            "free_cancel_until": "2026-03-10T09:00:00Z",
            "expires_at": None,
            "checked_in_at": None,
            "series": None,
            "participants": [
                {"name": "Ann", "guest": False},
                {"name": "Ben", "guest": True},
            ],
            "balance": balance(held=60),
        }
        assert club.counted(customer) == (0, 60)
        assert row.due_at == row.starts_at
        assert events() == [("booking.confirmed", 0)]

    def test_replays_to_the_byte_and_books_once(self, client, customer):
        first = club.book(client, TEN, key="one")
        before = stored()
        again = club.book(client, TEN, key="one")
        reused = club.book(client, TEN + HOUR, key="one")

        assert again.content == first.content
        assert (again.status_code, again["Idempotent-Replayed"]) == (201, "true")
        assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
        assert stored() == before
        assert club.counted(customer) == (0, 60)

    def test_refuses_a_taken_slot_with_the_nearest_free_ones_and_no_name(
        self, client, other, court
    ):
        club.make_resource("court-2", venue=court.venue)
        club.book(client, TEN, participants=[{"name": "Ann"}])
        before = stored()

        refused = club.book(other, TEN)

        assert (refused.status_code, refused.json()["code"]) == (409, "slot_taken")
        assert refused.json()["resource"] == "court-1"
        alternatives = refused.json()["alternatives"]
        assert len(alternatives) == 5
        assert alternatives[0] == {
            "resource": "court-2",
            "starts_at": "2026-03-11T09:00:00Z",
            "ends_at": "2026-03-11T10:00:00Z",
        }
        assert "Ann" not in refused.content.decode()
        assert stored() == before

    def test_fits_neighbours_and_keeps_the_larger_gap(self, client, other, court):
        assert club.book(client, TEN).status_code == 201
        assert club.book(other, TEN + HOUR).status_code == 201
        club.make_resource(
            "court-2", venue=court.venue, buffer_before_minutes=30, buffer_after_minutes=15
        )
        second = [{"resource": "court-2"}]
        assert club.book(client, TEN, allocations=second).status_code == 201
        before = stored()
        for starts_at in (TEN + HOUR, TEN - HOUR):
            refused = club.book(other, starts_at, allocations=second)
            assert (refused.status_code, refused.json()["code"]) == (409, "slot_taken")
        assert stored() == before
        assert club.book(other, TEN + 1.5 * HOUR, allocations=second).status_code == 201

    def test_takes_court_coach_and_rackets_together_or_nothing(
        self, client, other, court, customer
    ):
        club.make_resource(
            "anna", venue=court.venue, type_=club.make_type("coach", feature="coach_minutes")
        )
        rackets = club.make_type("racket", feature="court_minutes", unit="visit")
        club.make_resource("rackets", venue=court.venue, type_=rackets, capacity=4)
        everything = [
            {"resource": "court-1"},
            {"resource": "anna"},
            {"resource": "rackets", "quantity": 3},
        ]

        answer = club.book(client, TEN, allocations=everything)

        assert answer.json()["units"] == {
            "items": [
                {"feature": "coach_minutes", "units": 60},
                {"feature": "court_minutes", "units": 63},
            ]
        }
        assert club.counted(customer) == (0, 63)
        assert club.counted(customer, "coach_minutes") == (0, 60)
        assert club.book(other, TEN + HOUR, allocations=[{"resource": "anna"}]).status_code == 201
        before = stored()
        refused = club.book(client, TEN + HOUR, allocations=everything)  # the coach is taken
        assert (refused.status_code, refused.json()["resource"]) == (409, "anna")
        assert stored() == before

    def test_takes_any_of_a_type_and_never_the_same_twice(self, client, other, court):
        club.make_resource("court-2", venue=court.venue)
        club.book(client, TEN)
        one = club.book(other, TEN, allocations=[{"type": "court"}])
        assert one.json()["allocations"] == [{"resource": "court-2", "quantity": 1}]
        two = club.book(client, TEN + HOUR, allocations=[{"type": "court"}] * 2)
        assert [each["resource"] for each in two.json()["allocations"]] == ["court-1", "court-2"]
        before = stored()
        three = club.book(client, TEN + 3 * HOUR, allocations=[{"type": "court"}] * 3)
        assert (three.status_code, three.json()["code"]) == (422, "invalid")
        full = club.book(client, TEN, allocations=[{"type": "court"}])
        assert (full.status_code, full.json()["code"]) == (409, "slot_taken")
        assert stored() == before

    def test_fills_a_class_to_its_places(self, client, other, court):
        club.make_resource("yoga", venue=court.venue, capacity=2)
        places = [{"resource": "yoga"}]
        assert club.book(client, TEN, allocations=places).status_code == 201
        assert club.book(other, TEN + HOUR, allocations=places).status_code == 201
        both = club.book(other, TEN, allocations=places, minutes=120)
        assert both.status_code == 201  # [10,11) + [11,12) + [10,12) of two
        before = stored()
        refused = club.book(client, TEN + HOUR, allocations=places)
        assert (refused.status_code, refused.json()["code"]) == (409, "slot_taken")
        assert stored() == before

    def test_refuses_units_that_are_not_there(self, client, customer, at):
        factories.consume(customer, 560, at=at, feature="court_minutes")
        before = stored()
        refused = club.book(client, TEN, key="one")
        assert (refused.status_code, refused.json()["code"]) == (403, "usage_limit_reached")
        assert (refused.json()["remaining"], refused.json()["requested"]) == (40, 60)
        assert stored() == recorded_once(before)

    def test_is_paid_by_the_period_of_the_start(self, client, customer, at):
        factories.consume(customer, 600, at=at, feature="court_minutes")
        before = stored()
        march = club.book(client, club.local(10, day=date(2026, 3, 31), hours_east=2))
        assert march.json()["code"] == "usage_limit_reached"
        assert stored() == recorded_once(before)
        april = club.book(client, club.local(10, day=date(2026, 4, 1), hours_east=2))
        assert april.status_code == 201, april.content
        rows = club.Balance.objects.filter(customer=customer).order_by("period_starts_at")
        assert [(row.used_units, row.held_units) for row in rows] == [(600, 0), (0, 60)]

    def test_charges_guests_by_the_policy_of_the_day(self, client, court):
        club.make_policy(court.type, guest_fee_minor=500, guests_max=2)
        guests = [{"name": name, "guest": True} for name in ("Ben", "Cleo")]
        assert club.book(client, TEN, participants=guests).status_code == 201
        assert events() == [("booking.confirmed", 1000)]
        before = stored()
        third = [*guests, {"name": "Dan", "guest": True}]
        refused = club.book(client, TEN + HOUR, participants=third)
        assert (refused.status_code, refused.json()["code"]) == (403, "booking_limit_reached")
        assert refused.json()["rule"] == "guests_max"
        assert stored() == before

    def test_lets_a_backend_book_for_a_member_beyond_the_policy(self, client, court, customer):
        club.make_policy(court.type, days_ahead=0)
        backend = factories.service_client()
        named = {"customer": customer.external_key}
        before = stored()
        for refused, status, code in (
            (club.book(backend, TEN), 422, "invalid"),
            (club.book(backend, TEN, **named), 422, "booking_too_far"),
            (club.book(client, TEN, waive_policy=True), 403, "permission_denied"),
            (
                club.book(factories.service_client(scopes=("usage:write",)), TEN, **named),
                403,
                "insufficient_scope",
            ),
        ):
            assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert stored() == before
        done = club.book(backend, TEN, waive_policy=True, **named)
        assert done.status_code == 201
        assert Booking.objects.get().actor.startswith("service key ")
        assert club.counted(customer) == (0, 60)


class TestBadInput:
    @pytest.mark.parametrize(
        ("fields", "status", "code"),
        [
            ({"starts_at": "2026-03-11T10:00:00"}, 400, "naive_datetime"),
            ({"starts_at": "tomorrow"}, 422, "invalid"),
            (
                {"starts_at": "2026-03-10T11:00:00Z", "ends_at": "2026-03-10T12:00:00Z"},
                422,
                "booking_too_soon",
            ),
            (
                {"starts_at": "2026-09-11T09:00:00Z", "ends_at": "2026-09-11T10:00:00Z"},
                422,
                "booking_too_far",
            ),
            (
                {"starts_at": "2026-03-11T09:10:00Z", "ends_at": "2026-03-11T10:10:00Z"},
                422,
                "off_grid",
            ),
            ({"ends_at": "2199-12-31T23:00:00Z"}, 422, "duration_not_allowed"),
            (time("2026-03-11T09:00:01Z", "2026-03-11T10:00:01Z"), 422, "off_grid"),
            ({"starts_at": "2026-03-11T14:45:00+05:45"}, 201, ""),
            ({"starts_at": "2026-03-11T10:00:00+05:45"}, 422, "off_grid"),
            ({"ends_at": "2026-03-11T12:00:00Z"}, 422, "duration_not_allowed"),
            ({"ends_at": "2026-03-11T09:30:00Z"}, 422, "duration_not_allowed"),
            ({"ends_at": "2026-03-11T10:15:00Z"}, 422, "duration_not_allowed"),
            ({"ends_at": "2026-03-11T09:00:00Z"}, 422, "invalid"),
            ({"ends_at": "9999-12-31T23:59:59Z"}, 422, "invalid"),
            (
                {"starts_at": "2026-03-11T06:30:00Z", "ends_at": "2026-03-11T07:30:00Z"},
                422,
                "outside_opening_hours",
            ),
            (
                {"starts_at": "2026-03-11T20:30:00Z", "ends_at": "2026-03-11T21:30:00Z"},
                422,
                "outside_opening_hours",
            ),
            ({"allocations": [{"resource": "court-1", "quantity": 0}]}, 422, "invalid"),
            ({"allocations": [{"resource": "court-1", "quantity": -1}]}, 422, "invalid"),
            ({"allocations": [{"resource": "court-1", "quantity": True}]}, 422, "invalid"),
            ({"allocations": [{"resource": "court-1", "quantity": 2}]}, 422, "capacity_exceeded"),
            ({"allocations": [{"resource": "moon"}]}, 404, "not_found"),
            ({"allocations": [{"type": "moon"}]}, 404, "not_found"),
            ({"allocations": [{"resource": "court-1", "type": "court"}]}, 422, "invalid"),
            ({"allocations": [{"resource": "court-1"}] * 2}, 422, "invalid"),
            ({"allocations": [{"resource": "court-1"}, {"resource": "tatami"}]}, 422, "invalid"),
            ({"allocations": [{"type": "court"}]}, 422, "invalid"),
            ({"allocations": [{"type": "court"}], "venue": "dojo"}, 201, ""),
            ({"allocations": [{"resource": "court-1"}], "venue": "dojo"}, 422, "invalid"),
            ({"allocations": [{"resource": "old"}]}, 404, "not_found"),
            ({"allocations": []}, 422, "invalid"),
            ({"participants": [{"name": "x" * 101}]}, 422, "invalid"),
            ({"participants": [{"name": "Ann", "guest": "yes"}]}, 422, "invalid"),
            ({"time_zone": "Asia/Tokyo"}, 400, "unknown_field"),
            ({"confirm": 1}, 422, "invalid"),
            ({"customer": "nobody"}, 404, "not_found"),
        ],
    )
    def test_is_refused_with_its_problem_and_changes_nothing(
        self, client, court, fields, status, code
    ):
        dojo = club.make_venue(key="dojo", time_zone="Asia/Tokyo")
        club.make_resource("tatami", venue=dojo)
        club.make_resource("old", venue=court.venue, is_active=False)
        before = stored()

        answer = club.book(client, TEN, **fields)

        if status == 201:
            assert answer.status_code == 201
            return
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
        assert answer["Content-Type"] == "application/problem+json"
        assert stored() == before

    def test_needs_a_key(self, client):
        body = {"starts_at": "2026-03-11T09:00:00Z", "ends_at": "2026-03-11T10:00:00Z"}
        answer = client.post(
            "/api/bookings/", body | {"allocations": [{"type": "court"}]}, format="json"
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")

    def test_tells_that_it_is_closed_and_why(self, client, court, at):
        Closure.objects.create(
            venue=court.venue, starts_at=TEN, ends_at=TEN + HOUR, reason="rain", created_at=at
        )
        before = stored()
        refused = club.book(client, TEN)
        assert (refused.status_code, refused.json()["code"]) == (422, "resource_closed")
        assert refused.json()["reason"] == "rain"
        assert stored() == before


class TestDenied:
    """A denial is a decision: it is recorded under its key, as a denied consume is."""

    def test_replays_to_the_byte_though_there_is_room_by_now(self, client, customer, at):
        used = factories.consume(customer, 560, at=at, feature="court_minutes")
        first = club.book(client, TEN, key="one")
        factories.reverse(customer, used.entries[0].pk, at=at)
        before = stored()

        again = club.book(client, TEN, key="one")
        reused = club.book(client, TEN + HOUR, key="one")

        assert (again.status_code, again["Idempotent-Replayed"]) == (403, "true")
        assert again["Content-Type"] == "application/problem+json"
        assert again.content == first.content
        assert "Idempotent-Replayed" not in first
        assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
        assert stored() == before
        assert club.book(client, TEN, key="two").status_code == 201

    @pytest.mark.parametrize(
        ("plan", "end", "code"),
        [
            ("gold", actions.pause, "subscription_paused"),
            ("mail", None, "feature_not_in_plan"),
        ],
    )
    def test_by_the_plan_replays_as_well(self, client, customer, at, plan, end, code):
        limits = {"court_minutes": 900} if plan == "gold" else {"api_calls": 5}
        factories.make_plan(plan, at=club.STARTED, limits=limits, rank=1)
        row = factories.subscribe(customer, plan, at=at)
        if end is not None:
            end(subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(at))
        before = stored()
        first = club.book(client, TEN, key="one")
        assert (first.status_code, first.json()["code"]) == (403, code)
        assert stored() == recorded_once(before)
        actions.cancel_now(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(at)
        )
        assert club.book(client, TEN, key="one").content == first.content
        assert club.book(client, TEN, key="two").status_code == 201

    def test_move_and_series_replay_as_well(self, client, customer, at):
        booked = club.book(client, TEN + 24 * HOUR).json()
        used = factories.consume(customer, 540, at=at, feature="court_minutes")
        before = stored()

        def ask():
            longer = time(clock.rfc3339(TEN + 24 * HOUR), clock.rfc3339(TEN + 26 * HOUR))
            weekly = time(clock.rfc3339(TEN), clock.rfc3339(TEN + HOUR)) | {"occurrences": 2}
            wish = {"allocations": [{"resource": "court-1"}]}
            return [
                club.act(client, booked["id"], "move", key="longer", **longer),
                client.post(
                    "/api/bookings/series/",
                    weekly | wish,
                    format="json",
                    HTTP_IDEMPOTENCY_KEY="weekly",
                ),
            ]

        first = ask()
        assert [each.json()["code"] for each in first] == ["usage_limit_reached"] * 2
        assert stored()[:4] == before[:4]
        factories.reverse(customer, used.entries[0].pk, at=at)
        assert [each.content for each in ask()] == [each.content for each in first]
        assert Booking.objects.get().ends_at == TEN + 25 * HOUR

    def test_is_the_only_refusal_that_is_recorded(self, client, other, court, at):
        club.make_policy(court.type, days_ahead=2)
        club.book(other, TEN)
        before = stored()
        for key, start, code in (
            ("taken", TEN, "slot_taken"),
            ("far", TEN + 72 * HOUR, "booking_too_far"),
            ("night", TEN + 13 * HOUR, "outside_opening_hours"),
        ):
            for _ in range(2):
                refused = club.book(client, start, key=key)
                assert refused.json()["code"] == code
                assert "Idempotent-Replayed" not in refused
        assert stored() == before
        assert club.book(client, TEN + HOUR, key="taken").status_code == 201


class TestBalance:
    """After each move the answer carries what the customer has now, in the period that pays."""

    def test_follows_book_confirm_move_check_in_and_cancel(self, client, customer, court, at):
        club.make_policy(court.type, free_cancel_minutes=0)
        factories.consume(customer, 100, at=at, feature="court_minutes")
        held = club.book(client, TEN, confirm=False).json()
        assert held["balance"] == balance(used=100, held=60)
        confirmed = club.act(client, held["id"], "confirm").json()
        assert confirmed["balance"] == balance(used=100, held=60)
        longer = time(clock.rfc3339(TEN), clock.rfc3339(TEN + 2 * HOUR))
        moved = club.act(client, held["id"], "move", **longer).json()
        assert moved["balance"] == balance(used=100, held=120)
        second = club.book(client, TEN + 4 * HOUR).json()
        assert second["balance"] == balance(used=100, held=180)
        with clock.overridden(factories.standing(TEN)):
            come = club.act(client, held["id"], "check-in").json()
            assert come["balance"] == balance(used=220, held=60)
            left = club.act(client, second["id"], "cancel", key="c").json()
        assert left["balance"] == balance(used=220)
        replayed = club.act(client, second["id"], "cancel", key="c")
        assert replayed.json() == left
        shown = client.get("/api/subscriptions/me/").json()
        assert shown["usage"]["court_minutes"] == left["balance"]["used"]
        assert shown["remaining"]["court_minutes"] == left["balance"]["remaining"]

    def test_is_that_of_the_period_of_the_start(self, client, customer, at):
        factories.consume(customer, 600, at=at, feature="court_minutes")
        april = club.local(10, day=date(2026, 4, 8), hours_east=2)
        booked = club.book(client, april).json()
        assert booked["balance"] == balance(held=60, resets_at="2026-05-01T00:00:00Z")
        assert client.get("/api/subscriptions/me/").json()["remaining"]["court_minutes"] == 0

    def test_of_several_features_stands_in_items(self, client, court):
        club.make_resource(
            "anna", venue=court.venue, type_=club.make_type("coach", feature="coach_minutes")
        )
        both = [{"resource": "court-1"}, {"resource": "anna"}]
        assert club.book(client, TEN, allocations=both).json()["balance"] == {
            "items": [balance(held=60, limit=120, of="coach_minutes"), balance(held=60)]
        }

    def test_of_an_unlimited_feature_has_no_limit(self, client, customer, at):
        factories.make_plan("gold", at=club.STARTED, limits={"court_minutes": None}, rank=1)
        factories.subscribe(customer, "gold", at=at)
        shown = club.book(client, TEN).json()["balance"]
        assert (shown["held"], shown["limit"], shown["remaining"]) == (60, None, None)

    def test_counts_grants_as_the_limit_does(self, client, customer, at):
        factories.consume(customer, 590, at=at, feature="court_minutes")
        granting.create(
            customer_id=customer.pk,
            order=granting.Order(feature_key="court_minutes", units=100),
            actor=factories.ACTOR,
            keyed=KeyedRequest(key="grant", fingerprint="f"),
            render=lambda row: {"id": str(row.pk)},
            clock=factories.standing(at),
        )
        assert club.book(client, TEN).json()["balance"] == balance(used=590, held=60, limit=700)

    def test_costs_one_statement_more_than_the_booking(self, client, django_assert_num_queries):
        club.book(client, TEN)
        # BEGIN and COMMIT are savepoints of the test; with all that is locked, read and written
        with django_assert_num_queries(33):
            club.book(client, TEN + 2 * HOUR)


class TestHeld:
    def test_waits_to_be_confirmed(self, client, customer, court):
        club.make_policy(court.type, guest_fee_minor=300)
        held = club.book(
            client, TEN, confirm=False, participants=[{"name": "Ben", "guest": True}]
        ).json()
        assert (held["state"], held["expires_at"]) == ("held", "2026-03-10T12:10:00Z")
        confirmed = club.act(client, held["id"], "confirm")
        assert (confirmed.json()["state"], confirmed.json()["expires_at"]) == ("confirmed", None)
        assert club.act(client, held["id"], "confirm").json() == confirmed.json()
        assert club.counted(customer) == (0, 60)
        assert events() == [("booking.held", 0), ("booking.confirmed", 300)]

    def test_lapses_by_itself_and_frees_slot_and_units_without_any_job(
        self, client, other, customer, at
    ):
        held = club.book(client, TEN, confirm=False, minutes=120).json()
        later = at + timedelta(minutes=10)
        with clock.overridden(factories.standing(later)):
            assert client.get(f"/api/bookings/{held['id']}/").json()["state"] == "expired"
            refused = club.act(client, held["id"], "confirm")
            assert (refused.status_code, refused.json()["code"]) == (409, "invalid_transition")
            assert club.counted(customer) == (0, 120)  # as stored, until somebody needs it
            assert club.book(other, TEN).status_code == 201
        assert club.counted(customer) == (0, 0)
        row = Booking.objects.get(pk=held["id"])
        assert (row.state, row.ended_at) == ("expired", later)

    def test_own_lapsed_units_are_back_before_they_are_missed(self, client, customer, at):
        factories.consume(customer, 540, at=at, feature="court_minutes")
        club.book(client, TEN, confirm=False)
        with clock.overridden(factories.standing(at + timedelta(minutes=10))):
            assert club.book(client, TEN + 3 * HOUR).status_code == 201
        assert club.counted(customer) == (540, 60)


class TestCancel:
    def test_returns_all_units_in_time_and_the_slot_at_once(self, client, other, customer):
        early = club.book(client, TEN + 24 * HOUR).json()
        cancelled = club.act(client, early["id"], "cancel", reason="ill")
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
        assert club.counted(customer) == (0, 0)
        assert Booking.objects.get().reason == "ill"
        assert events()[-1] == ("booking.cancelled", 0)
        assert club.book(other, TEN + 24 * HOUR).status_code == 201

    def test_captures_by_the_terms_of_the_day_it_was_booked(self, client, customer, court):
        policy = club.make_policy(
            court.type, free_cancel_minutes=1440, late_units_percent=50, late_fee_minor=700
        )
        late = club.book(client, TEN, minutes=90).json()
        policy.late_units_percent = 100
        policy.save()
        preview = club.act(client, late["id"], "cancel/preview")
        assert preview.json() == {
            "late": True,
            "captured": [{"feature": "court_minutes", "units": 45}],
            "returned": [{"feature": "court_minutes", "units": 45}],
            "fee_minor": 700,
            "currency": "EUR",
            "free_cancel_until": "2026-03-10T09:00:00Z",
        }
        assert club.counted(customer) == (0, 90)
        club.act(client, late["id"], "cancel")
        assert club.counted(customer) == (45, 0)
        assert events()[-1] == ("booking.cancelled", 700)

    def test_is_free_up_to_the_last_instant(self, client, customer, court):
        club.make_policy(court.type, free_cancel_minutes=22 * 60)
        at_the_limit = club.book(client, TEN + HOUR).json()
        assert at_the_limit["free_cancel_until"] == "2026-03-10T12:00:00Z"
        assert club.act(client, at_the_limit["id"], "cancel/preview").json()["late"] is False

    def test_twice_is_once(self, client, customer):
        booked = club.book(client, TEN).json()
        first = club.act(client, booked["id"], "cancel", key="c1")
        before = stored()[:4]
        replayed = club.act(client, booked["id"], "cancel", key="c1")
        again = club.act(client, booked["id"], "cancel", key="c2")
        assert replayed["Idempotent-Replayed"] == "true"
        assert first.content == replayed.content == again.content
        assert stored()[:4] == before

    def test_is_refused_once_it_has_begun(self, client, customer):
        booked = club.book(client, TEN).json()
        before = stored()
        with clock.overridden(factories.standing(TEN)):
            for move in ("cancel", "cancel/preview"):
                refused = club.act(client, booked["id"], move)
                assert (refused.status_code, refused.json()["code"]) == (409, "invalid_transition")
        assert stored() == before


class TestMove:
    def test_exchanges_time_and_units_in_one_commit(self, client, other, customer, court):
        booked = club.book(client, TEN + 24 * HOUR).json()
        moved = club.act(
            client,
            booked["id"],
            "move",
            starts_at="2026-04-01T08:00:00Z",
            ends_at="2026-04-01T10:00:00Z",
        )
        assert moved.status_code == 200, moved.content
        body = moved.json()
        assert (body["id"], body["starts_at"]) == (booked["id"], "2026-04-01T08:00:00Z")
        assert body["units"]["units"] == 120
        rows = club.Balance.objects.filter(customer=customer).order_by("period_starts_at")
        assert [row.held_units for row in rows] == [0, 120]
        assert club.book(other, TEN + 24 * HOUR).status_code == 201
        assert events()[1] == ("booking.moved", 0)

    def test_may_overlap_its_own_old_time(self, client, customer):
        booked = club.book(client, TEN + 24 * HOUR).json()
        start = TEN + 24.5 * HOUR
        moved = club.act(
            client,
            booked["id"],
            "move",
            starts_at=clock.rfc3339(start),
            ends_at=clock.rfc3339(start + HOUR),
        )
        assert moved.status_code == 200
        assert club.counted(customer) == (0, 60)

    def test_leaves_the_old_where_the_new_fails(self, client, other, customer, at):
        booked = club.book(client, TEN + 24 * HOUR).json()
        club.book(other, TEN)
        factories.consume(customer, 500, at=at, feature="court_minutes")
        before = stored()
        for starts_at, hours, status, code in (
            (TEN, 1, 409, "slot_taken"),
            (TEN + 48 * HOUR, 2, 403, "usage_limit_reached"),
            (TEN + 13 * HOUR, 1, 422, "outside_opening_hours"),
        ):
            refused = club.act(
                client,
                booked["id"],
                "move",
                starts_at=clock.rfc3339(starts_at),
                ends_at=clock.rfc3339(starts_at + hours * HOUR),
            )
            assert (refused.status_code, refused.json()["code"]) == (status, code)
            before = recorded_once(before) if status == 403 else before
            assert stored() == before
        assert club.counted(customer) == (500, 60)

    def test_counts_the_old_units_as_returned(self, client, customer, at):
        booked = club.book(client, TEN + 24 * HOUR).json()
        factories.consume(customer, 480, at=at, feature="court_minutes")
        moved = club.act(
            client,
            booked["id"],
            "move",
            starts_at=clock.rfc3339(TEN + 48 * HOUR),
            ends_at=clock.rfc3339(TEN + 50 * HOUR),
        )
        assert moved.status_code == 200
        assert club.counted(customer) == (480, 120)

    def test_is_refused_where_leaving_would_cost(self, client):
        booked = club.book(client, TEN).json()  # within a day
        before = stored()
        refused = club.act(
            client,
            booked["id"],
            "move",
            starts_at=clock.rfc3339(TEN + 48 * HOUR),
            ends_at=clock.rfc3339(TEN + 49 * HOUR),
        )
        assert (refused.status_code, refused.json()["code"]) == (409, "invalid_transition")
        assert stored() == before


class TestCheckIn:
    def test_captures_the_units_once(self, client, customer):
        booked = club.book(client, TEN).json()
        before = stored()
        early = club.act(client, booked["id"], "check-in")
        assert (early.status_code, early.json()["code"]) == (409, "invalid_transition")
        assert stored() == before
        with clock.overridden(factories.standing(TEN - timedelta(minutes=60))):
            done = club.act(client, booked["id"], "check-in")
            assert done.json()["checked_in_at"] == "2026-03-11T08:00:00Z"
            assert club.act(client, booked["id"], "check-in").content == done.content
        assert club.counted(customer) == (60, 0)


class TestReads:
    def test_lists_newest_first_and_only_one_s_own(self, client, other, django_assert_num_queries):
        for hours in range(3):
            club.book(client, TEN + hours * HOUR)
        foreign = club.book(other, TEN + 5 * HOUR).json()["id"]
        with django_assert_num_queries(4):  # identity, bookings, allocations, participants
            listed = client.get("/api/bookings/").json()["results"]
        assert [each["starts_at"][11:16] for each in listed] == ["11:00", "10:00", "09:00"]
        for url in (f"/api/bookings/{foreign}/", f"/api/bookings/{foreign}.ics"):
            assert client.get(url).status_code == 404
        for move in ("cancel", "confirm", "check-in", "cancel/preview"):
            assert club.act(client, foreign, move).status_code == 404
        assert Booking.objects.get(pk=foreign).state == "confirmed"

    def test_shows_a_calendar_event(self, client, court, django_assert_num_queries):
        court.name = "Court 1; the blue, " + "very " * 20 + "long one"
        court.save()
        booked = club.book(client, TEN).json()
        with django_assert_num_queries(4):
            answer = client.get(f"/api/bookings/{booked['id']}.ics")
        assert answer["Content-Type"] == "text/calendar; charset=utf-8"
        text = answer.content.decode()
        lines = text.split("\r\n")
        assert lines[0] == "BEGIN:VCALENDAR"
        assert text.endswith("END:VCALENDAR\r\n")
        assert f"UID:{booked['id']}" in lines
        assert "DTSTART:20260311T090000Z" in lines
        assert "DTEND:20260311T100000Z" in lines
        assert "STATUS:CONFIRMED" in lines
        assert all(len(line.encode()) <= 75 for line in lines)
        unfolded = text.replace("\r\n ", "")
        assert "SUMMARY:Court 1\\; the blue\\, very " in unfolded
        club.act(client, booked["id"], "cancel")
        again = client.get(f"/api/bookings/{booked['id']}.ics").content.decode()
        assert "STATUS:CANCELLED" in again


class TestPolicies:
    def test_count_what_the_customer_has(self, client, court):
        club.make_policy(court.type, active_max=1)
        assert club.book(client, TEN).status_code == 201
        before = stored()
        refused = club.book(client, TEN + 2 * HOUR)
        assert (refused.status_code, refused.json()["code"]) == (403, "booking_limit_reached")
        assert (refused.json()["rule"], refused.json()["limit"]) == ("active_max", 1)
        assert stored() == before

    def test_are_those_of_the_plan_in_force(self, client, court, customer, at):
        factories.make_plan("gold", at=club.STARTED, limits={"court_minutes": 900}, rank=1)
        club.make_policy(court.type, days_ahead=0)
        club.make_policy(court.type, plan=factories.Plan.objects.get(key="gold"), days_ahead=7)
        assert club.book(client, TEN).json()["code"] == "booking_too_far"
        factories.subscribe(customer, "gold", at=at)
        assert club.book(client, TEN).status_code == 201

    def test_price_peak_hours(self, client, court, customer):
        peak = {
            "weekday": 2,
            "starts_at": "17:00",
            "ends_at": "20:00",
            "rate_percent": 150,
            "active_max": 1,
        }
        club.make_policy(court.type, peaks=[peak])
        body = club.book(client, club.local(17)).json()
        assert body["units"] == {"feature": "court_minutes", "units": 90}
        assert club.counted(customer) == (0, 90)
        refused = club.book(client, club.local(18))
        assert refused.json()["rule"] == "peak_active_max"


class TestDaylightSaving:
    def test_books_both_half_past_twos_and_never_the_missing_one(self, client, court, user):
        night = club.make_resource("night", venue=court.venue)
        for weekday in range(7):
            club.OpeningRule.objects.create(
                venue=court.venue,
                resource=night,
                weekday=weekday,
                opens_at="00:00",
                closes_at="00:00",
            )
        at = datetime(2026, 10, 20, 12, tzinfo=UTC)
        want = [{"resource": "night"}]
        with clock.overridden(factories.standing(at)):
            for start in (
                datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
                datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
            ):
                assert club.book(client, start, allocations=want).status_code == 201
        at = datetime(2027, 3, 20, 12, tzinfo=UTC)
        with clock.overridden(factories.standing(at)):
            body = client.get(
                "/api/resources/availability/", {"type": "court", "date": "2027-03-28"}
            ).json()
            starts = [s["starts_at"] for s in body["slots"] if s["resource"] == "night"]
            assert "2027-03-28T00:30:00Z" in starts  # 01:30
            assert "2027-03-28T01:00:00Z" in starts  # 03:00
            assert len(starts) == 46
