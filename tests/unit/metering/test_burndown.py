"""The burn-down: every vector, and each operation by hand."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from metering import burndown
from metering.burndown import WHOLE_AMOUNT, Burn, Item, Source, State

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "credits.json").read_text())
JANUARY = datetime(2025, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2025, 2, 1, tzinfo=UTC)
MARCH = datetime(2025, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def instant(text):
    return text and datetime.fromisoformat(text)


def source(name="A", amount=100, **fields):
    defaults = {"priority": 1, "effective_at": JANUARY, "created_at": JANUARY}
    return Source(id=name, amount=amount, **(defaults | fields))


def allowance(amount=1000, **fields):
    defaults = {"refills": True, "rollover_max": 0}
    return source("plan", amount, **(defaults | fields))


def state_of(*sources, period_ends_at=FEBRUARY):
    state = State(period_ends_at=period_ends_at)
    for each in sources:
        burndown.begin(state, each)
    return state


def left(state):
    return {each.id: each.balance for each in state.sources.values()}


def facts(state, at):
    return burndown.balances(state, at=at), state.overage, state.grant_used


def check(state, at):
    """Hold the state to what is true of every state after `cover`."""
    standing = [item.overage for item in state.items.values()]
    assert sum(standing) == state.overage
    assert state.overage == 0 or burndown.balance(state, at=at) == 0
    assert all(each.balance >= 0 for each in state.sources.values())


class TestVectors:
    @pytest.mark.parametrize("vector", VECTORS["burn_down"], ids=lambda vector: vector["id"])
    def test_burn_in_their_order(self, vector):
        state = State()
        for grant in vector["grants"]:
            instants = {key: instant(grant.get(key)) for key in ("effective_at", "created_at")}
            ends = {key: instant(grant.get(key)) for key in ("expires_at", "voided_at")}
            burndown.begin(
                state,
                Source(
                    id=grant["id"],
                    amount=grant["amount"],
                    priority=grant["priority"],
                    category=grant.get("category", "paid"),
                    **instants,
                    **ends,
                ),
            )
        pairs = list(zip(vector["usage"], vector["expected"]["log"], strict=True))
        for number, (usage, log) in enumerate(pairs):
            at = instant(usage["at"])
            if log["result"] == "denied":
                assert burndown.balance(state, at=at) == log["available"] < usage["amount"]
                continue
            item = burndown.use(state, item_id=str(number), at=at, units=usage["amount"])
            assert [[burn.source_id, burn.units] for burn in item.burns] == log["from"]
            assert item.overage == log["overage"]
        assert left(state) == vector["expected"]["balances"]
        assert state.overage == vector["expected"]["overage"]

    @pytest.mark.parametrize("vector", VECTORS["rollover"], ids=lambda vector: vector["id"])
    def test_roll_over_within_their_bounds(self, vector):
        kept = source(
            balance=vector["balance_at_reset"],
            rollover_min=vector["min_rollover"],
            rollover_max=vector["max_rollover"],
        )
        state = State(sources={"A": kept})
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        assert kept.balance == vector["expected_after_reset"]

    @pytest.mark.parametrize("vector", VECTORS["rollover_plan"], ids=lambda vector: vector["id"])
    def test_refill_beside_what_rolls_over(self, vector):
        cap = vector.get("max_rollover", 0)
        state = state_of(allowance(vector["included"], rollover_max=cap))
        burndown.use(state, item_id="u", at=JANUARY + DAY, units=vector["used"])
        preserve = vector.get("preserve_overage", False)
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=preserve)
        assert burndown.balance(state, at=FEBRUARY) == vector["expected_next"]
        check(state, FEBRUARY)


class TestBurnOrder:
    def test_ranks_priority_end_category_start_creation_and_id(self):
        ranked = [
            source("first", priority=1),
            allowance(priority=2),
            source("ends", priority=2, expires_at=FEBRUARY + DAY),
            source("gift", priority=2, category="promotional", effective_at=JANUARY + DAY),
            source("early", priority=2, created_at=JANUARY + DAY),
            source("a", priority=2, effective_at=JANUARY + DAY),
            source("b", priority=2, effective_at=JANUARY + DAY),
            source("made later", priority=2, effective_at=JANUARY + DAY, created_at=JANUARY + DAY),
        ]
        for many in (ranked, ranked[::-1]):
            state = state_of(*many)
            item = burndown.use(state, item_id="u", at=JANUARY + DAY, units=1650)
            burnt = [burn.source_id for burn in item.burns]
            assert burnt == [each.id for each in ranked]
            burndown.give_back(state, item_id="u", at=JANUARY + DAY, units=1650)

    def test_follows_the_period_of_a_source_that_refills(self):
        ends_between = source("B", expires_at=FEBRUARY + DAY)
        state = state_of(allowance(10), ends_between)
        assert state.ready[0][-1] == "plan"
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        assert state.ready[0][-1] == "B"

    def test_takes_the_own_end_of_a_source_that_refills_where_no_period_ends(self):
        plan = allowance(10, expires_at=MARCH)
        assert plan.burn_key(period_ends_at=None)[1] == MARCH
        assert plan.burn_key(period_ends_at=FEBRUARY)[1] == FEBRUARY
        assert plan.burn_key(period_ends_at=MARCH + DAY)[1] == MARCH


class TestUse:
    def test_leaves_overage_where_the_sources_end(self):
        state = state_of(source("A", 30), source("B", 20, priority=2))
        item = burndown.use(state, item_id="u", at=JANUARY + DAY, units=60)
        assert [(burn.source_id, burn.units) for burn in item.burns] == [("A", 30), ("B", 20)]
        assert facts(state, JANUARY + DAY) == ({"A": 0, "B": 0}, 10, 50)

    def test_goes_on_with_the_source_after_an_exhausted_one(self):
        state = state_of(*(source(name, 30, priority=n) for n, name in enumerate("ABCD")))
        burndown.use(state, item_id="u", at=JANUARY, units=30)
        burndown.use(state, item_id="v", at=JANUARY, units=10)
        assert left(state) == {"A": 0, "B": 20, "C": 30, "D": 30}
        assert [key[-1] for key in state.ready] == ["B", "C", "D"]

    def test_keeps_when_and_in_which_turn_and_period_it_burnt(self):
        state = state_of(source("A", 30))
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        item = burndown.use(state, item_id="u", at=FEBRUARY + DAY, units=10, order=7)
        assert (item.at, item.order) == (FEBRUARY + DAY, 7)
        (burn,) = item.burns
        assert (burn.at, burn.period, burn.order) == (FEBRUARY + DAY, 1, 1)
        assert burndown.use(state, item_id="v", at=FEBRUARY + DAY, units=1).order == 0

    def test_leaves_no_exhausted_source_in_line(self):
        state = state_of(*(source(name, 30, priority=n) for n, name in enumerate("ABC")))
        burndown.use(state, item_id="u", at=JANUARY, units=60)
        assert [key[-1] for key in state.ready] == ["C"]

    def test_passes_by_what_has_ended(self):
        state = state_of(source("A", expires_at=JANUARY + DAY), source("B", priority=2))
        burndown.use(state, item_id="u", at=JANUARY + DAY, units=40)
        assert facts(state, JANUARY + DAY) == ({"B": 60}, 0, 40)
        assert left(state) == {"A": 100, "B": 60}


class TestCover:
    def test_serves_the_oldest_item_first(self):
        state = State()
        for number, day in enumerate([3, 1, 2, 1]):
            burndown.use(
                state, item_id=f"u{number}", at=JANUARY + day * DAY, units=10, order=number
            )
        burndown.begin(state, source("A", 25, effective_at=JANUARY + 4 * DAY))
        burndown.cover(state, at=JANUARY + 4 * DAY)
        assert {key: item.overage for key, item in state.items.items()} == {
            "u0": 10,
            "u1": 0,
            "u2": 5,
            "u3": 0,
        }
        assert facts(state, JANUARY + 4 * DAY) == ({"A": 0}, 15, 25)

    def test_changes_nothing_without_overage(self):
        state = state_of(source())
        burndown.cover(state, at=JANUARY)
        assert facts(state, JANUARY) == ({"A": 100}, 0, 0)


class TestGiveBack:
    def test_takes_overage_first_then_the_last_burn(self):
        state = state_of(source("A", 30), source("B", 20, priority=2))
        item = burndown.use(state, item_id="u", at=JANUARY, units=60)
        burndown.give_back(state, item_id="u", at=JANUARY, units=15)
        assert facts(state, JANUARY) == ({"A": 0, "B": 5}, 0, 45)
        burndown.give_back(state, item_id="u", at=JANUARY, units=20)
        assert facts(state, JANUARY) == ({"A": 5, "B": 20}, 0, 25)
        assert [(burn.source_id, burn.units) for burn in item.burns] == [("A", 25)]

    def test_lets_the_overage_of_others_burn_what_came_back(self):
        state = state_of(source("A", 30))
        burndown.use(state, item_id="u", at=JANUARY, units=30)
        burndown.use(state, item_id="v", at=JANUARY, units=20)
        burndown.give_back(state, item_id="u", at=JANUARY, units=25)
        assert facts(state, JANUARY) == ({"A": 5}, 0, 25)
        assert state.items["v"].burns[0].units == 20

    @pytest.mark.parametrize("end", ["expires_at", "voided_at"])
    def test_is_lost_where_the_source_has_ended(self, end):
        state = state_of(source("A", **{end: JANUARY + DAY}))
        burndown.use(state, item_id="u", at=JANUARY, units=30)
        burndown.give_back(state, item_id="u", at=JANUARY + DAY, units=30)
        assert (left(state), state.grant_used) == ({"A": 70}, 0)

    @pytest.mark.parametrize(
        ("fields", "after"),
        [
            ({"refills": True, "rollover_max": None}, 195),
            ({"rollover_max": 3}, 3),
            ({"rollover_min": 100}, 100),
        ],
    )
    def test_is_lost_where_a_reset_changed_the_balance(self, fields, after):
        state = state_of(source("A", **fields))
        burndown.use(state, item_id="u", at=JANUARY, units=5)
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        burndown.give_back(state, item_id="u", at=FEBRUARY, units=5)
        assert facts(state, FEBRUARY) == ({"A": after}, 0, 0)

    def test_comes_back_over_a_reset_that_left_the_balance(self):
        state = state_of(source("A"))
        burndown.use(state, item_id="u", at=JANUARY, units=5)
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        burndown.give_back(state, item_id="u", at=FEBRUARY, units=5)
        assert facts(state, FEBRUARY) == ({"A": 100}, 0, 0)

    def test_is_lost_after_a_recurrence(self):
        state = state_of(source("A"))
        burndown.use(state, item_id="u", at=JANUARY, units=5)
        burndown.recur(state, source_id="A", at=JANUARY + DAY)
        burndown.give_back(state, item_id="u", at=JANUARY + DAY, units=5)
        assert facts(state, JANUARY + DAY) == ({"A": 100}, 0, 0)

    def test_takes_what_a_reset_forgave_before_the_burns(self):
        state = state_of(source("A", 100))
        item = burndown.use(state, item_id="u", at=JANUARY, units=130)
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        assert (item.overage, item.forgiven) == (0, 30)
        burndown.give_back(state, item_id="u", at=FEBRUARY, units=50)
        assert facts(state, FEBRUARY) == ({"A": 20}, 0, 0)
        assert item.forgiven == 0
        burndown.give_back(state, item_id="u", at=FEBRUARY, units=80)
        assert facts(state, FEBRUARY) == ({"A": 100}, 0, 0)

    def test_takes_what_stands_as_overage_before_what_was_forgiven(self):
        state = state_of(source("A", 100))
        item = burndown.use(state, item_id="u", at=JANUARY, units=130)
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        burndown.set_amount(state, source_id="A", at=FEBRUARY, amount=80)
        assert (item.overage, item.forgiven) == (20, 30)
        burndown.give_back(state, item_id="u", at=FEBRUARY, units=25)
        assert (item.overage, item.forgiven) == (0, 25)
        assert facts(state, FEBRUARY) == ({"A": 0}, 0, 0)

    def test_takes_overage_what_was_forgiven_and_burns_together(self):
        state = state_of(source("A", 100))
        item = burndown.use(state, item_id="u", at=JANUARY, units=130)
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        burndown.set_amount(state, source_id="A", at=FEBRUARY, amount=80)
        burndown.give_back(state, item_id="u", at=FEBRUARY, units=130)
        assert (item.overage, item.forgiven, item.burns) == (0, 0, [])
        assert facts(state, FEBRUARY) == ({"A": 80}, 0, 0)

    def test_is_refused_beyond_what_stands_and_changes_nothing(self):
        state = state_of(source("A", 10))
        burndown.use(state, item_id="u", at=JANUARY, units=12)
        with pytest.raises(ValueError, match="13 units were never used by u"):
            burndown.give_back(state, item_id="u", at=JANUARY, units=13)
        assert facts(state, JANUARY) == ({"A": 0}, 2, 10)
        assert state.items["u"].overage == 2


class TestSetAmount:
    def test_moves_the_balance_by_the_difference(self):
        state = state_of(allowance(1000))
        burndown.use(state, item_id="u", at=JANUARY, units=120)
        burndown.set_amount(state, source_id="plan", at=JANUARY + DAY, amount=500)
        assert facts(state, JANUARY + DAY) == ({"plan": 380}, 0, 120)

    def test_uncovers_the_last_burnt_first_and_covers_it_again(self):
        state = state_of(allowance(1000))
        burndown.use(state, item_id="u", at=JANUARY, units=400)
        burndown.use(state, item_id="v", at=JANUARY, units=300, order=1)
        burndown.set_amount(state, source_id="plan", at=JANUARY + DAY, amount=300)
        burndown.cover(state, at=JANUARY + DAY)
        assert facts(state, JANUARY + DAY) == ({"plan": 0}, 400, 300)
        assert [state.items[key].overage for key in "uv"] == [100, 300]
        burndown.set_amount(state, source_id="plan", at=JANUARY + 2 * DAY, amount=800)
        burndown.cover(state, at=JANUARY + 2 * DAY)
        assert facts(state, JANUARY + 2 * DAY) == ({"plan": 100}, 0, 700)

    def test_lets_another_source_cover_what_it_uncovers(self):
        state = state_of(source("A", 50), source("B", 50, priority=2))
        burndown.use(state, item_id="u", at=JANUARY, units=50)
        burndown.set_amount(state, source_id="A", at=JANUARY, amount=20)
        burndown.cover(state, at=JANUARY)
        assert facts(state, JANUARY) == ({"A": 0, "B": 20}, 0, 50)

    def test_of_an_ended_source_changes_the_amount_alone(self):
        state = state_of(source("A", expires_at=JANUARY + DAY))
        burndown.use(state, item_id="u", at=JANUARY, units=90)
        burndown.set_amount(state, source_id="A", at=JANUARY + DAY, amount=0)
        assert (left(state), state.overage, state.sources["A"].amount) == ({"A": 10}, 0, 0)

    def test_of_a_period_before_leaves_what_is_used_in_this_one(self):
        state = state_of(source("A"))
        burndown.use(state, item_id="u", at=JANUARY, units=60)
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        burndown.set_amount(state, source_id="A", at=FEBRUARY, amount=30)
        assert facts(state, FEBRUARY) == ({"A": 0}, 30, 0)
        burndown.give_back(state, item_id="u", at=FEBRUARY, units=60)
        assert facts(state, FEBRUARY) == ({"A": 30}, 0, 0)

    def test_owes_by_itself_what_nobody_burnt(self):
        state = state_of(source("A", rollover_max=10))
        used = burndown.use(state, item_id="u", at=JANUARY, units=60)
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        burndown.set_amount(state, source_id="A", at=FEBRUARY, amount=50)
        assert facts(state, FEBRUARY) == ({"A": 0}, 40, 0)
        assert used.overage == 0
        burndown.set_amount(state, source_id="A", at=FEBRUARY, amount=40)
        assert facts(state, FEBRUARY) == ({"A": 0}, 50, 0)
        assert [item.overage for item in state.items.values()] == [0, 50]

    def test_names_what_nobody_burnt_by_its_instant_and_puts_it_first(self):
        state = state_of(source("A", rollover_max=0))
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        for amount in (90, 70):
            burndown.set_amount(state, source_id="A", at=FEBRUARY, amount=amount)
        (cut,) = state.items.values()
        assert state.items == {"A cut at 2025-02-01T00:00:00+00:00": cut}
        assert (cut.id, cut.at, cut.order, cut.overage) == (
            "A cut at 2025-02-01T00:00:00+00:00",
            FEBRUARY,
            -1,
            30,
        )


class TestRecur:
    def test_gives_the_whole_amount_and_carries_nothing(self):
        state = state_of(source("A"))
        burndown.use(state, item_id="u", at=JANUARY, units=130)
        burndown.recur(state, source_id="A", at=JANUARY + DAY)
        burndown.cover(state, at=JANUARY + DAY)
        assert facts(state, JANUARY + DAY) == ({"A": 70}, 0, 130)
        assert state.sources["A"].epoch == 1

    def test_again_is_another_epoch(self):
        state = state_of(source("A"))
        for _ in range(2):
            burndown.recur(state, source_id="A", at=JANUARY + DAY)
        assert state.sources["A"].epoch == 2

    def test_of_an_ended_source_changes_nothing(self):
        state = state_of(source("A", voided_at=JANUARY + DAY))
        burndown.use(state, item_id="u", at=JANUARY, units=30)
        burndown.recur(state, source_id="A", at=JANUARY + DAY)
        assert (left(state), state.sources["A"].epoch) == ({"A": 70}, 0)


class TestReset:
    def test_forgives_overage_or_lets_it_burn_the_new_units(self):
        for preserve, expected in [(True, ({"plan": 70}, 0, 30)), (False, ({"plan": 100}, 0, 0))]:
            state = state_of(allowance(100))
            burndown.use(state, item_id="u", at=JANUARY, units=130)
            burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=preserve)
            assert facts(state, FEBRUARY) == expected

    def test_keeps_as_overage_what_the_new_units_do_not_cover(self):
        state = state_of(allowance(100))
        burndown.use(state, item_id="u", at=JANUARY, units=250)
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=True)
        assert facts(state, FEBRUARY) == ({"plan": 0}, 50, 100)

    def test_keeps_the_whole_amount_in_force(self):
        top_up = source("A", rollover_max=WHOLE_AMOUNT)
        state = state_of(top_up)
        burndown.set_amount(state, source_id="A", at=JANUARY, amount=150)
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        assert (top_up.balance, top_up.epoch) == (150, 0)

    def test_counts_the_periods_that_it_opens(self):
        state = state_of(source("A"))
        for times, period in ((3, 3), (1, 4)):
            burndown.reset(
                state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False, times=times
            )
            assert (state.period, state.period_ends_at) == (period, MARCH)

    def test_passes_by_what_has_ended(self):
        state = state_of(source("A", expires_at=FEBRUARY, rollover_max=0))
        burndown.reset(state, at=FEBRUARY, period_ends_at=MARCH, preserve_overage=False)
        assert left(state) == {"A": 100}
        assert burndown.balances(state, at=FEBRUARY) == {}


class TestPartOfTheItems:
    """A state with only the items that an operation touches does what the whole one does."""

    def test_is_enough(self):
        whole = state_of(source("A", 50), source("B", 50, priority=2))
        for number in range(6):
            burndown.use(whole, item_id=f"u{number}", at=JANUARY, units=20, order=number)
        part = State(
            sources=whole.sources,
            items={key: whole.items[key] for key in ("u5", "u2")},
            period_ends_at=FEBRUARY,
            grant_used=whole.grant_used,
        )
        assert part.overage == whole.overage == 20
        burndown.give_back(part, item_id="u2", at=JANUARY + DAY, units=15)
        assert [(burn.source_id, burn.units) for burn in part.items["u2"].burns] == [("A", 5)]
        burns = [(burn.source_id, burn.units) for burn in part.items["u5"].burns]
        assert burns == [("A", 5), ("B", 10)]
        assert facts(part, JANUARY + DAY) == ({"A": 0, "B": 0}, 5, 100)

    def test_remembers_which_burn_was_last(self):
        burns = [
            Burn(source_id="A", epoch=0, units=10, at=JANUARY, order=order) for order in (7, 9, 8)
        ]
        old = Burn(source_id="A", epoch=-1, units=10, at=JANUARY, order=12)
        items = {
            str(number): Item(id=str(number), at=JANUARY, order=number, burns=[burn])
            for number, burn in enumerate([*burns, old])
        }
        state = State(sources={"A": source("A", 30)}, items=items)
        burndown.set_amount(state, source_id="A", at=JANUARY, amount=15)
        assert [items[str(number)].overage for number in range(4)] == [0, 10, 5, 0]
        state.sources["A"].balance = 5
        state.line_up()
        burndown.use(state, item_id="new", at=JANUARY, units=1)
        assert state.items["new"].burns[0].order == 13
