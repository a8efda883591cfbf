"""A preview says what the execution does, to the minor unit, and changes nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.models import Invoice, InvoiceLine, MrrMovement, Payment
from billing.services import changing, customer_balance
from core.models import Customer, OutboxEvent
from core.services.idempotency import KeyedRequest
from metering import selectors as metering_selectors
from metering.models import Balance
from subscriptions import errors as subscription_errors
from subscriptions.models import Subscription, SubscriptionAddOn
from subscriptions.services import add_ons
from subscriptions.services.add_ons import AddOnOrder
from subscriptions.services.changes import ChangeOrder
from tests import factories
from tests import till as tills

pytestmark = pytest.mark.django_db
APRIL, MAY = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
HALF_WAY = datetime(2026, 4, 16, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def preview(customer, at, plan_key, **order) -> changing.Quote:
    return changing.preview(
        customer_id=customer.pk,
        order=ChangeOrder(plan_key=plan_key, **order),
        clock=factories.standing(at),
    )


def shown(quote: changing.Quote) -> dict:
    return {
        "effective_at": str(quote.effective_at),
        "lines": [
            [line.description, line.amount_minor, str(line.starts_at)] for line in quote.lines
        ],
        "due": quote.due_now_minor,
        "limits": dict(quote.limits_after),
        "exceeds": quote.exceeds,
    }


def change(customer, at, plan_key, *, proration_at=None, key="k", **order):
    return changing.change(
        customer_id=customer.pk,
        order=ChangeOrder(plan_key=plan_key, **order),
        proration_at=proration_at,
        actor=factories.ACTOR,
        keyed=KeyedRequest(key=key, fingerprint="f"),
        render=shown,
        clock=factories.standing(at),
    )


def everything() -> list:
    stored = (Subscription, Invoice, InvoiceLine, MrrMovement, Balance, Customer, OutboxEvent)
    return [list(model.objects.order_by("pk").values()) for model in stored]


def status_of(customer) -> dict[str, str]:
    rows = Subscription.objects.filter(customer=customer).order_by("id")
    return dict(rows.values_list("plan_version__plan__key", "status"))


def limit_of(customer, at) -> int:
    clock = factories.standing(at)
    overview = metering_selectors.get_overview(customer=customer, clock=clock)
    return overview.standings["api_calls"].limit_units


class TestPreview:
    @pytest.mark.parametrize(
        ("plan_key", "order", "due", "limits"),
        [
            ("team", {}, 500, {"api_calls": 5000}),
            ("annual", {}, 19500, {"api_calls": 100}),
            ("seats", {"quantity": 7}, 3000, {"api_calls": 100}),
            ("free", {}, 0, {"api_calls": 100}),
        ],
    )
    def test_is_executed_to_the_minor_unit(self, customer, till, plan_key, order, due, limits):
        till.subscribe("pro", APRIL)
        before = everything()
        quote = preview(customer, HALF_WAY, plan_key, **order)
        assert everything() == before
        assert (quote.due_now_minor, quote.limits_after) == (due, limits)
        answer = change(
            customer, HALF_WAY + MINUTE, plan_key, proration_at=quote.proration_at, **order
        )
        assert answer.body == shown(quote)
        if due:
            issued = Invoice.objects.order_by("-number").filter(number__gt=1).get()
            assert (issued.due_minor, issued.status) == (due, "open")

    def test_counts_the_balance_in(self, customer, till):
        till.subscribe("pro", APRIL)
        customer_balance.adjust(
            customer_id=customer.pk,
            currency="EUR",
            amount_minor=120,
            actor=factories.ACTOR,
            clock=factories.standing(APRIL),
        )
        quote = preview(customer, HALF_WAY, "team")
        change(customer, HALF_WAY, "team", proration_at=quote.proration_at)
        issued = Invoice.objects.get(number=2)
        assert (quote.due_now_minor, issued.due_minor, issued.balance_minor) == (380, 380, 120)

    def test_names_what_would_exceed(self, customer, till):
        till.subscribe("pro", APRIL)
        factories.consume(customer, 300, at=APRIL)
        quote = preview(customer, HALF_WAY, "free")
        assert (quote.effective_at, quote.exceeds) == (MAY, ["api_calls"])

    @pytest.mark.parametrize("late", [timedelta(minutes=10, microseconds=1), timedelta(days=20)])
    def test_is_stale_after_ten_minutes_or_in_another_period(self, customer, till, late):
        till.subscribe("pro", APRIL)
        quote = preview(customer, HALF_WAY, "team")
        till.settle(HALF_WAY + late)
        before = everything()
        with pytest.raises(subscription_errors.PreviewStale):
            change(customer, HALF_WAY + late, "team", proration_at=quote.proration_at)
        assert everything() == before

    def test_is_stale_once_something_changed(self, customer, till):
        row = till.subscribe("pro", APRIL)
        quote = preview(customer, HALF_WAY, "team")
        till.change(row, HALF_WAY + MINUTE, plan_key="seats")
        before = everything()
        with pytest.raises(subscription_errors.PreviewStale):
            change(customer, HALF_WAY + 2 * MINUTE, "team", proration_at=quote.proration_at)
        assert everything() == before


class TestFromFreeToPaid:
    def test_waits_for_the_payment_that_its_preview_named(self, customer, till):
        free = factories.subscribe(customer, "free", at=APRIL)
        before = everything()
        quote = preview(customer, HALF_WAY, "team")
        assert everything() == before
        assert (quote.due_now_minor, quote.limits_after) == (2000, {"api_calls": 5000})
        answer = change(customer, HALF_WAY + MINUTE, "team", proration_at=quote.proration_at)
        assert answer.body == shown(quote)
        invoice = Invoice.objects.get()
        assert (invoice.status, invoice.due_minor) == ("open", 2000)
        assert status_of(customer) == {"free": "active", "team": "incomplete"}
        assert limit_of(customer, HALF_WAY + MINUTE) == 100
        paid_at = HALF_WAY + timedelta(hours=2)
        till.mark(invoice, paid_at)
        assert invoice.status == "paid"
        assert status_of(customer) == {"free": "canceled", "team": "active"}
        assert limit_of(customer, paid_at) == 5000
        free.refresh_from_db()
        assert free.ended_at == paid_at
        line = InvoiceLine.objects.get()
        assert (line.starts_at, line.ends_at) == (paid_at, paid_at.replace(month=5))
        assert MrrMovement.objects.get().amount_minor == 2000

    def test_leaves_the_free_one_in_force_where_nobody_pays(self, customer, till):
        factories.subscribe(customer, "free", at=APRIL)
        change(customer, HALF_WAY, "team")
        till.settle(HALF_WAY + timedelta(hours=23))
        assert status_of(customer) == {"free": "active", "team": "expired"}
        assert Invoice.objects.get().status == "void"
        assert not MrrMovement.objects.exists()

    def test_waits_once_the_latest_wins(self, customer):
        factories.subscribe(customer, "free", at=APRIL)
        change(customer, HALF_WAY, "team")
        change(customer, HALF_WAY + MINUTE, "pro", key="k2")
        assert status_of(customer) == {"free": "active", "team": "expired", "pro": "incomplete"}
        due = Invoice.objects.filter(status="open").values_list("due_minor", flat=True)
        assert list(due) == [1000]

    def test_begins_at_once_where_the_balance_pays(self, customer):
        factories.subscribe(customer, "free", at=APRIL)
        customer_balance.adjust(
            customer_id=customer.pk,
            currency="EUR",
            amount_minor=2000,
            actor=factories.ACTOR,
            clock=factories.standing(APRIL),
        )
        quote = preview(customer, HALF_WAY, "team")
        change(customer, HALF_WAY, "team", proration_at=quote.proration_at)
        assert quote.due_now_minor == 0
        assert status_of(customer) == {"free": "canceled", "team": "active"}

    def test_does_not_take_the_place_of_what_is_paid_for(self, customer, till):
        free = factories.subscribe(customer, "free", at=APRIL)
        change(customer, HALF_WAY, "team")
        invoice = Invoice.objects.get()
        till.change(free, HALF_WAY + MINUTE, plan_key="pro")
        till.mark(invoice, HALF_WAY + 2 * MINUTE)
        assert status_of(customer) == {"pro": "active", "team": "incomplete"}
        assert Payment.objects.get().is_late

    @pytest.fixture
    def free(self, customer) -> Subscription:
        """Return a free subscription with two of an add-on of 3.00 EUR a month."""
        row = factories.subscribe(customer, "free", at=APRIL)
        tills.make_add_on(row.plan_group, at=APRIL)
        self.set_add_on(row, 2, at=APRIL)
        return row

    def set_add_on(self, row, quantity, *, at, key="support"):
        add_ons.set_quantity(
            subscription_id=row.pk,
            order=AddOnOrder(add_on_key=key, quantity=quantity),
            actor=factories.ACTOR,
            clock=factories.standing(at),
        )

    def held(self) -> list[tuple]:
        rows = SubscriptionAddOn.objects.filter(ends_at__isnull=True).order_by("add_on__key")
        named = rows.values_list("subscription__plan_version__plan__key", "add_on__key", "quantity")
        return sorted(named)

    def test_takes_its_add_ons_along_as_the_preview_says(self, customer, till, free):
        till.pay_all(APRIL)
        before = everything()
        quote = preview(customer, HALF_WAY, "team")
        assert everything() == before
        assert [(line.description, line.amount_minor) for line in quote.lines] == [
            ("Team", 2000),
            ("Support", 600),
        ]
        assert quote.due_now_minor == 2600
        answer = change(customer, HALF_WAY, "team", proration_at=quote.proration_at)
        assert answer.body == shown(quote)
        assert self.held() == [("free", "support", 2), ("team", "support", 2)]
        till.mark(Invoice.objects.get(total_minor=2600), HALF_WAY)
        assert self.held() == [("team", "support", 2)]
        later = HALF_WAY.replace(month=5)
        lines = InvoiceLine.objects.filter(subscription__plan_version__plan__key="team")
        assert set(lines.values_list("item", "starts_at", "ends_at")) == {
            ("plan", HALF_WAY, later),
            ("add_on:support", HALF_WAY, later),
        }
        given_back = InvoiceLine.objects.get(kind="proration_credit")
        assert (given_back.subscription_id, given_back.amount_minor) == (free.pk, -300)
        assert [each.amount_minor for each in MrrMovement.objects.order_by("id")] == [
            600,
            -600,
            2600,
        ]
        till.settle(later)
        renewed = InvoiceLine.objects.filter(starts_at=later, kind="recurring")
        assert set(renewed.values_list("item", "amount_minor")) == {
            ("plan", 2000),
            ("add_on:support", 600),
        }

    def test_takes_along_what_is_added_while_it_waits(self, customer, till, free):
        till.pay_all(APRIL)
        change(customer, HALF_WAY, "team")
        tills.make_add_on(free.plan_group, at=APRIL, key="extra")
        self.set_add_on(free, 1, at=HALF_WAY + MINUTE, key="extra")
        till.mark(Invoice.objects.get(total_minor=2600), HALF_WAY + 2 * MINUTE)
        assert self.held() == [("team", "extra", 1), ("team", "support", 2)]
        charged = InvoiceLine.objects.filter(subscription__plan_version__plan__key="team")
        assert list(charged.filter(item="add_on:extra").values_list("kind", "amount_minor")) == [
            ("charge", 300)
        ]

    def test_keeps_the_add_ons_of_the_free_one_where_nobody_pays(self, customer, till, free):
        change(customer, HALF_WAY, "team")
        till.settle(HALF_WAY + timedelta(hours=23))
        assert self.held() == [("free", "support", 2)]
        assert not InvoiceLine.objects.filter(kind="proration_credit").exists()


class TestChange:
    def test_is_done_once_under_its_key(self, customer, till):
        till.subscribe("pro", APRIL)
        first = change(customer, HALF_WAY, "team")
        before = everything()
        again = change(customer, HALF_WAY + MINUTE, "team")
        assert (again.body, again.replayed) == (first.body, True)
        assert everything() == before
