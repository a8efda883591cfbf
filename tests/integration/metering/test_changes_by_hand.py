"""What a change by hand makes of balances: policies, owned holds, late usage, thresholds."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core import db, events
from core import errors as core_errors
from core.models import Customer, OutboxEvent
from core.services.idempotency import KeyedRequest
from metering import errors, selectors
from metering.models import AlertThreshold, Balance, Burn, Grant, Hold, UsageEntry
from metering.services import auditing, endings, granting, holds, owned_holds, recording
from metering.services.consumption import For, Request, Wanted, consume
from metering.services.owned_holds import End
from metering.services.recording import Fed
from subscriptions import selectors as catalog
from subscriptions.models import Plan, Subscription
from subscriptions.services import lifecycle, overriding
from tests import factories

pytestmark = pytest.mark.django_db
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
POLICIES = [
    each
    for each in json.loads(Path("tests/vectors/transitions.json").read_text())[
        "usage_on_change_vectors"
    ]
    if each["change"]["type"] in {"change_plan_now", "migrate_version"}
    and "overage_price" not in each["before"]
]
_keys = iter(range(10**6))


def clock(seconds: int = 0):
    return factories.standing(NOW + timedelta(seconds=seconds))


def keyed() -> KeyedRequest:
    return KeyedRequest(key=f"hand{next(_keys)}", fingerprint="f")


def asked(customer, units=1, feature="api_calls") -> Request:
    wanted = [Wanted(feature_key=feature, units=units)]
    return Request(customer_id=customer.pk, wanted=wanted, keyed=keyed(), used_by=For())


def standing(customer, *, at=NOW, feature="api_calls"):
    fresh = Customer.objects.get(pk=customer.pk)
    return selectors.get_overview(customer=fresh, clock=factories.standing(at)).standings[feature]


def give_five(customer, *, clock) -> None:
    """Grant five units that stand beside the allowance."""
    granting.create(
        customer_id=customer.pk,
        order=granting.Order(feature_key="api_calls", units=5),
        actor=factories.ACTOR,
        keyed=keyed(),
        render=lambda made: {"id": str(made.pk)},
        clock=clock,
    )


def change_plan(row: Subscription, plan, *, at, policy: str = "keep") -> None:
    """Move a subscription to another plan as a service does: write, then publish the fact."""
    with db.transaction():
        customer = owned_holds.lock_customer_step(customer_id=row.customer_id)
        events.lock_for(
            event_types=(lifecycle.CHANGED,), customer=customer, clock=factories.standing(at)
        )
        former = Subscription.objects.get(pk=row.pk)
        Subscription.objects.filter(pk=row.pk).update(plan_version=plan.versions.get())
        payload = {
            "subscription": str(row.pk),
            "status": row.status,
            "usage_policy": policy,
            "from_version": former.plan_version_id,
            "from_quantity": former.quantity,
        }
        events.publish(
            events.Event(
                event_type=lifecycle.CHANGED,
                customer_id=customer.pk,
                occurred_at=at,
                payload=payload,
            )
        )


@pytest.mark.django_db(transaction=True)
class TestUsagePolicy:
    @pytest.mark.parametrize("vector", POLICIES, ids=lambda vector: vector["id"])
    def test_does_to_usage_what_the_vectors_say(self, vector):
        before, change, expected = vector["before"], vector["change"], vector["expected"]
        is_allocated = before.get("kind") == "allocated"
        if is_allocated:
            feature = factories.make_feature("api_calls", at=STARTED)
            type(feature).objects.filter(pk=feature.pk).update(is_allocated=True)
        factories.make_plan("old", at=STARTED, limits={"api_calls": before["limit"]})
        new = factories.make_plan("new", at=STARTED, limits={"api_calls": change["new_limit"]})
        customer = factories.make_customer(at=STARTED)
        row = factories.subscribe(customer, "old", at=STARTED)
        consume(asked(customer, before["used"]), clock=clock())
        policy = change.get("usage_policy", "keep")
        if "error" in expected:
            stored = list(Balance.objects.values())
            with pytest.raises(errors.AllocatedUsageExceedsLimit):
                change_plan(row, new, at=NOW, policy=policy)
            assert list(Balance.objects.values()) == stored
            return
        change_plan(row, new, at=NOW, policy=policy)
        now = standing(customer)
        shown = {
            "limit": now.limit_units,
            "used": now.used_units,
            "remaining": now.remaining_units,
            "over_limit": now.is_over_limit,
        }
        assert shown == expected | {"over_limit": expected.get("over_limit", False)}
        assert auditing.audit()[0] == []

    def test_prorates_what_an_upgrade_adds(self):
        factories.make_plan("old", at=STARTED, limits={"api_calls": 310})
        new = factories.make_plan("new", at=STARTED, limits={"api_calls": 620})
        customer = factories.make_customer(at=STARTED)
        row = factories.subscribe(customer, "old", at=STARTED)
        consume(asked(customer, 1), clock=clock())
        at = datetime(2026, 3, 16, tzinfo=UTC)  # 16 of 31 days are left
        Balance.objects.update(decided_at=STARTED)
        change_plan(row, new, at=at, policy="prorate_limit")
        assert standing(customer).limit_units == 310 + 160
        consume(asked(customer, 469), clock=clock(1))
        with pytest.raises(errors.UsageLimitReached):
            consume(asked(customer, 1), clock=clock(2))
        next_month = datetime(2026, 4, 2, tzinfo=UTC)
        assert standing(customer, at=next_month).limit_units == 620

    @pytest.mark.parametrize("grants", [0, 1])
    def test_prorates_each_upgrade_of_a_period_beside_the_one_before(self, grants):
        for number, limit in enumerate((310, 620, 930)):
            factories.make_plan(f"plan{number}", at=STARTED, limits={"api_calls": limit})
        customer = factories.make_customer(at=STARTED)
        row = factories.subscribe(customer, "plan0", at=STARTED)
        for _ in range(grants):
            give_five(customer, clock=factories.standing(STARTED))
        withheld = 0
        for number, (day, more) in enumerate(((16, 150), (24, 230))):  # 16, then 8 days are left
            plan, at = Plan.objects.get(key=f"plan{number + 1}"), datetime(2026, 3, day, tzinfo=UTC)
            change_plan(row, plan, at=at, policy="prorate_limit")
            withheld += more
            limit = 310 * (number + 2) - withheld
            stored = Balance.objects.get(is_current=True)
            assert (stored.withheld_units, stored.allowance_units) == (withheld, limit)
            assert stored.limit_units == stored.ceiling_units == limit + 5 * grants
        assert limit == 550
        later = datetime(2026, 3, 25, tzinfo=UTC)
        assert standing(customer, at=later).limit_units == 550 + 5 * grants
        assert auditing.audit()[0] == []

    def test_reset_moves_open_holds_to_the_next_generation(self):
        factories.make_plan("old", at=STARTED, limits={"api_calls": 10})
        new = factories.make_plan("new", at=STARTED, limits={"api_calls": 20})
        customer = factories.make_customer(at=STARTED)
        row = factories.subscribe(customer, "old", at=STARTED)
        consume(asked(customer, 5), clock=clock())
        held = holds.create(asked(customer, 4), ttl_seconds=600, clock=clock())
        change_plan(row, new, at=NOW + timedelta(seconds=1), policy="reset")
        now = standing(customer, at=NOW + timedelta(seconds=2))
        assert (now.used_units, now.held_units, now.limit_units) == (0, 4, 20)
        ending = endings.Ending(
            customer_id=customer.pk, hold_id=held.entries[0].hold_id, keyed=keyed()
        )
        endings.capture(ending, clock=clock(3))
        now = standing(customer, at=NOW + timedelta(seconds=4))
        assert (now.used_units, now.held_units) == (4, 0)
        rows = Balance.objects.order_by("generation").values_list("used_units", "held_units")
        assert list(rows) == [(5, 0), (4, 0)]
        assert auditing.audit()[0] == []

    def test_carries_what_dead_holds_have_given_back(self):
        factories.make_plan("old", at=STARTED, limits={"api_calls": 10})
        new = factories.make_plan("new", at=STARTED, limits={"api_calls": 20})
        customer = factories.make_customer(at=STARTED)
        row = factories.subscribe(customer, "old", at=STARTED)
        consume(asked(customer, 3), clock=clock())
        holds.create(asked(customer, 4), ttl_seconds=60, clock=clock())
        change_plan(row, new, at=NOW + timedelta(seconds=61), policy="carry_balance")
        now = standing(customer, at=NOW + timedelta(seconds=62))
        assert (now.limit_units, now.held_units) == (20 + 7, 0)
        assert auditing.audit()[0] == []

    @pytest.mark.parametrize("grants", [0, 1])
    @pytest.mark.parametrize(("policy", "carried"), [("reset", 0), ("carry_balance", 31)])
    def test_after_a_prorated_limit_gives_the_whole_allowance_again(self, grants, policy, carried):
        small = factories.make_plan("small", at=STARTED, limits={"api_calls": 31})
        large = factories.make_plan("large", at=STARTED, limits={"api_calls": 62})
        customer = factories.make_customer(at=STARTED)
        row = factories.subscribe(customer, "small", at=STARTED)
        for _ in range(grants):
            give_five(customer, clock=factories.standing(STARTED))
        change_plan(row, large, at=datetime(2026, 3, 16, tzinfo=UTC), policy="prorate_limit")
        consume(asked(customer, 16), clock=clock())  # 15 of the 31 that were added are withheld
        change_plan(row, small, at=NOW + timedelta(seconds=1), policy=policy)
        for later in (2, 3600):
            now = standing(customer, at=NOW + timedelta(seconds=later))
            assert (now.limit_units, now.used_units) == (31 + carried + 5 * grants, 0)
        overriding.create(
            customer_id=customer.pk,
            order=overriding.Order(feature_key="api_calls", units=10, reason="goodwill"),
            actor=factories.ACTOR,
            keyed=keyed(),
            render=lambda made: {"id": str(made.pk)},
            clock=clock(7200),
        )
        now = standing(customer, at=NOW + timedelta(seconds=7201))
        assert now.limit_units == 31 + carried + 5 * grants + 10

    @pytest.mark.parametrize("policy", ["reset", "carry_balance"])
    def test_leaves_the_usage_of_another_plan_group_alone(self, policy):
        factories.make_plan("old", at=STARTED, limits={"api_calls": 10})
        new = factories.make_plan("new", at=STARTED, limits={"api_calls": 20})
        factories.make_plan("beside", at=STARTED, limits={"exports": 10}, group="beside")
        customer = factories.make_customer(at=STARTED)
        row = factories.subscribe(customer, "old", at=STARTED)
        factories.subscribe(customer, "beside", at=STARTED)
        for feature in ("api_calls", "exports"):
            consume(asked(customer, 7, feature), clock=clock())
        change_plan(row, new, at=NOW + timedelta(seconds=1), policy=policy)
        later = NOW + timedelta(seconds=2)
        assert standing(customer, at=later).used_units == 0
        assert standing(customer, at=later, feature="exports").used_units == 7
        with pytest.raises(errors.UsageLimitReached):
            consume(asked(customer, 4, "exports"), clock=clock(3))
        assert auditing.audit()[0] == []


@pytest.fixture
def customer():
    factories.make_plan("free", at=STARTED, limits={"api_calls": 10})
    return factories.make_customer(at=STARTED)


def captured(made, units: int) -> End:
    feature = catalog.get_feature(key="api_calls")
    return End(hold_id=made.hold_id, captured_units={feature.id: units})


def exchange(customer, *, at, ends=(), units=0, usage_at=None, owner="booking 1"):
    with db.transaction():
        locked = owned_holds.lock_customer_step(customer_id=customer.pk)
        wanted = [Wanted(feature_key="api_calls", units=units)] if units else []
        return owned_holds.exchange_step(
            customer=locked,
            owner=owner,
            ends=ends,
            wanted=wanted,
            usage_at=usage_at,
            clock=factories.standing(at),
        )


@pytest.mark.django_db(transaction=True)
class TestOwnedHold:
    def test_has_no_expiry_and_ends_by_its_owner_alone(self, customer):
        made = exchange(customer, at=NOW, units=6)
        hold = Hold.objects.get()
        assert (hold.expires_at, hold.owner, hold.operation_id) == (None, "booking 1", made.hold_id)
        later = NOW + timedelta(days=2)
        assert standing(customer, at=later).held_units == 6
        ending = endings.Ending(customer_id=customer.pk, hold_id=made.hold_id, keyed=keyed())
        for operation in (endings.capture, endings.release, endings.extend):
            with pytest.raises(core_errors.NotFound):
                operation(ending, clock=factories.standing(later))
        with pytest.raises(core_errors.NotFound):
            exchange(
                customer,
                at=later,
                ends=[End(hold_id=made.hold_id)],
                owner="booking 2",
            )
        assert Hold.objects.get().state == Hold.State.LIVE
        exchange(customer, at=later, ends=[captured(made, 4)])
        now = standing(customer, at=later)
        assert (now.used_units, now.held_units) == (4, 0)
        assert auditing.audit()[0] == []

    def test_is_exchanged_in_one_step_or_stays(self, customer):
        made = exchange(customer, at=NOW, units=6)
        before = (list(Balance.objects.values()), list(Hold.objects.values()))
        with pytest.raises(errors.UsageLimitReached):
            exchange(
                customer,
                at=NOW + timedelta(seconds=1),
                ends=[End(hold_id=made.hold_id)],
                units=11,
            )
        assert (list(Balance.objects.values()), list(Hold.objects.values())) == before
        moved = exchange(
            customer,
            at=NOW + timedelta(seconds=2),
            ends=[End(hold_id=made.hold_id)],
            units=10,
        )
        assert standing(customer, at=moved.at).held_units == 10
        assert auditing.audit()[0] == []

    def test_on_a_period_to_come_is_decided_and_paid_there(self, customer):
        april = datetime(2026, 4, 10, tzinfo=UTC)
        consume(asked(customer, 10), clock=clock())
        made = exchange(customer, at=NOW, units=7, usage_at=april)
        with pytest.raises(errors.UsageLimitReached):
            exchange(customer, at=NOW, units=4, usage_at=april)
        row = Balance.objects.get(period_starts_at=datetime(2026, 4, 1, tzinfo=UTC))
        assert (row.is_current, row.held_units) == (False, 7)
        assert Hold.objects.get().is_provisional
        with pytest.raises(errors.UsageLimitReached):
            consume(asked(customer, 4), clock=factories.standing(april))
        consume(asked(customer, 3), clock=factories.standing(april))
        assert not Hold.objects.get().is_provisional
        exchange(customer, at=april, ends=[captured(made, 7)])
        now = standing(customer, at=april)
        assert (now.used_units, now.held_units, now.remaining_units) == (10, 0, 0)
        assert auditing.audit()[0] == []


@pytest.mark.django_db(transaction=True)
class TestFeed:
    def feed(self, customer, *fed: Fed, at=NOW):
        with db.transaction():
            locked = owned_holds.lock_customer_step(customer_id=customer.pk)
            return recording.feed_step(customer=locked, fed=fed, clock=factories.standing(at))

    def fed(self, units: int, *, at=NOW) -> Fed:
        return Fed(feature=catalog.get_feature(key="api_calls"), usage_at=at, units=units)

    def test_counts_in_the_period_of_its_time_and_burns_late_usage_now(self, customer):
        february = datetime(2026, 2, 20, tzinfo=UTC)
        Customer.objects.update(created_at=datetime(2026, 1, 1, tzinfo=UTC))
        fresh = Customer.objects.get()
        self.feed(fresh, self.fed(4), self.fed(3, at=february))
        now = standing(fresh)
        assert (now.used_units, now.balance.carried_units, now.remaining_units) == (4, 3, 3)
        closed = Balance.objects.get(period_starts_at=datetime(2026, 2, 1, tzinfo=UTC))
        assert (closed.used_units, closed.is_current) == (3, False)
        assert auditing.audit()[0] == []

    def test_burns_late_usage_now_where_a_grant_stands_beside_the_allowance(self, customer):
        Customer.objects.update(created_at=datetime(2026, 1, 1, tzinfo=UTC))
        fresh = Customer.objects.get()
        give_five(customer, clock=clock())
        self.feed(fresh, self.fed(8), at=NOW + timedelta(seconds=1))
        february = datetime(2026, 2, 20, tzinfo=UTC)
        at = self.feed(fresh, self.fed(4, at=february), at=NOW + timedelta(seconds=2))

        late, grant = UsageEntry.objects.get(units=4), Grant.objects.get()
        current = Balance.objects.get(is_current=True)
        burns = Burn.objects.filter(entry=late).order_by("position")
        assert list(burns.values_list("balance_id", "grant_id", "units", "burnt_at")) == [
            (current.pk, None, 2, at),
            (current.pk, grant.pk, 2, at),
        ]
        assert (current.used_units, current.carried_units) == (8, 4)
        assert (current.allowance_left_units, current.limit_units) == (0, 15)
        assert grant.remaining_units == 3
        assert standing(fresh, at=at).remaining_units == 3
        assert auditing.audit()[0] == []
        factories.reverse(fresh, late.pk, at=NOW + timedelta(seconds=3))
        assert Grant.objects.get().remaining_units == 5
        assert standing(fresh, at=NOW + timedelta(seconds=4)).remaining_units == 7
        assert auditing.audit()[0] == []

    def test_never_refuses(self, customer):
        self.feed(customer, self.fed(25))
        now = standing(customer)
        assert (now.used_units, now.remaining_units, now.is_over_limit) == (25, 0, True)
        assert UsageEntry.objects.get().kind == "record"
        assert auditing.audit()[0] == []


@pytest.mark.django_db(transaction=True)
class TestAlerts:
    def test_are_published_once_a_period_by_the_commit_that_crosses(self):
        factories.make_plan(
            "free",
            at=STARTED,
            limits={"api_calls": 10},
            entitlement={"alert_percents": [80, 100]},
        )
        customer = factories.make_customer(at=STARTED)
        AlertThreshold.objects.create(
            customer=customer,
            feature_id=catalog.get_feature(key="api_calls").id,
            units=3,
            created_at=STARTED,
        )

        def alerted():
            rows = OutboxEvent.objects.filter(event_type="usage.threshold_reached")
            return [each.payload["threshold_units"] for each in rows.order_by("id")]

        consume(asked(customer, 2), clock=clock())
        assert alerted() == []
        consume(asked(customer, 1), clock=clock(1))
        assert alerted() == [3]
        consume(asked(customer, 7), clock=clock(2))
        assert alerted() == [3, 8, 10]
        override = overriding.Order(feature_key="api_calls", units=10, reason="more")
        overriding.create(
            customer_id=customer.pk,
            order=override,
            actor=factories.ACTOR,
            keyed=keyed(),
            render=lambda made: {"id": str(made.pk)},
            clock=clock(3),
        )
        consume(asked(customer, 10), clock=clock(4))
        assert alerted() == [3, 8, 10]
        april = factories.standing(datetime(2026, 4, 2, tzinfo=UTC))
        consume(asked(customer, 8), clock=april)
        assert alerted() == [3, 8, 10, 3]
