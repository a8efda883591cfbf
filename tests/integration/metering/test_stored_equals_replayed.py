"""Whatever is done in whatever order: the stored state is the replayed one, and audits clean."""

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core import clock as clocks
from core.models import Customer
from metering import errors, selectors
from metering.models import Grant
from metering.services import auditing, endings, granting, holds, recording, replay, reversing
from metering.services.consumption import For, Request, Wanted
from subscriptions import selectors as catalog
from subscriptions.models import Override
from subscriptions.services import changes, overriding
from subscriptions.services.changes import ChangeOrder
from tests import factories

SHORT = 3
EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", str(SHORT)))
STEPS = int(os.environ.get("STATE_MACHINE_STEPS", "20"))
STARTED = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
FEATURES = ("api_calls", "exports")
Id = TypeVar("Id")
PLANS = {"small": 20, "large": 32}
units = st.integers(1, 30)
numbers = st.integers(0, 99)
features = st.sampled_from(FEATURES)
several = st.lists(st.tuples(features, units), min_size=1, max_size=2, unique_by=lambda one: one[0])


def picked(found: dict[Id, object], number: int) -> Id:
    """Return one of the ids by its place, which says the same in every run."""
    return list(found)[number % len(found)]


def text(at: datetime) -> str:
    return clocks.rfc3339(at)


class Facts:
    """What happened to one feature: the timeline that replay reads."""

    def __init__(self, *, rollover: int) -> None:
        self.granted_by_plan, self.granted_beside = PLANS["small"], 0
        self.allowance = {
            "id": "allowance",
            "amount": PLANS["small"],
            "priority": 100,
            "effective_at": text(STARTED),
            "created_at": text(STARTED),
            "refill_at_reset": True,
            "rollover_min": 0,
            "rollover_max": rollover,
            "amounts": [],
        }
        self.grants: dict[str, dict] = {}
        self.usage: dict[str, dict] = {}

    def use(self, item: str, count: int, *, at: datetime) -> None:
        self.usage[item] = {"id": item, "at": text(at), "value": count, "returns": []}

    def give_back(self, item: str, count: int, *, at: datetime) -> None:
        if count:
            self.usage[item]["returns"].append({"at": text(at), "value": count})

    def change_allowance(self, *, at: datetime) -> None:
        amount = self.granted_by_plan + self.granted_beside
        self.allowance["amounts"].append({"at": text(at), "amount": amount})


@dataclass(frozen=True, kw_only=True)
class LiveHold:
    """A hold by the machine's own account: what it took of each feature, and until when."""

    parts: dict[str, tuple[str, int]]
    until: datetime


