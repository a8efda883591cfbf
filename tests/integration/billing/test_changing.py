"""A preview says what the execution does, to the minor unit, and changes nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.models import Invoice, InvoiceLine, MrrMovement
from billing.services import changing, customer_balance
from core.models import Customer, OutboxEvent
from core.services.idempotency import KeyedRequest
from metering import errors as metering_errors
from metering.models import Balance
from subscriptions import errors as subscription_errors
from subscriptions.models import Subscription
from subscriptions.services.changes import ChangeOrder
from tests import factories

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

    def test_of_a_free_subscription_to_a_paid_plan_is_refused(self, customer):
        factories.subscribe(customer, "free", at=APRIL)
        before = everything()
        with pytest.raises(metering_errors.PaymentRequired):
            preview(customer, HALF_WAY, "team")
        with pytest.raises(metering_errors.PaymentRequired):
            change(customer, HALF_WAY, "team")
        assert everything() == before


class TestChange:
    def test_is_done_once_under_its_key(self, customer, till):
        till.subscribe("pro", APRIL)
        first = change(customer, HALF_WAY, "team")
        before = everything()
        again = change(customer, HALF_WAY + MINUTE, "team")
        assert (again.body, again.replayed) == (first.body, True)
        assert everything() == before
