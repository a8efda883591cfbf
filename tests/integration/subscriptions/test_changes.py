"""Changing a subscription: now or at the period's end, and the preview says what happens."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core import clock as clocks
from core import errors
from core.models import Customer, OutboxEvent
from metering import errors as metering_errors
from metering import selectors as metering_selectors
from metering.models import Balance
from metering.services import auditing
from subscriptions import errors as own_errors
from subscriptions import planning
from subscriptions.models import Entitlement, Price, Subscription, TimelineEntry
from subscriptions.services import actions, changes, payments
from subscriptions.services.changes import ChangeOrder
from tests import factories

pytestmark = pytest.mark.django_db
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ENDS = datetime(2026, 4, 10, 12, tzinfo=UTC)
VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "transitions.json").read_text())
USAGE = {each["id"]: each for each in VECTORS["usage_on_change_vectors"]}


@pytest.fixture(scope="module")
def kept_plans(kept_rows) -> None:
    for key, limit, rank, price in (
        ("free", 100, 0, 0),
        ("basic", 500, 10, 900),
        ("pro", 1000, 20, 2900),
        ("max", 2000, 30, 9900),
    ):
        factories.make_plan(
            key, at=STARTED, limits={"api_calls": limit}, rank=rank, price_minor=price
        )


@pytest.fixture
def customer(kept_plans) -> Customer:
    return factories.make_customer(at=STARTED)


@pytest.fixture
def pro(customer, at) -> Subscription:
    return factories.subscribe(customer, "pro", at=at)


def yearly(plan_key: str, *, at: datetime) -> None:
    """Publish a plan that is sold by the month and by the year, and by the seat."""
    plan = factories.make_plan(
        plan_key, at=at, rank=20, price_minor=1000, publish=False, limits={"api_calls": 100}
    )
    draft = plan.versions.get()
    for key, interval, model, amount in (
        (f"{plan_key}-yearly", "year", "flat", 10_000),
        (f"{plan_key}-seats", "month", "per_unit", 500),
    ):
        Price.objects.create(
            plan_version=draft,
            key=key,
            currency="EUR",
            unit_amount_minor=amount,
            interval=interval,
            model=model,
        )
    Entitlement.objects.filter(plan_version=draft).update(per_quantity=True)
    factories.catalog.publish(plan_version_id=draft.pk, clock=factories.standing(at))


def change(row, plan_key, at, *, proration_at=None, **asked) -> Subscription:
    return changes.change(
        subscription_id=row.pk,
        order=ChangeOrder(plan_key=plan_key, **asked),
        actor=factories.ACTOR,
        clock=factories.standing(at),
        proration_at=proration_at,
    )


def preview(row, plan_key, at, **asked) -> planning.ChangePlan:
    return changes.preview(
        customer_id=row.customer_id,
        order=ChangeOrder(plan_key=plan_key, **asked),
        clock=factories.standing(at),
    )


def plan_of(row) -> str:
    row.refresh_from_db()
    return row.plan_version.plan.key


def facts(event_type: str) -> list[dict]:
    rows = OutboxEvent.objects.filter(event_type=event_type).order_by("id")
    return [row.payload for row in rows]


def standing(customer, at):
    customer.refresh_from_db()
    overview = metering_selectors.get_overview(
        customer=customer, clock=factories.standing(at)
    ).standings["api_calls"]
    return overview.limit_units, overview.used_units, overview.remaining_units


def everything() -> tuple:
    return (
        list(Subscription.objects.order_by("pk").values()),
        list(TimelineEntry.objects.order_by("pk").values()),
        list(Customer.objects.order_by("pk").values()),
        OutboxEvent.objects.count(),
    )


class TestUpgrade:
    def test_takes_effect_now_in_the_same_period(self, pro, at):
        row = change(pro, "max", at + DAY)
        assert (plan_of(row), row.anchor_at, row.renewed_until) == ("max", at, ENDS)
        assert facts("subscription.plan_changed") == [
            {
                "subscription": str(row.pk),
                "from_version": pro.plan_version_id,
                "to_version": row.plan_version_id,
                "from_price": pro.price_id,
                "to_price": row.price_id,
                "from_quantity": 1,
                "to_quantity": 1,
                "effective_at": clocks.rfc3339(at + DAY),
                "kind": "upgrade",
            }
        ]
        assert TimelineEntry.objects.last().event == "change_plan_now"

    def test_clears_a_scheduled_change(self, pro, at):
        change(pro, "basic", at)
        row = change(pro, "max", at + DAY)
        assert (row.change_at, row.change_to_id, row.due_at) == (None, None, ENDS)

    def test_is_told_by_the_price_per_day_where_ranks_are_equal(self, customer, at):
        yearly("team", at=at)
        row = factories.subscribe(customer, "team", at=at)
        plan = preview(row, "team", at, price_key="team-seats", quantity=3)
        assert (plan.kind, plan.is_immediate) == ("upgrade", True)
        plan = preview(row, "team", at, price_key="team-seats", quantity=1)
        assert (plan.kind, plan.effective_at) == ("downgrade", ENDS)


class TestDowngrade:
    def test_waits_for_the_periods_end_and_is_renewed_there(self, pro, at):
        row = change(pro, "basic", at)
        assert (plan_of(row), row.change_at, row.due_at) == ("pro", ENDS, ENDS)
        assert facts("subscription.plan_changed") == []
        actions.cancel_at_period_end(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(ENDS)
        )
        assert (plan_of(row), row.change_at) == ("basic", None)
        assert [each["kind"] for each in facts("subscription.plan_changed")] == ["downgrade"]
        kinds = list(TimelineEntry.objects.filter(at=ENDS).order_by("id").values_list("event"))
        assert kinds == [
            ("scheduled_change_reached",),
            ("period_ended_renew",),
            ("schedule_cancel",),
        ]

    def test_is_one_and_the_latest_wins(self, pro, at):
        change(pro, "basic", at)
        row = change(pro, "free", at + DAY)
        assert row.change_to.plan.key == "free"

    def test_is_dropped_by_asking_for_what_is_in_force(self, pro, at):
        change(pro, "basic", at)
        row = change(pro, "pro", at + DAY)
        assert (plan_of(row), row.change_at) == ("pro", None)
        assert TimelineEntry.objects.last().event == "release_schedule"

    def test_is_possible_while_past_due_and_an_upgrade_is_not(self, pro, at):
        payments.note(
            subscription_id=pro.pk,
            event="payment_failed",
            actor=factories.ACTOR,
            clock=factories.standing(at),
        )
        before = everything()
        with pytest.raises(own_errors.InvalidTransition):
            change(pro, "max", at)
        assert everything() == before
        assert change(pro, "basic", at).change_at == ENDS

    def test_may_be_told_to_happen_now(self, pro, at):
        assert plan_of(change(pro, "basic", at, when="now")) == "basic"

    def test_is_refused_where_the_subscription_ends_by_then(self, pro, at):
        actions.cancel_at_period_end(
            subscription_id=pro.pk, actor=factories.ACTOR, clock=factories.standing(at)
        )
        before = everything()
        with pytest.raises(own_errors.InvalidTransition):
            change(pro, "basic", at)
        assert everything() == before


class TestInterval:
    def test_changes_now_and_counts_anew(self, customer, at):
        yearly("team", at=at)
        row = factories.subscribe(customer, "team", at=at)
        plan = preview(row, "team", at + DAY, price_key="team-yearly")
        assert (plan.kind, plan.period.ends_at) == ("interval", ENDS)
        assert plan.period_after.ends_at == datetime(2027, 3, 11, 12, tzinfo=UTC)
        row = change(row, "team", at + DAY, price_key="team-yearly", proration_at=plan.at)
        assert (row.anchor_at, row.renewed_until) == (at + DAY, plan.period_after.ends_at)

    def test_of_a_trial_leaves_the_trial_as_it_is(self, customer, at):
        yearly("team", at=at)
        factories.make_plan("try", at=at, rank=5, price_minor=9, version={"trial_days": 14})
        row = factories.subscribe(customer, "try", at=at)
        plan = preview(row, "team", at, price_key="team-yearly")
        assert (plan.period_after.ends_at, plan.resets_anchor) == (at + 14 * DAY, False)
        row = change(row, "team", at, price_key="team-yearly")
        assert (row.status, row.trial_ends_at, row.renewed_until) == (
            "trialing",
            at + 14 * DAY,
            None,
        )
        down = preview(row, "free", at)
        assert (down.effective_at, down.anchor_at) == (at + 14 * DAY, at + 14 * DAY)


class TestQuantity:
    def test_grows_now_and_shrinks_at_the_periods_end(self, customer, at):
        yearly("team", at=at)
        row = factories.subscribe(customer, "team", at=at)
        row = change(row, "team", at, quantity=5)
        assert (row.quantity, standing(customer, at)[0]) == (5, 500)
        row = change(row, "team", at, quantity=2)
        assert (row.quantity, row.change_quantity, row.change_at) == (5, 2, ENDS)
        assert standing(customer, ENDS - DAY)[0] == 500
        assert standing(customer, ENDS)[0] == 200

    @pytest.mark.parametrize("quantity", [0, -1, planning.QUANTITY_MAX + 1])
    def test_is_refused_out_of_its_bounds(self, pro, at, quantity):
        before = everything()
        with pytest.raises(errors.Invalid):
            change(pro, "pro", at, quantity=quantity)
        assert everything() == before


class TestRefusal:
    def test_of_a_target_changes_nothing(self, pro, at):
        factories.make_plan("draft", at=at, publish=False)
        factories.make_plan("other", at=at, group="other", limits={"exports": 1})
        gone = factories.make_plan("gone", at=at)
        factories.catalog.archive_plan(plan_id=gone.pk, clock=factories.standing(at))
        dollars = factories.make_plan("dollars", at=at, publish=False, price_minor=100)
        Price.objects.filter(key="dollars-monthly").update(currency="USD")
        factories.catalog.publish(
            plan_version_id=dollars.versions.get().pk, clock=factories.standing(at)
        )
        before = everything()
        for plan_key, asked, refusal in (
            ("nope", {}, own_errors.PlanUnknown),
            ("draft", {}, own_errors.PlanNotAvailable),
            ("gone", {}, own_errors.PlanNotAvailable),
            ("other", {}, own_errors.PlanNotAvailable),
            ("dollars", {}, own_errors.CurrencyMismatch),
            ("dollars", {"price_key": "dollars-monthly"}, own_errors.CurrencyMismatch),
            ("max", {"price_key": "pro-monthly"}, errors.Invalid),
            ("pro", {}, errors.Invalid),
            ("max", {"usage_policy": "forget"}, errors.Invalid),
            ("basic", {"usage_policy": "reset"}, errors.Invalid),
        ):
            with pytest.raises(refusal):
                change(pro, plan_key, at, **asked)
            with pytest.raises(refusal):
                preview(pro, plan_key, at, **asked)
        assert everything() == before

    def test_of_an_ended_or_waiting_subscription_changes_nothing(self, customer, at):
        row = factories.subscribe(customer, "pro", at=at, pay=False)
        before = everything()
        with pytest.raises(own_errors.InvalidTransition):
            change(row, "max", at)
        assert everything() == before
        actions.cancel_now(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(at)
        )
        before = everything()
        with pytest.raises(own_errors.SubscriptionEnded):
            change(row, "max", at)
        assert everything() == before


class TestPreview:
    def test_says_what_the_execution_does(self, pro, at):
        plan = preview(pro, "max", at + DAY)
        assert plan.starts_payment is False
        row = change(pro, "max", at + DAY + timedelta(minutes=9), proration_at=plan.at)
        assert (plan.to_version.pk, plan.to_price.pk) == (row.plan_version_id, row.price_id)
        assert facts("subscription.plan_changed")[0]["effective_at"] == clocks.rfc3339(plan.at)

    def test_of_a_first_paid_price_says_so(self, customer, at):
        row = factories.subscribe(customer, "free", at=at)
        assert preview(row, "pro", at).starts_payment is True
        assert change(row, "pro", at).requires_payment is True

    def test_changes_nothing(self, pro, at):
        before = everything()
        preview(pro, "max", at)
        preview(pro, "basic", at)
        assert everything() == before

    @pytest.mark.parametrize(
        "age", [timedelta(minutes=10, microseconds=1), -timedelta(microseconds=1), 40 * DAY]
    )
    def test_is_refused_from_another_time(self, pro, at, age):
        now = at + 2 * DAY
        before = everything()
        with pytest.raises(own_errors.PreviewStale):
            change(pro, "max", now, proration_at=now - age)
        assert everything() == before

    def test_is_refused_from_the_period_before(self, pro, at):
        plan = preview(pro, "max", ENDS - timedelta(minutes=1))
        with pytest.raises(own_errors.PreviewStale):
            change(pro, "max", ENDS, proration_at=plan.at)
        assert plan_of(pro) == "pro"

    def test_is_refused_once_something_else_changed_even_in_the_same_instant(self, pro, at):
        plan = preview(pro, "max", at)
        change(pro, "basic", at)
        before = everything()
        with pytest.raises(own_errors.PreviewStale):
            change(pro, "max", at, proration_at=plan.at)
        assert everything() == before
        again = preview(pro, "max", at)
        assert plan_of(change(pro, "max", at, proration_at=again.at)) == "max"


class TestUsage:
    """The vectors of usage on change that plan, quantity, state and version decide."""

    @pytest.mark.parametrize(
        ("name", "asked"),
        [
            ("UL01", {}),
            ("UL02", {}),
            ("UL03", {"usage_policy": "reset"}),
            ("UL04", {"usage_policy": "carry_balance"}),
            ("UL05", {"when": "now"}),
            ("UL06", {}),
        ],
    )
    def test_of_a_plan_change_is_kept(self, at, name, asked):
        vector = USAGE[name]
        limits = (vector["before"]["limit"], vector["change"]["new_limit"])
        for key, limit in zip(("from", "to"), limits, strict=True):
            factories.make_plan(key, at=STARTED, limits={"api_calls": limit}, rank=limit)
        customer = factories.make_customer(at=STARTED)
        row = factories.subscribe(customer, "from", at=at)
        factories.consume(customer, vector["before"]["used"], at=at)
        change(row, "to", at, **asked)
        expected = vector["expected"]
        assert standing(customer, at) == (
            expected["limit"],
            expected["used"],
            expected["remaining"],
        )

    JOINED = datetime(2026, 3, 16, tzinfo=UTC)  # 16 of March's 31 days are left

    def test_is_prorated_where_nothing_was_open(self):
        vector = USAGE["UL11"]
        change_, expected = vector["change"], vector["expected"]
        limits = {"api_calls": change_["new_limit"]}
        factories.make_plan("without", at=STARTED, limits={"exports": 5})
        factories.make_plan("with", at=STARTED, limits=limits | {"exports": 5}, rank=5)
        customer = factories.make_customer(at=STARTED)
        row = factories.subscribe(customer, "without", at=STARTED)
        shown = preview(row, "with", self.JOINED, usage_policy=change_["usage_policy"])
        assert shown.usage_policy == "prorate_limit"
        assert not Balance.objects.exists()
        change(row, "with", self.JOINED, usage_policy=change_["usage_policy"])
        now = standing(customer, self.JOINED)
        assert now == (expected["limit"], expected["used"], expected["remaining"])
        factories.consume(customer, 160, at=self.JOINED + DAY)
        with pytest.raises(metering_errors.UsageLimitReached):
            factories.consume(customer, 1, at=self.JOINED + DAY)
        april = datetime(2026, 4, 1, tzinfo=UTC)
        assert standing(customer, april) == (310, 0, 310)
        assert auditing.audit()[0] == []

    @pytest.mark.parametrize("used_in", [None, "february", "march"])
    def test_is_prorated_by_what_the_plan_adds_whatever_was_open(self, used_in):
        for key, limit in (("from", 310), ("to", 620)):
            factories.make_plan(key, at=STARTED, limits={"api_calls": limit}, rank=limit)
        customer = factories.make_customer(at=STARTED - 28 * DAY)
        row = factories.subscribe(customer, "from", at=STARTED - 28 * DAY)
        if used_in is not None:
            at = STARTED + (DAY if used_in == "march" else -DAY)
            factories.consume(customer, 10, at=at)
        used = 10 if used_in == "march" else 0
        change(row, "to", self.JOINED, usage_policy="prorate_limit")
        assert standing(customer, self.JOINED) == (470, used, 470 - used)
        assert auditing.audit()[0] == []

    def test_of_more_seats_is_kept(self, customer, at):
        expected = USAGE["UL10"]["expected"]
        yearly("team", at=at)
        row = factories.subscribe(customer, "team", at=at)
        row = change(row, "team", at, quantity=2)
        factories.consume(customer, 150, at=at)
        change(row, "team", at, quantity=5)
        assert standing(customer, at) == (
            expected["limit"],
            expected["used"],
            expected["remaining"],
        )

    def test_of_a_pause_and_of_grace_is_kept(self, customer, pro, at):
        factories.consume(customer, 700, at=at)
        payments.note(
            subscription_id=pro.pk,
            event="payment_failed",
            actor=factories.ACTOR,
            clock=factories.standing(at),
        )
        expected = USAGE["UL15"]["expected"]
        assert standing(customer, at) == (
            expected["limit"],
            expected["used"],
            expected["remaining"],
        )
        payments.succeed(
            subscription_id=pro.pk, actor=factories.ACTOR, clock=factories.standing(at)
        )
        actions.pause(subscription_id=pro.pk, actor=factories.ACTOR, clock=factories.standing(at))
        expected = USAGE["UL14"]["expected"]
        assert standing(customer, at) == (expected["limit"], expected["used"], 0)


class TestMonthlyAmount:
    @pytest.mark.parametrize(
        ("interval", "count", "model", "quantity", "expected"),
        [
            ("month", 1, "flat", 5, 1200),
            ("month", 1, "per_unit", 5, 6000),
            ("quarter", 1, "flat", 1, 400),
            ("year", 1, "flat", 1, 100),
            ("month", 3, "flat", 1, 400),
            ("week", 1, "flat", 1, 5200),
            ("day", 1, "flat", 1, 36500),
        ],
    )
    def test_is_exact(self, interval, count, model, quantity, expected):
        price = Price(unit_amount_minor=1200, interval=interval, interval_count=count, model=model)
        assert planning.monthly_amount(price, quantity=quantity) == expected
        assert planning.monthly_amount(None, quantity=quantity) == 0