class Life(RuleBasedStateMachine):
    """One customer, every operation on his units, and the timelines that tell of them."""

    mode, rollover = "hard", 0

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    @initialize()
    def begin(self) -> None:
        self.example = transaction.atomic()
        self.example._from_testcase = True  # operations own their transactions inside it
        self.example.__enter__()
        catalog.forget_all()
        for plan, amount in PLANS.items():
            factories.make_plan(
                plan,
                at=STARTED,
                limits=dict.fromkeys(FEATURES, amount),
                entitlement={"mode": self.mode, "rollover_max_units": self.rollover},
            )
        self.customer = factories.make_customer(at=STARTED)
        self.subscription = factories.subscribe(self.customer, "small", at=STARTED)
        self.at = STARTED + timedelta(seconds=1)
        self.facts = {each: Facts(rollover=self.rollover) for each in FEATURES}
        self.holds: dict[UUID, LiveHold] = {}
        self.consumed: dict[str, str] = {}

    # what is done

    def clock(self) -> clocks.FixedClock:
        self.at += timedelta(seconds=1)
        return clocks.FixedClock(at=self.at)

    def keyed(self) -> factories.idempotency.KeyedRequest:
        self.number += 1
        return factories.idempotency.KeyedRequest(key=f"k{self.number}", fingerprint="f")

    def request(self, wanted: list[tuple[str, int]]) -> Request:
        return Request(
            customer_id=self.customer.pk,
            wanted=[Wanted(feature_key=feature, units=count) for feature, count in wanted],
            keyed=self.keyed(),
            used_by=For(),
        )

    def counted(self, wanted, entries) -> dict[str, tuple[str, int]]:
        """Take down what an operation counted: one line for each feature that it named."""
        assert [(each.feature.key, each.units) for each in entries] == wanted
        for (feature, count), entry in zip(wanted, entries, strict=True):
            self.facts[feature].use(str(entry.pk), count, at=self.at)
        return {
            feature: (str(entry.pk), count)
            for (feature, count), entry in zip(wanted, entries, strict=True)
        }

    def lacking(self, wanted) -> list[str]:
        """Return the features of which less is left than is wanted, before the operation."""
        if self.mode == "soft":
            return []
        return [each for each, count in wanted if count > max(self.state(each)["balance"], 0)]

    def allowed(self, wanted, act):
        """Return what the operation did; None where it had to be refused, for the first lack."""
        lacking = self.lacking(wanted)
        if not lacking:
            return act(self.request(wanted))
        with pytest.raises(errors.UsageLimitReached) as refused:
            act(self.request(wanted))
        assert refused.value.facts()["feature"] == lacking[0]
        return None

    @rule(wanted=several, is_grouped=st.booleans())
    def consume(self, wanted, is_grouped) -> None:
        clock = self.clock()
        with factories.group_commit(is_on=is_grouped):
            done = self.allowed(wanted, lambda ask: factories.consumption.consume(ask, clock=clock))
        if done is not None:
            counted = self.counted(wanted, done.entries)
            if len(counted) == 1:
                self.consumed |= {item: feature for feature, (item, _) in counted.items()}

    @rule(feature=features, count=units)
    def record(self, feature: str, count: int) -> None:
        done = recording.record(self.request([(feature, count)]), clock=self.clock())
        item, _ = self.counted([(feature, count)], done.entries)[feature]
        self.consumed[item] = feature

    @rule(wanted=several, ttl=st.integers(1, 86_400))
    def hold(self, wanted, ttl: int) -> None:
        clock = self.clock()
        done = self.allowed(wanted, lambda ask: holds.create(ask, ttl_seconds=ttl, clock=clock))
        if done is not None:
            self.holds[done.entries[0].operation_id] = LiveHold(
                parts=self.counted(wanted, done.entries),
                until=self.at + timedelta(seconds=ttl),
            )

    def ending(self, hold_id: UUID, *, count: int | None = None, ttl: int = 0) -> endings.Ending:
        return endings.Ending(
            customer_id=self.customer.pk,
            hold_id=hold_id,
            keyed=self.keyed(),
            units=count,
            ttl_seconds=ttl,
        )

    @precondition(lambda self: self.holds)
    @rule(number=numbers, share=st.none() | st.integers(1, 100))
    def end_hold(self, number: int, share: int | None) -> None:
        """Capture a share of it, all of one on several features, or release it."""
        hold_id = picked(self.holds, number)
        held, clock = self.holds[hold_id], self.clock()
        if self.at >= held.until:
            with pytest.raises(errors.HoldExpired):
                endings.capture(self.ending(hold_id), clock=clock)
            return
        if share is None:
            endings.release(self.ending(hold_id), clock=clock)
            captured = dict.fromkeys(held.parts, 0)
        elif len(held.parts) == 1:
            captured = {feature: units * share // 100 for feature, (_, units) in held.parts.items()}
            count = next(iter(captured.values()))
            endings.capture(self.ending(hold_id, count=count), clock=clock)
        else:
            endings.capture(self.ending(hold_id), clock=clock)
            captured = {feature: units for feature, (_, units) in held.parts.items()}
        for feature, (item, count) in held.parts.items():
            self.facts[feature].give_back(item, count - captured[feature], at=self.at)
        del self.holds[hold_id]

    @precondition(lambda self: self.holds)
    @rule(number=numbers, ttl=st.integers(1, 86_400))
    def extend(self, number: int, ttl: int) -> None:
        """Let a hold live from now on, for longer or shorter than it would have."""
        hold_id = picked(self.holds, number)
        clock = self.clock()
        if self.at >= self.holds[hold_id].until:
            with pytest.raises(errors.HoldExpired):
                endings.extend(self.ending(hold_id, ttl=ttl), clock=clock)
            return
        endings.extend(self.ending(hold_id, ttl=ttl), clock=clock)
        until = self.at + timedelta(seconds=ttl)
        self.holds[hold_id] = replace(self.holds[hold_id], until=until)

    @precondition(lambda self: self.consumed)
    @rule(number=numbers)
    def reverse(self, number: int) -> None:
        item = picked(self.consumed, number)
        clock = self.clock()
        reversal = reversing.Reversal(
            customer_id=self.customer.pk, entry_id=item, keyed=self.keyed()
        )
        reversing.reverse(reversal, clock=clock)
        facts = self.facts[self.consumed.pop(item)]
        facts.give_back(item, facts.usage[item]["value"], at=self.at)

    @rule(
        feature=features,
        count=units,
        priority=st.sampled_from([50, 100, 150]),
        category=st.sampled_from(["paid", "promotional"]),
        life=st.none() | st.integers(1, 60 * 86_400),
        rollover=st.none() | st.integers(0, 20),
        later=st.sampled_from([0, 0, 0, 3 * 86_400]),
        recurs=st.sampled_from(["", "", "day"]),
    )
    def grant(self, feature, count, priority, category, life, rollover, later, recurs) -> None:
        clock = self.clock()
        effective_at = self.at + timedelta(seconds=later)
        expires_at = None if life is None else effective_at + timedelta(seconds=life)
        order = granting.Order(
            feature_key=feature,
            units=count,
            priority=priority,
            category=category,
            effective_at=effective_at,
            expires_at=expires_at,
            rollover_max_units=rollover,
            recurrence_interval=recurs,
        )
        answer = granting.create(
            customer_id=self.customer.pk,
            order=order,
            actor=factories.ACTOR,
            keyed=self.keyed(),
            render=lambda made: {"id": str(made.pk)},
            clock=clock,
        )
        name = answer.body["id"]
        given = {
            "id": name,
            "amount": count,
            "priority": priority,
            "category": category,
            "effective_at": text(effective_at),
            "expires_at": expires_at and text(expires_at),
            "created_at": text(self.at),
            "rollover_min": 0,
            "rollover_max": rollover,
        }
        if recurs:
            given["recurrence"] = {"interval": "P1D", "anchor": text(effective_at)}
        self.facts[feature].grants[name] = given

    def given(self) -> dict[str, dict]:
        return {name: one for each in self.facts.values() for name, one in each.grants.items()}

    @precondition(lambda self: self.given())
    @rule(number=numbers)
    def void(self, number: int) -> None:
        name = picked(self.given(), number)
        granting.void(
            customer_id=self.customer.pk,
            grant_id=name,
            actor=factories.ACTOR,
            keyed=self.keyed(),
            render=lambda made: {"id": str(made.pk)},
            clock=self.clock(),
        )
        self.given()[name].setdefault("voided_at", text(self.at))

    @rule()
    def change_plan(self) -> None:
        """Change to the other plan now; what is used stays, also above the limit."""
        subscription = type(self.subscription).objects.get(pk=self.subscription.pk)
        other = "large" if subscription.plan_version.plan.key == "small" else "small"
        changes.change(
            subscription_id=subscription.pk,
            order=ChangeOrder(plan_key=other, when="now"),
            actor=factories.ACTOR,
            clock=self.clock(),
        )
        for each in self.facts.values():
            each.granted_by_plan = PLANS[other]
            each.change_allowance(at=self.at)

    @rule(feature=features, count=st.integers(1, 15))
    def override(self, feature: str, count: int) -> None:
        """Replace what is granted beside the plan."""
        self.end_override(feature)
        overriding.create(
            customer_id=self.customer.pk,
            order=overriding.Order(feature_key=feature, units=count, reason="test"),
            actor=factories.ACTOR,
            keyed=self.keyed(),
            render=lambda made: {"id": str(made.pk)},
            clock=self.clock(),
        )
        self.facts[feature].granted_beside = count
        self.facts[feature].change_allowance(at=self.at)

    @rule(feature=features)
    def end_override(self, feature: str) -> None:
        """Take it away again, also below what is used."""
        clock = self.clock()
        standing = Override.objects.filter(customer=self.customer, feature__key=feature)
        for each in standing.filter(ends_at__isnull=True):
            overriding.end(
                customer_id=self.customer.pk,
                override_id=each.pk,
                actor=factories.ACTOR,
                keyed=self.keyed(),
                render=lambda made: {"id": str(made.pk)},
                clock=clock,
            )
        self.facts[feature].granted_beside = 0
        self.facts[feature].change_allowance(at=self.at)

    @rule(seconds=st.sampled_from([60, 3600, 86_400, 10 * 86_400, 31 * 86_400, 95 * 86_400]))
    def wait(self, seconds: int) -> None:
        self.at += timedelta(seconds=seconds)

    # what must hold

    def timeline(self, feature: str, *, at: datetime) -> dict:
        facts = self.facts[feature]
        usage = dict(facts.usage)
        for held in self.holds.values():
            if feature in held.parts and held.until <= at:
                item, count = held.parts[feature]
                returned = {"at": text(held.until), "value": count}
                usage[item] = usage[item] | {"returns": [*usage[item]["returns"], returned]}
        return {
            "measure_from": text(STARTED),
            "usage_period": {"interval": "P1M", "anchor": text(STARTED)},
            "timezone": "UTC",
            "is_soft_limit": self.mode == "soft",
            "grants": [facts.allowance, *facts.grants.values()],
            "usage": list(usage.values()),
            "queries": [{"at": text(at)}],
        }

    def state(self, feature: str) -> dict:
        answer = replay.replay(self.timeline(feature, at=self.at + TICK))
        assert isinstance(answer, list), answer
        return answer[0]

    @invariant()
    def stored_is_replayed(self) -> None:
        if not hasattr(self, "customer"):
            return
        customer = Customer.objects.get(pk=self.customer.pk)
        clock = clocks.FixedClock(at=self.at + TICK)
        overview = selectors.get_overview(customer=customer, clock=clock)
        for feature in FEATURES:
            standing = overview.standings[feature]
            row = standing.balance
            figures = {
                "balance": standing.remaining_units,
                "overage": row.overage_units,
                "usage_in_period": row.used_units + row.held_units,
                "granted_in_period": row.limit_units,
            }
            expected = self.state(feature)
            assert figures == {key: expected[key] for key in figures}, (feature, expected)

    @invariant()
    def audits_clean(self) -> None:
        if hasattr(self, "customer"):
            assert auditing.audit()[0] == []

    def teardown(self) -> None:
        if not hasattr(self, "example"):
            return
        try:
            if hasattr(self, "consumed"):
                self.settle_and_compare_grants()
        finally:
            transaction.set_rollback(True)
            self.example.__exit__(None, None, None)

    def settle_and_compare_grants(self) -> None:
        """Settle by an operation, then hold what is stored on each grant to the replay."""
        for feature in FEATURES:
            self.record(feature, 1)
            expected = self.state(feature)["balances"]
            given = Grant.objects.filter(customer=self.customer, feature__key=feature)
            stored = {str(each.pk): each.remaining_units for each in given}
            for name in expected.keys() - {"allowance"}:
                assert stored[name] == expected[name], (expected, stored)


class SoftLife(Life):
    mode = "soft"


class RollingLife(Life):
    rollover = 15


@pytest.mark.django_db
@pytest.mark.timeout(3600 * 48)
@pytest.mark.parametrize("machine", [Life, SoftLife, RollingLife])
def test_stored_state_is_replayed_state(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=EXAMPLES <= SHORT,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate] if EXAMPLES <= SHORT else list(Phase),
        ),
    )


