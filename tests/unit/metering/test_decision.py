"""May these units be counted now: every bound exactly, on rows that no database has seen."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from metering import decision
from metering.decision import Denied, Draw, Item, Place, Row, Spot
from metering.models import Balance
from subscriptions.models import UNITS_MAX

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
LATER = NOW + timedelta(microseconds=1)
CALLS, POOL = Place(1, ""), Place(2, "")
KEYS = {CALLS: "api_calls", POOL: "credits"}


def row(*, limit=10, used=0, held=0, carried=0, mode="hard", cap=None, denial=""):
    return Balance(
        limit_units=limit,
        used_units=used,
        held_units=held,
        carried_units=carried,
        mode=mode,
        overage_cap_units=cap,
        denial_code=denial,
    )


def item(units, *, pool_units=None):
    draws = [Draw(place=CALLS, feature_key=KEYS[CALLS], units=units)]
    if pool_units is not None:
        draws.append(Draw(place=POOL, feature_key=KEYS[POOL], units=pool_units))
    return Item(feature_id=1, feature_key="api_calls", units=units, draws=tuple(draws))


def decide(*items, codes=(), **rows):
    places = {"calls": CALLS, "pool": POOL}
    balances = {places[name]: balance for name, balance in rows.items()}
    return decision.decide(items, balances=balances, codes=dict(codes))


class TestDecide:
    @pytest.mark.parametrize("counted", [{"used": 7}, {"held": 7}, {"carried": 7}])
    def test_grants_the_last_unit_and_not_one_more(self, counted):
        balance = row(**counted)
        assert decide(item(3), calls=balance) is None

        more = item(4)
        assert decide(more, calls=balance) == Denied(
            item=more, draw=more.draws[0], code="usage_limit_reached", balance=balance
        )

    def test_adds_up_what_several_items_draw_on_one_balance(self):
        balance, first = row(), item(6)
        assert decide(first, item(4), calls=balance) is None
        assert decide(first, item(2), item(2), calls=balance) is None
        assert decide(first, item(2), item(3), calls=balance) is not None

        third = item(5)
        denied = decide(first, third, calls=balance)
        assert (denied.item, denied.balance) == (third, balance)

    def test_names_the_first_draw_that_refuses(self):
        balance, pool, wanted = row(), row(limit=5), item(1, pool_units=6)
        denied = decide(wanted, calls=balance, pool=pool)
        assert denied == Denied(
            item=wanted, draw=wanted.draws[1], code="usage_limit_reached", balance=pool
        )
        assert decide(item(1, pool_units=5), calls=balance, pool=pool) is None

    def test_says_why_there_is_no_row(self):
        wanted = item(1)
        denied = decide(wanted)
        assert denied == Denied(
            item=wanted, draw=wanted.draws[0], code="feature_not_in_plan", balance=None
        )
        known = decide(wanted, codes={CALLS: "no_active_subscription"})
        assert (known.code, known.balance) == ("no_active_subscription", None)

    def test_refuses_where_the_row_denies_whatever_is_left(self):
        balance, wanted = row(denial="subscription_paused"), item(1)
        assert decide(wanted, calls=balance) == Denied(
            item=wanted, draw=wanted.draws[0], code="subscription_paused", balance=balance
        )


class TestHeadroom:
    @pytest.mark.parametrize(
        ("fields", "units"),
        [
            ({}, 10),
            ({"cap": 5, "mode": "capped"}, 15),
            ({"used": 10}, 0),
            ({"used": 12}, 0),
            ({"mode": "soft"}, UNITS_MAX),
            ({"mode": "soft", "used": 3}, UNITS_MAX - 3),
            ({"limit": None}, UNITS_MAX),
            ({"limit": None, "cap": 5, "mode": "capped"}, UNITS_MAX),
            ({"limit": 0}, 0),
        ],
    )
    def test_is_what_the_mode_lets_the_row_take(self, fields, units):
        assert decision.headroom_units(row(**fields), added_units=0) == units

    def test_counts_what_was_added_before(self):
        assert decision.headroom_units(row(used=2), added_units=3) == 5
        assert decision.headroom_units(row(used=2), added_units=9) == 0


class TestRemaining:
    @pytest.mark.parametrize(
        ("limit", "counted", "left"), [(10, 3, 7), (10, 10, 0), (10, 12, 0), (0, 0, 0)]
    )
    def test_is_what_is_left_below_the_limit(self, limit, counted, left):
        assert decision.remaining_units(limit_units=limit, counted_units=counted) == left

    def test_of_an_unlimited_feature_is_unknown(self):
        assert decision.remaining_units(limit_units=None, counted_units=3) is None


class TestRow:
    """The row as a group of requests holds it in memory."""

    def row(self, **given):
        fields = {
            "spot": Spot(customer_id=UUID(int=1), place=CALLS),
            "pk": 1,
            "used_units": 3,
            "held_units": 2,
            "carried_units": 1,
            "limit_units": 10,
            "mode": "hard",
            "overage_cap_units": None,
            "denial_code": "",
            "is_plain": True,
            "valid_until": None,
            "holds_due_at": None,
            "alert_units": None,
            "decided_at": NOW,
            "period_starts_at": NOW,
            "period_ends_at": None,
        }
        return Row(**(fields | given))

    def test_counts_in_memory_and_notes_what_it_moved(self):
        held = self.row()
        assert (held.counted_units, held.feature_id) == (6, CALLS.feature_id)
        held.count(4)
        held.count(1)
        assert (held.used_units, held.moved_units, held.counted_units) == (8, 5, 11)

    @pytest.mark.parametrize(
        ("given", "suffices"),
        [
            ({}, True),
            ({"is_plain": False}, False),
            ({"valid_until": NOW}, False),
            ({"valid_until": LATER}, True),
            ({"holds_due_at": NOW}, False),
            ({"holds_due_at": LATER}, True),
            ({"valid_until": LATER, "holds_due_at": NOW}, False),
        ],
    )
    def test_suffices_until_something_is_due(self, given, suffices):
        assert self.row(**given).suffices(at=NOW) == suffices
