"""Subscriptions: what is in force when, and one live per plan group."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from core import errors
from core.models import Customer, OutboxEvent
from metering import errors as metering_errors
from metering.models import Balance
from subscriptions import errors as own_errors
from subscriptions.models import Price, Subscription, TimelineEntry
from subscriptions.services import catalog, lifecycle
from tests import factories

pytestmark = pytest.mark.django_db
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def customer() -> Customer:
    factories.make_plan("free", at=STARTED, limits={"api_calls": 100})
    factories.make_plan("basic", at=STARTED, limits={"api_calls": 500}, rank=10)
    factories.make_plan("pro", at=STARTED, limits={"api_calls": 1000}, rank=20, price_minor=2900)
    return factories.make_customer(at=STARTED)


def limit_at(customer, at) -> int:
    return factories.consume(customer, 1, at=at).entries[0].limit_units


def timeline() -> list[tuple]:
    return list(
        TimelineEntry.objects.order_by("at", "id").values_list(
            "at", "from_status", "to_status", "event"
        )
    )


def everything() -> tuple:
    return (
        list(Subscription.objects.order_by("pk").values()),
        list(TimelineEntry.objects.order_by("pk").values()),
        list(Balance.objects.order_by("pk").values()),
        list(Customer.objects.order_by("pk").values()),
        OutboxEvent.objects.count(),
    )


class TestSubscribe:
    def test_to_a_free_plan_is_in_force_at_once_and_raises_the_limit(self, customer, at):
        assert limit_at(customer, at) == 100
        row = factories.subscribe(customer, "basic", at=at)
        assert (row.status, row.anchor_at) == ("active", at)
        assert limit_at(customer, at) == 500
        assert timeline() == [(at, "", "active", "subscribed")]
        customer.refresh_from_db()
        assert customer.revision == 1

    def test_to_a_paid_plan_waits_for_the_payment(self, customer, at):
        row = factories.subscribe(customer, "pro", at=at, pay=False)
        assert (row.status, row.incomplete_expires_at) == ("incomplete", at + timedelta(hours=23))
        assert limit_at(customer, at) == 100
        paid_at = at + timedelta(hours=1)
        lifecycle.mark_paid(
            subscription_id=row.pk,
            actor=lifecycle.Actor(name="admin", reason="bank transfer", request_id="r1"),
            clock=factories.standing(paid_at),
        )
        row.refresh_from_db()
        assert (row.status, row.anchor_at) == ("active", paid_at)
        assert limit_at(customer, paid_at) == 1000
        line = TimelineEntry.objects.get(event="payment_succeeded")
        assert (line.actor, line.reason, line.request_id) == ("admin", "bank transfer", "r1")

    def test_to_a_paid_plan_expires_unpaid_after_23_hours(self, customer, at):
        row = factories.subscribe(customer, "pro", at=at, pay=False)
        late = at + timedelta(hours=23)
        with pytest.raises(own_errors.SubscriptionEnded):
            lifecycle.mark_paid(
                subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(late)
            )
        later = factories.subscribe(customer, "basic", at=late + DAY)
        row.refresh_from_db()
        assert (row.status, row.ended_at) == ("expired", late)
        assert timeline()[-2:] == [
            (late, "incomplete", "expired", "incomplete_window_elapsed"),
            (late + DAY, "", "active", "subscribed"),
        ]
        assert later.status == "active"

    def test_anew_expires_the_one_that_waits(self, customer, at):
        first = factories.subscribe(customer, "pro", at=at, pay=False)
        second = factories.subscribe(customer, "pro", at=at + DAY / 2, pay=False)
        first.refresh_from_db()
        assert (first.status, second.status) == ("expired", "incomplete")

    def test_is_refused_where_one_is_live(self, customer, at):
        factories.subscribe(customer, "basic", at=at)
        before = everything()
        for plan_key in ("basic", "pro", "free"):
            with pytest.raises(own_errors.SubscriptionExists):
                factories.subscribe(customer, plan_key, at=at)
        assert everything() == before

    def test_is_refused_for_plans_and_prices_that_are_not_on_offer(self, customer, at):
        factories.make_plan("draft", at=at, publish=False)
        gone = factories.make_plan("gone", at=at)
        catalog.archive_plan(plan_id=gone.pk, clock=factories.standing(at))
        dollars = factories.make_plan("dollars", at=at, publish=False, price_minor=100)
        Price.objects.filter(key="dollars-monthly").update(currency="USD")
        catalog.publish(plan_version_id=dollars.versions.get().pk, clock=factories.standing(at))
        before = everything()
        for plan_key, refusal in (
            ("nope", own_errors.PlanUnknown),
            ("draft", own_errors.PlanNotAvailable),
            ("gone", own_errors.PlanNotAvailable),
            ("dollars", own_errors.CurrencyMismatch),
        ):
            with pytest.raises(refusal):
                factories.subscribe(customer, plan_key, at=at)
        with pytest.raises(errors.Invalid):
            lifecycle.resolve_offer(
                order=lifecycle.Order(plan_key="pro", price_key="x"), currency="EUR"
            )
        with pytest.raises(errors.NotFound):
            factories.subscribe(Customer(pk=uuid4()), "basic", at=at)
        assert everything() == before

    def test_without_any_price_is_free(self, customer, at):
        plan = factories.make_plan("plain", at=at, publish=False)
        Price.objects.filter(key="plain-monthly").delete()
        catalog.publish(plan_version_id=plan.versions.get().pk, clock=factories.standing(at))
        assert factories.subscribe(customer, "plain", at=at).status == "active"

    def test_starts_a_trial_once_per_plan_group(self, customer, at):
        factories.make_plan("trial", at=at, price_minor=100, version={"trial_days": 14})
        row = factories.subscribe(customer, "trial", at=at)
        assert (row.status, row.trial_ends_at) == ("trialing", at + 14 * DAY)
        later = at + 20 * DAY
        again = factories.subscribe(customer, "trial", at=later, pay=False)
        row.refresh_from_db()
        assert (row.status, row.ended_at) == ("canceled", at + 14 * DAY)
        assert again.status == "incomplete"


class TestMarkPaid:
    def test_is_refused_where_nothing_is_awaited(self, customer, at):
        live = factories.subscribe(customer, "basic", at=at)
        before = everything()
        for subscription_id, refusal in (
            (live.pk, own_errors.InvalidTransition),
            (uuid4(), errors.NotFound),
        ):
            with pytest.raises(refusal):
                lifecycle.mark_paid(
                    subscription_id=subscription_id,
                    actor=factories.ACTOR,
                    clock=factories.standing(at),
                )
        assert everything() == before

    def test_is_refused_where_another_took_the_place(self, customer, at):
        waiting = factories.subscribe(customer, "pro", at=at, pay=False)
        Subscription.objects.filter(pk=waiting.pk).update(status="expired", ended_at=at)
        factories.make_plan("team", at=STARTED, limits={"api_calls": 700}, price_minor=900)
        factories.subscribe(customer, "team", at=at)
        Subscription.objects.filter(pk=waiting.pk).update(status="incomplete", ended_at=None)
        before = everything()
        with pytest.raises(own_errors.SubscriptionExists):
            lifecycle.mark_paid(
                subscription_id=waiting.pk, actor=factories.ACTOR, clock=factories.standing(at)
            )
        assert everything() == before


class TestCancelNow:
    def cancel(self, row, at) -> Subscription:
        return lifecycle.cancel_now(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(at)
        )

    def test_falls_back_to_the_default_plan_at_that_instant(self, customer, at):
        row = factories.subscribe(customer, "basic", at=at)
        factories.consume(customer, 400, at=at)
        self.cancel(row, at + DAY)
        assert limit_at(customer, at + DAY) == 100
        assert self.cancel(row, at + 2 * DAY).ended_at == at + DAY
        with pytest.raises(errors.NotFound):
            self.cancel(Subscription(pk=uuid4()), at)

    def test_yields_no_fresh_units_by_subscribing_again(self, customer, at):
        row = factories.subscribe(customer, "basic", at=at)
        factories.consume(customer, 500, at=at)
        self.cancel(row, at + DAY)
        again = factories.subscribe(customer, "basic", at=at + 2 * DAY)
        assert again.anchor_at == at
        with pytest.raises(metering_errors.UsageLimitReached):
            factories.consume(customer, 1, at=at + 2 * DAY)
        assert factories.consume(customer, 1, at=datetime(2026, 4, 10, 12, tzinfo=UTC))

    def test_lets_a_new_period_begin_after_the_old_one_is_over(self, customer, at):
        row = factories.subscribe(customer, "basic", at=at)
        self.cancel(row, at + DAY)
        again = factories.subscribe(customer, "basic", at=at + 60 * DAY)
        assert again.anchor_at == at + 60 * DAY

    def test_never_counts_a_subscription_that_was_not_paid(self, customer, at):
        row = factories.subscribe(customer, "pro", at=at, pay=False)
        self.cancel(row, at + DAY / 2)
        paid = factories.subscribe(customer, "pro", at=at + DAY)
        assert paid.anchor_at == at + DAY


class TestDenials:
    @pytest.mark.parametrize(
        ("changes", "refusal"),
        [
            ({"status": "paused"}, metering_errors.SubscriptionPaused),
            ({"status": "unpaid"}, metering_errors.PastDueBlocked),
            (
                {"status": "past_due", "grace_until": STARTED},
                metering_errors.PastDueBlocked,
            ),
        ],
    )
    def test_follow_the_status_and_keep_usage_and_window(self, customer, at, changes, refusal):
        row = factories.subscribe(customer, "basic", at=at)
        factories.consume(customer, 7, at=at)
        Subscription.objects.filter(pk=row.pk).update(**changes)
        Balance.objects.update(valid_until=at)
        for _ in range(2):  # by the slow path, then by the row's own denial
            with pytest.raises(refusal):
                factories.consume(customer, 1, at=at)
        assert list(Balance.objects.values_list("used_units", "is_current")) == [(7, True)]

    def test_name_a_plan_without_the_feature(self, customer, at):
        factories.make_feature("exports", at=at)
        with pytest.raises(metering_errors.FeatureNotInPlan):
            factories.consume(customer, 1, at=at, feature="exports")
        assert not Balance.objects.exists()

    def test_name_a_customer_without_any_plan(self, at):
        factories.make_plan("pro", at=at, price_minor=100)
        customer = factories.make_customer(at=at)
        with pytest.raises(metering_errors.NoActiveSubscription):
            factories.consume(customer, 1, at=at)
        factories.subscribe(customer, "pro", at=at, pay=False)
        with pytest.raises(metering_errors.PaymentRequired):
            factories.consume(customer, 1, at=at, key="later")
        assert not Balance.objects.exists()
        row = Subscription.objects.get()
        lifecycle.mark_paid(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(at)
        )
        assert factories.consume(customer, 1, at=at, key="later").replayed is False

    def test_close_the_row_of_a_feature_that_left_the_plan(self, customer, at):
        factories.make_plan("wide", at=at, limits={"api_calls": 1, "exports": 9})
        row = factories.subscribe(customer, "wide", at=at)
        factories.consume(customer, 3, at=at, feature="exports")
        lifecycle.cancel_now(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(at)
        )
        with pytest.raises(metering_errors.FeatureNotInPlan):
            factories.consume(customer, 1, at=at, feature="exports")
        balance = Balance.objects.get(feature__key="exports")
        assert (balance.used_units, balance.denial_code) == (3, "feature_not_in_plan")

    def test_are_raised_for_a_customer_who_is_not_there(self, customer, at):
        with pytest.raises(errors.NotFound):
            factories.consume(Customer(pk=uuid4()), 1, at=at)


class TestModes:
    @pytest.mark.parametrize(
        ("entitlement", "granted"),
        [
            ({"mode": "hard"}, 10),
            ({"mode": "capped", "overage_cap_units": 5}, 15),
            ({"mode": "soft"}, 40),
            ({"mode": "hard", "per_quantity": True}, 10),
        ],
    )
    def test_of_a_limit_bound_what_is_granted(self, at, entitlement, granted):
        factories.make_plan("p", at=at, limits={"api_calls": 10}, entitlement=entitlement)
        customer = factories.make_customer(at=at)
        factories.subscribe(customer, "p", at=at)
        count = 0
        for _ in range(40):
            with suppress(metering_errors.UsageLimitReached):
                factories.consume(customer, 1, at=at)
                count += 1
        assert count == granted == Balance.objects.get().used_units

    @pytest.mark.parametrize(
        ("interval", "ends_at"),
        [
            ("minute", datetime(2026, 3, 10, 12, 1, tzinfo=UTC)),
            ("day", datetime(2026, 3, 11, 12, tzinfo=UTC)),
            ("year", datetime(2027, 3, 10, 12, tzinfo=UTC)),
            ("billing_period", datetime(2026, 4, 10, 12, tzinfo=UTC)),
            ("lifetime", None),
        ],
    )
    def test_of_resetting_open_their_own_periods(self, at, interval, ends_at):
        factories.make_plan("p", at=at, entitlement={"reset_interval": interval})
        customer = factories.make_customer(at=at)
        factories.subscribe(customer, "p", at=at)
        entry = factories.consume(customer, 100, at=at).entries[0]
        assert (entry.period_starts_at, entry.period_ends_at) == (at, ends_at)
        if ends_at is not None:
            assert factories.consume(customer, 1, at=ends_at).entries[0].used_units == 1