LASTING = {"priority": 100, "life": None, "rollover": None, "later": 0, "recurs": ""}
FOUND = {
    "reversal_covers_what_a_lower_limit_left_uncovered": (
        Life,
        [
            ("grant", {"feature": "api_calls", "count": 8, "category": "paid", **LASTING}),
            ("override", {"feature": "api_calls", "count": 5}),
            ("record", {"feature": "api_calls", "count": 10}),
            ("record", {"feature": "api_calls", "count": 23}),
            ("end_override", {"feature": "api_calls"}),
            ("reverse", {"number": 0}),
        ],
    ),
    "reversal_of_a_period_long_past": (
        Life,
        [
            ("record", {"feature": "api_calls", "count": 3}),
            ("wait", {"seconds": 40 * 86_400}),
            ("record", {"feature": "api_calls", "count": 2}),
            ("wait", {"seconds": 95 * 86_400}),
            ("reverse", {"number": 0}),
        ],
    ),
    "hold_that_died_before_its_units_rolled_over": (
        RollingLife,
        [
            ("hold", {"wanted": [("exports", 18)], "ttl": 315}),
            ("wait", {"seconds": 31 * 86_400}),
        ],
    ),
    "hold_made_beside_one_that_died_in_a_period_before": (
        Life,
        [
            ("hold", {"wanted": [("exports", 9), ("api_calls", 9)], "ttl": 2995}),
            ("wait", {"seconds": 95 * 86_400}),
            ("override", {"feature": "api_calls", "count": 10}),
            ("hold", {"wanted": [("exports", 20)], "ttl": 1576}),
            ("wait", {"seconds": 3600}),
            ("consume", {"wanted": [("exports", 20)], "is_grouped": True}),
        ],
    ),
    "grant_that_came_and_went_within_a_period_and_periods_after_it": (
        RollingLife,
        [
            (
                "grant",
                {
                    "feature": "api_calls",
                    "count": 6,
                    "category": "promotional",
                    **LASTING,
                    "later": 3 * 86_400,
                    "life": 503,
                },
            ),
            ("consume", {"wanted": [("api_calls", 17)], "is_grouped": False}),
            ("wait", {"seconds": 95 * 86_400}),
        ],
    ),
    "plan_change_after_recurrences_that_nobody_saw": (
        Life,
        [
            ("change_plan", {}),
            ("consume", {"wanted": [("exports", 26)], "is_grouped": True}),
            (
                "grant",
                {
                    "feature": "exports",
                    "count": 6,
                    "category": "promotional",
                    **LASTING,
                    "priority": 150,
                    "recurs": "day",
                },
            ),
            ("wait", {"seconds": 10 * 86_400}),
            ("change_plan", {}),
        ],
    ),
    "dead_hold_whose_units_have_no_way_back_and_who_asks_next": (
        Life,
        [
            (
                "grant",
                {
                    "feature": "exports",
                    "count": 12,
                    "category": "promotional",
                    **LASTING,
                    "priority": 50,
                    "life": 90,
                },
            ),
            ("hold", {"wanted": [("exports", 25)], "ttl": 100}),
            ("wait", {"seconds": 95}),
            ("record", {"feature": "exports", "count": 1}),
            ("grant", {"feature": "exports", "count": 1, "category": "paid", **LASTING}),
            ("wait", {"seconds": 60}),
            ("hold", {"wanted": [("exports", 21)], "ttl": 3691}),
        ],
    ),
    "lowered_limit_takes_from_who_burnt_last": (
        RollingLife,
        [
            (
                "grant",
                {
                    "feature": "api_calls",
                    "count": 18,
                    "category": "paid",
                    **LASTING,
                    "priority": 50,
                },
            ),
            ("record", {"feature": "api_calls", "count": 15}),
            ("record", {"feature": "api_calls", "count": 14}),
            ("change_plan", {}),
            ("grant", {"feature": "api_calls", "count": 17, "category": "promotional", **LASTING}),
            ("wait", {"seconds": 86_400}),
            ("hold", {"wanted": [("api_calls", 20)], "ttl": 90}),
            ("change_plan", {}),
            ("wait", {"seconds": 3600}),
        ],
    ),
}


@pytest.mark.django_db
@pytest.mark.parametrize("name", FOUND)
def test_what_random_lives_have_found_stays_mended(name, request):
    machine, steps = FOUND[name]
    life = machine()
    request.addfinalizer(life.teardown)  # also compares what is stored on the grants
    life.begin()
    for operation, given in steps:
        getattr(life, operation)(**given)
        life.audits_clean()
        life.stored_is_replayed()
