"""Whatever is done in whatever order: the stored state is the replayed one, and audits clean."""

import os
from datetime import UTC, datetime, timedelta

import pytest
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
from metering.models import Grant, Hold
from metering.services import auditing, endings, granting, holds, recording, replay, reversing
from metering.services.consumption import For, Request, Wanted
from subscriptions import selectors as catalog
from subscriptions.models import Feature, Plan
from subscriptions.services import overriding
from tests import factories

SHORT = 5
EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", str(SHORT)))
STEPS = int(os.environ.get("STATE_MACHINE_STEPS", "20"))
STARTED = datetime(2026, 1, 1, tzinfo=UTC)
ALLOWANCE = 20
TICK = timedelta(microseconds=1)
units = st.integers(1, 30)
FEATURE = "api_calls"


def text(at: datetime) -> str:
    return clocks.rfc3339(at)


class Life(RuleBasedStateMachine):
    """One customer, every operation on his units, and the timeline that tells of them."""

    mode, rollover = "hard", 0

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    @initialize()
    def begin(self) -> None:
        wipe()
        factories.make_plan(
            "free",
            at=STARTED,
            limits={FEATURE: ALLOWANCE},
            entitlement={"mode": self.mode, "rollover_max_units": self.rollover},
        )
        self.customer = factories.make_customer(at=STARTED)
        self.at = STARTED + timedelta(seconds=1)
        self.allowance = {
            "id": "allowance",
            "amount": ALLOWANCE,
            "priority": 100,
            "effective_at": text(STARTED),
            "created_at": text(STARTED),
            "refill_at_reset": True,
            "rollover_min": 0,
            "rollover_max": self.rollover,
            "amounts": [],
        }
        self.extra = 0
        self.grants: dict[str, dict] = {}
        self.usage: dict[str, dict] = {}
        self.holds: dict[str, dict] = {}
        self.consumed: list[str] = []

    # what is done

    def clock(self) -> clocks.FixedClock:
        self.at += timedelta(seconds=1)
        return clocks.FixedClock(at=self.at)

    def keyed(self) -> factories.idempotency.KeyedRequest:
        self.number += 1
        return factories.idempotency.KeyedRequest(key=f"k{self.number}", fingerprint="f")

    def request(self, count: int) -> Request:
        return Request(
            customer_id=self.customer.pk,
            wanted=[Wanted(feature_key=FEATURE, units=count)],
            keyed=self.keyed(),
            used_by=For(),
        )

    def use(self, item: str, count: int) -> None:
        self.usage[item] = {"id": item, "at": text(self.at), "value": count, "returns": []}

    def give_back(self, item: str, count: int, at: datetime | None = None) -> None:
        if count:
            self.usage[item]["returns"].append({"at": text(at or self.at), "value": count})

    @rule(count=units)
    def consume(self, count: int) -> None:
        before = self.state()
        try:
            done = factories.consumption.consume(self.request(count), clock=self.clock())
        except errors.UsageLimitReached:
            assert self.mode == "hard"
            assert count > max(before["balance"], 0)
        else:
            assert self.mode == "soft" or count <= before["balance"]
            self.use(str(done.entries[0].pk), count)
            self.consumed.append(str(done.entries[0].pk))

    @rule(count=units)
    def record(self, count: int) -> None:
        done = recording.record(self.request(count), clock=self.clock())
        self.use(str(done.entries[0].pk), count)
        self.consumed.append(str(done.entries[0].pk))

    @rule(count=units, ttl=st.integers(1, 40 * 86_400))
    def hold(self, count: int, ttl: int) -> None:
        try:
            done = holds.create(self.request(count), ttl_seconds=ttl, clock=self.clock())
        except errors.UsageLimitReached:
            return
        item = str(done.entries[0].pk)
        self.use(item, count)
        until = self.at + timedelta(seconds=ttl)
        self.holds[item] = {"id": done.entries[0].hold_id, "units": count, "until": until}

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), share=st.integers(0, 100))
    def end_hold(self, data, share: int) -> None:
        item = data.draw(st.sampled_from(sorted(self.holds)))
        held = self.holds[item]
        clock = self.clock()
        captured = held["units"] * share // 100
        ending = endings.Ending(
            customer_id=self.customer.pk,
            hold_id=held["id"],
            keyed=self.keyed(),
            units=captured if share else None,
        )
        if self.at >= held["until"]:
            with pytest.raises(errors.HoldExpired):
                endings.capture(ending, clock=clock)
            return
        if share:
            endings.capture(ending, clock=clock)
            self.give_back(item, held["units"] - captured)
        else:
            endings.release(ending, clock=clock)
            self.give_back(item, held["units"])
        del self.holds[item]

    @precondition(lambda self: self.consumed)
    @rule(data=st.data())
    def reverse(self, data) -> None:
        item = data.draw(st.sampled_from(sorted(self.consumed)))
        clock = self.clock()
        reversal = reversing.Reversal(
            customer_id=self.customer.pk, entry_id=item, keyed=self.keyed()
        )
        reversing.reverse(reversal, clock=clock)
        self.consumed.remove(item)
        self.give_back(item, self.usage[item]["value"])

    @rule(
        count=units,
        priority=st.sampled_from([50, 100, 150]),
        category=st.sampled_from(["paid", "promotional"]),
        life=st.none() | st.integers(1, 60 * 86_400),
        rollover=st.none() | st.integers(0, 20),
        later=st.sampled_from([0, 0, 0, 3 * 86_400]),
        recurs=st.sampled_from(["", "", "day"]),
    )
    def grant(self, count, priority, category, life, rollover, later, recurs) -> None:
        clock = self.clock()
        effective_at = self.at + timedelta(seconds=later)
        expires_at = None if life is None else effective_at + timedelta(seconds=life)
        order = granting.Order(
            feature_key=FEATURE,
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
        self.grants[answer.body["id"]] = {
            "id": answer.body["id"],
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
            self.grants[answer.body["id"]]["recurrence"] = {
                "interval": "P1D",
                "anchor": text(effective_at),
            }

    @precondition(lambda self: self.grants)
    @rule(data=st.data())
    def void(self, data) -> None:
        given = data.draw(st.sampled_from(sorted(self.grants)))
        granting.void(
            customer_id=self.customer.pk,
            grant_id=given,
            actor=factories.ACTOR,
            keyed=self.keyed(),
            render=lambda made: {"id": str(made.pk)},
            clock=self.clock(),
        )
        self.grants[given].setdefault("voided_at", text(self.at))

    @rule(count=st.integers(1, 15))
    def override(self, count: int) -> None:
        """Raise what plan and overrides give, as a plan change does."""
        self.replace_override(count)

    @rule()
    def end_override(self) -> None:
        """Lower it again, also below what is used."""
        self.replace_override(0)

    def replace_override(self, count: int) -> None:
        from subscriptions.models import Override  # noqa: PLC0415 - read here alone

        clock = self.clock()
        for each in Override.objects.filter(customer=self.customer, ends_at__isnull=True):
            overriding.end(
                customer_id=self.customer.pk,
                override_id=each.pk,
                actor=factories.ACTOR,
                keyed=self.keyed(),
                render=lambda made: {"id": str(made.pk)},
                clock=clock,
            )
        self.allowance["amounts"].append({"at": text(self.at), "amount": ALLOWANCE})
        if count:
            clock = self.clock()
            overriding.create(
                customer_id=self.customer.pk,
                order=overriding.Order(feature_key=FEATURE, units=count, reason="test"),
                actor=factories.ACTOR,
                keyed=self.keyed(),
                render=lambda made: {"id": str(made.pk)},
                clock=clock,
            )
            self.allowance["amounts"].append({"at": text(self.at), "amount": ALLOWANCE + count})

    @rule(seconds=st.sampled_from([60, 3600, 86_400, 10 * 86_400, 31 * 86_400, 95 * 86_400]))
    def wait(self, seconds: int) -> None:
        self.at += timedelta(seconds=seconds)

    # what must hold

    def timeline(self, at: datetime) -> dict:
        usage = [dict(each) for each in self.usage.values()]
        for item, held in self.holds.items():
            if held["until"] <= at:
                own = next(each for each in usage if each["id"] == item)
                returned = {"at": text(held["until"]), "value": held["units"]}
                own["returns"] = [*own["returns"], returned]
        return {
            "measure_from": text(STARTED),
            "usage_period": {"interval": "P1M", "anchor": text(STARTED)},
            "timezone": "UTC",
            "is_soft_limit": self.mode == "soft",
            "grants": [self.allowance, *self.grants.values()],
            "usage": usage,
            "queries": [{"at": text(at)}],
        }

    def state(self) -> dict:
        answer = replay.replay(self.timeline(self.at + TICK))
        assert isinstance(answer, list), answer
        return answer[0]

    @invariant()
    def stored_is_replayed(self) -> None:
        if not hasattr(self, "customer"):
            return
        expected = self.state()
        at = self.at + TICK
        customer = Customer.objects.get(pk=self.customer.pk)
        overview = selectors.get_overview(customer=customer, clock=clocks.FixedClock(at=at))
        standing = overview.standings[FEATURE]
        row = standing.balance
        figures = {
            "balance": standing.remaining_units,
            "overage": row.overage_units,
            "usage_in_period": row.used_units + row.held_units,
            "granted_in_period": row.limit_units,
        }
        assert figures == {key: expected[key] for key in figures}, expected

    @invariant()
    def audits_clean(self) -> None:
        if hasattr(self, "customer"):
            assert auditing.audit()[0] == []

    def teardown(self) -> None:
        if hasattr(self, "customer"):
            self.settle_and_compare_grants()

    def settle_and_compare_grants(self) -> None:
        """Settle by an operation, then hold what is stored on each grant to the replay."""
        recording.record(self.request(1), clock=self.clock())
        item = f"last{self.number}"
        self.use(item, 1)
        expected = self.state()["balances"]
        stored = {
            str(each.pk): each.remaining_units
            for each in Grant.objects.filter(customer=self.customer)
        }
        for name, balance in expected.items():
            if name != "allowance":
                assert stored[name] == balance, (expected, stored)


class SoftLife(Life):
    mode = "soft"


class RollingLife(Life):
    rollover = 15


def wipe() -> None:
    """Undo the example before, where it was not rolled back."""
    from django.db import connection  # noqa: PLC0415 - used here alone

    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "TRUNCATE core_customer, subscriptions_feature, subscriptions_plan CASCADE"
            )
    assert Hold.objects.count() == Plan.objects.count() == Feature.objects.count() == 0
    catalog.forget_all()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(3600 * 6)
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
