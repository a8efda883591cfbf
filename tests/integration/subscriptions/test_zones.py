"""A customer's other zone counts from the next boundary on: for access, usage and money alike."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.models import InvoiceLine
from core import db, errors
from core.models import AuditEntry, Customer, OutboxEvent
from core.services import customers
from core.services.customers import CustomerChange
from core.zones import CHANGES_MAX
from metering import selectors
from metering.models import Balance, Hold
from metering.services import auditing, owned_holds
from metering.services.consumption import Wanted
from subscriptions.models import Subscription, TimelineEntry
from subscriptions.services import lifecycle
from tests import factories
from tests import till as tills

pytestmark = pytest.mark.django_db
BERLIN = "Europe/Berlin"
ANCHOR = datetime(2026, 5, 15, 10, tzinfo=UTC)
CHANGED = datetime(2026, 10, 1, 12, tzinfo=UTC)
# 11:00 UTC in May is 12:00 in Berlin, which is 11:00 UTC again once the summer time is over
OCTOBER, NOVEMBER = datetime(2026, 10, 15, 10, tzinfo=UTC), datetime(2026, 11, 15, 11, tzinfo=UTC)
SEPTEMBER = datetime(2026, 9, 15, 10, tzinfo=UTC)
UTC_NOVEMBER = datetime(2026, 11, 15, 10, tzinfo=UTC)


@pytest.fixture
def customer() -> Customer:
    tills.make_catalog(at=ANCHOR)
    return factories.make_customer(at=ANCHOR)


@pytest.fixture
def till(customer) -> tills.Till:
    return tills.Till(customer)


def move(customer, to=BERLIN, *, at=CHANGED) -> Customer:
    return customers.update(
        customer_id=customer.pk,
        change=CustomerChange(time_zone=to),
        expected_revision=None,
        actor=factories.ACTOR,
        clock=factories.standing(at),
    )


def overview(customer, *, at):
    fresh = Customer.objects.get(pk=customer.pk)
    return selectors.get_overview(customer=fresh, clock=factories.standing(at))


def resets_at(customer, *, at, feature="api_calls") -> datetime | None:
    return overview(customer, at=at).standings[feature].resets_at


class TestAnotherZone:
    def test_leaves_what_runs_and_counts_the_next_period(self, customer, till):
        row = till.subscribe("pro", ANCHOR)
        till.settle(CHANGED)
        factories.consume(customer, 7, at=CHANGED)
        before = Subscription.objects.values().get()
        balances = list(Balance.objects.values())
        at = CHANGED + timedelta(seconds=1)
        move(customer, at=at)
        after = Subscription.objects.values().get()
        former = {
            "time_zone": "UTC",
            "changed_at": "2026-10-01T12:00:01Z",
            "renews_at": "2026-10-15T10:00:00Z",
        }
        assert after == before | {"time_zone": BERLIN, "former_zones": [former]}
        assert [each | {"decided_at": None} for each in Balance.objects.values()] == [
            each | {"decided_at": None} for each in balances
        ]
        assert resets_at(customer, at=at) == OCTOBER
        till.pay_all(OCTOBER + timedelta(days=1))
        factories.consume(customer, 5, at=OCTOBER)
        assert resets_at(customer, at=OCTOBER) == NOVEMBER
        till.settle(NOVEMBER)
        billed = InvoiceLine.objects.filter(subscription=row, kind="recurring")
        assert list(billed.order_by("starts_at").values_list("starts_at", "ends_at"))[-3:] == [
            (SEPTEMBER, OCTOBER),
            (OCTOBER, NOVEMBER),
            (NOVEMBER, datetime(2026, 12, 15, 11, tzinfo=UTC)),
        ]
        assert auditing.audit()[0] == []

    def test_is_told_audited_and_in_the_timeline_once(self, customer, till):
        till.subscribe("pro", ANCHOR)
        till.settle(CHANGED)
        lines = TimelineEntry.objects.count()
        revision = Customer.objects.get().revision
        row = move(customer)
        assert (row.time_zone, row.revision) == (BERLIN, revision + 1)
        entry = AuditEntry.objects.get(action="customer.time_zone_changed")
        assert (entry.before, entry.after) == ({"time_zone": "UTC"}, {"time_zone": BERLIN})
        told = OutboxEvent.objects.get(event_type="customer.time_zone_changed")
        actor = {"name": "test", "reason": "", "request_id": ""}
        assert told.payload == {"from": "UTC", "to": BERLIN, "actor": actor}
        assert told.occurred_at == CHANGED
        line = TimelineEntry.objects.order_by("id").last()
        assert (line.event, line.from_status, line.to_status, line.at, line.actor) == (
            "time_zone_changed",
            "active",
            "active",
            CHANGED,
            "test",
        )
        assert TimelineEntry.objects.count() == lines + 1
        move(customer, at=CHANGED + timedelta(days=1))
        assert OutboxEvent.objects.filter(event_type="customer.time_zone_changed").count() == 1
        assert Customer.objects.get().revision == row.revision

    def test_follows_the_default_plan_too(self, customer):
        factories.consume(customer, 3, at=CHANGED)
        move(customer)
        assert resets_at(customer, at=CHANGED) == OCTOBER
        factories.consume(customer, 3, at=OCTOBER)
        assert resets_at(customer, at=OCTOBER) == NOVEMBER
        assert Balance.objects.filter(is_current=True).get().used_units == 3

    def test_lets_days_follow_though_a_year_runs(self, customer, till):
        plan = factories.make_plan(
            "daily",
            at=ANCHOR,
            limits={"exports": 10},
            rank=60,
            publish=False,
            entitlement={"reset_interval": "day"},
        )

        def yearly(price) -> None:
            price.interval, price.unit_amount_minor = "year", 20000

        tills.price_plan(plan, ANCHOR, alter=yearly)
        till.subscribe("daily", ANCHOR)
        winter = datetime(2026, 12, 1, 12, tzinfo=UTC)
        factories.consume(customer, 4, at=winter, feature="exports")
        move(customer, at=winter)
        tomorrow = datetime(2026, 12, 2, 10, tzinfo=UTC)
        assert resets_at(customer, at=winter, feature="exports") == tomorrow
        factories.consume(customer, 1, at=tomorrow, feature="exports")
        following = resets_at(customer, at=tomorrow, feature="exports")
        assert following == datetime(2026, 12, 3, 11, tzinfo=UTC)
        assert overview(customer, at=tomorrow).standings["exports"].used_units == 1
        assert Subscription.objects.get().renewed_until == datetime(2027, 5, 15, 10, tzinfo=UTC)

    def test_before_a_trial_has_ended_counts_from_its_end(self, customer):
        factories.make_plan(
            "tried", at=ANCHOR, rank=60, price_minor=900, version={"trial_days": 14}
        )
        row = factories.subscribe(customer, "tried", at=ANCHOR)
        move(customer, at=ANCHOR + timedelta(days=1))
        Subscription.objects.update(has_payment_method=True)
        row.refresh_from_db()
        assert row.former_zones[0]["renews_at"] == "2026-05-29T10:00:00Z"
        tills.Till(customer).settle(datetime(2026, 12, 1, tzinfo=UTC))
        row.refresh_from_db()
        assert row.renewed_until == datetime(2026, 12, 29, 11, tzinfo=UTC)

    def test_reaches_what_the_clock_has_moved_and_nobody_wrote_down(self, customer):
        factories.make_plan(
            "tried", at=ANCHOR, rank=60, price_minor=900, version={"trial_days": 14}
        )
        row = factories.subscribe(customer, "tried", at=ANCHOR)
        Subscription.objects.update(has_payment_method=True)
        move(customer, at=CHANGED)  # on trial by the row alone
        row.refresh_from_db()
        assert (row.status, row.former_zones[0]["renews_at"]) == (
            "trialing",
            "2026-10-29T10:00:00Z",
        )
        tills.Till(customer).settle(datetime(2026, 10, 30, tzinfo=UTC))
        row.refresh_from_db()
        assert row.renewed_until == datetime(2026, 11, 29, 11, tzinfo=UTC)

    def test_keeps_the_period_of_a_plan_taken_again(self, customer, till):
        row = till.subscribe("pro", ANCHOR)
        till.settle(CHANGED)
        factories.consume(customer, 900, at=CHANGED)
        lifecycle.cancel_now(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(CHANGED)
        )
        later = CHANGED + timedelta(hours=1)
        move(customer, at=later)
        again = till.subscribe("pro", later + timedelta(hours=1))
        assert (again.anchor_at, again.renewed_until) == (ANCHOR, OCTOBER)
        shown = overview(customer, at=later + timedelta(hours=2)).standings["api_calls"]
        assert (shown.used_units, shown.resets_at) == (900, OCTOBER)
        till.settle(OCTOBER)
        again.refresh_from_db()
        assert again.renewed_until == NOVEMBER

    def test_moves_a_hold_of_a_period_to_come_along(self, customer, till):
        till.subscribe("pro", ANCHOR)
        till.settle(CHANGED)
        asked_at = UTC_NOVEMBER + timedelta(minutes=30)
        with db.transaction():
            owned_holds.exchange_step(
                customer=owned_holds.lock_customer_step(customer_id=customer.pk),
                owner="booking 1",
                ends=(),
                wanted=[Wanted(feature_key="api_calls", units=2)],
                usage_at=asked_at,
                clock=factories.standing(CHANGED),
            )
        former = Hold.objects.get().balance
        assert (former.period_starts_at, former.held_units) == (UTC_NOVEMBER, 2)
        move(customer)
        hold = Hold.objects.get()
        row = hold.balance
        assert (row.period_starts_at, row.held_units, row.ceiling_units) == (OCTOBER, 2, 1000)
        assert hold.is_provisional
        former.refresh_from_db()
        assert former.held_units == 0
        assert auditing.audit()[0] == []


class TestRefused:
    def test_is_what_is_no_zone(self, customer):
        before = Customer.objects.values().get()
        with pytest.raises(errors.Invalid):
            move(customer, "Mars/Olympus")
        assert Customer.objects.values().get() == before

    def test_is_the_51st_change(self, customer, till):
        till.subscribe("pro", ANCHOR)
        for number in range(CHANGES_MAX):
            move(customer, (BERLIN, "UTC")[number % 2], at=CHANGED + timedelta(days=number))
        before = list(Subscription.objects.values()), Customer.objects.values().get()
        with pytest.raises(errors.Invalid):
            move(customer, at=CHANGED + timedelta(days=99))
        assert before == (list(Subscription.objects.values()), Customer.objects.values().get())
