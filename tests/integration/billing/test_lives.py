"""Random lives of a customer: whatever he does, every minor unit is accounted for.

`LIVES=2000 pytest tests/integration/billing/test_lives.py` makes it long.
"""

import contextlib
import itertools
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.db.models import Sum
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from billing import selectors
from billing.models import BalanceEntry, Coupon, CreditNote, Invoice, InvoiceLine, MrrMovement
from billing.services import changing, corrections, coupons, revenue, subscribing
from core import errors
from core.models import Customer
from core.services.idempotency import KeyedRequest
from metering.models import UsageEntry
from metering.services import reversing
from metering.services.reversing import Reversal
from subscriptions.models import Subscription
from subscriptions.services import actions, lifecycle
from subscriptions.services.changes import ChangeOrder
from tests import factories
from tests.till import STARTED, Till

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]
LIVES = int(os.environ.get("LIVES", "10"))
STEPS_MAX = 12
PLANS = ("free", "pro", "team", "annual", "seats", "usage")
COUPONS = ("ONCE", "TWICE", "ALWAYS", None)
NEVER_ISSUED = ("draft", "void")

STEPS = st.one_of(
    st.tuples(st.just("wait"), st.integers(0, 70 * 24)),
    st.tuples(st.just("subscribe"), st.sampled_from(PLANS), st.sampled_from(COUPONS)),
    st.tuples(st.just("change"), st.sampled_from(PLANS), st.integers(1, 5)),
    st.tuples(st.just("pay"), st.booleans()),
    st.tuples(st.just("credit_note"), st.integers(1, 3000)),
    st.tuples(st.just("consume"), st.integers(1, 400)),
    st.tuples(st.just("reverse"), st.integers(0, 3)),
    st.tuples(st.sampled_from(["pause", "resume", "cancel_now", "cancel_at_period_end"])),
)


class Life:
    """One customer, who acts at instants that only rise; what is refused changes nothing."""

    def __init__(self, customer: Customer) -> None:
        self.customer = customer
        self.till = Till(customer)
        self.at = STARTED
        self.count = 0

    def step(self, name: str, *given) -> None:
        self.at += timedelta(minutes=7)
        self.count += 1
        act: Callable[..., None] = getattr(self, name, None) or (lambda: self.act(name))
        with contextlib.suppress(errors.DomainError):
            act(*given)
        self.till.issue(self.at)

    @property
    def clock(self):
        return factories.standing(self.at)

    @property
    def keyed(self) -> KeyedRequest:
        return KeyedRequest(key=f"k{self.count}", fingerprint="f")

    def wait(self, hours: int) -> None:
        self.at += timedelta(hours=hours)
        self.till.settle(self.at)

    def subscribe(self, plan_key: str, coupon: str | None) -> None:
        subscribing.subscribe(
            customer_id=self.customer.pk,
            order=lifecycle.Order(plan_key=plan_key),
            coupon_key=coupon,
            actor=factories.ACTOR,
            keyed=self.keyed,
            render=lambda row, _, __: {"id": str(row.pk)},
            clock=self.clock,
        )

    def change(self, plan_key: str, quantity: int) -> None:
        order = ChangeOrder(plan_key=plan_key, quantity=quantity)
        quote = changing.preview(customer_id=self.customer.pk, order=order, clock=self.clock)
        done: list[changing.Quote] = []
        changing.change(
            customer_id=self.customer.pk,
            order=order,
            proration_at=quote.proration_at,
            actor=factories.ACTOR,
            keyed=self.keyed,
            render=lambda executed: done.append(executed) or {},
            clock=self.clock,
        )
        (executed,) = done
        assert figures(executed) == figures(quote)

    def pay(self, succeeds) -> None:
        invoice = self.open_invoices().first()
        if invoice is not None:
            self.till.mark(invoice, self.at, status="succeeded" if succeeds else "failed")

    def credit_note(self, amount_minor: int) -> None:
        invoice = Invoice.objects.filter(customer=self.customer).order_by("-id").first()
        if invoice is not None:
            corrections.credit_note(
                invoice_id=invoice.pk,
                amount_minor=amount_minor,
                actor=factories.ACTOR,
                clock=self.clock,
            )

    def consume(self, units: int) -> None:
        factories.consume(self.customer, units, at=self.at)

    def reverse(self, number: int) -> None:
        used = UsageEntry.objects.filter(customer=self.customer, kind="consume").order_by("-id")
        for entry in used[number : number + 1]:
            reversal = Reversal(customer_id=self.customer.pk, entry_id=entry.pk, keyed=self.keyed)
            reversing.reverse(reversal, clock=self.clock)

    def act(self, name: str) -> None:
        row = Subscription.objects.filter(customer=self.customer).order_by("-id").first()
        if row is not None:
            operation = getattr(actions, name)
            operation(subscription_id=row.pk, actor=factories.ACTOR, clock=self.clock)

    def open_invoices(self):
        return Invoice.objects.filter(customer=self.customer, status="open").order_by("number")


def figures(quote: changing.Quote) -> tuple:
    lines = [(line.description, line.amount_minor, line.discount_minor) for line in quote.lines]
    return lines, quote.due_now_minor, quote.limits_after, quote.exceeds


def check_invoices(customer: Customer) -> None:
    for invoice in Invoice.objects.filter(customer=customer).exclude(status="draft"):
        lines = list(invoice.lines.all())
        assert invoice.total_minor == sum(line.amount_minor - line.discount_minor for line in lines)
        settled = invoice.paid_minor + invoice.balance_minor + invoice.credited_minor
        assert invoice.due_minor == invoice.total_minor - settled >= 0


def check_credits(customer: Customer) -> None:
    """Assert for each line that consumed + credited = billed, with both at least 0."""
    lines = InvoiceLine.objects.filter(invoice__customer=customer).exclude(invoice__status="void")
    credited: dict[UUID, int] = {}
    for line in lines.filter(kind="proration_credit"):
        credited[line.credits_id] = credited.get(line.credits_id, 0) - line.amount_minor
    for line in lines.exclude(kind="proration_credit"):
        assert 0 <= credited.get(line.pk, 0) <= line.amount_minor - line.discount_minor


def check_periods(customer: Customer) -> None:
    """Assert that no instant of a subscription's plan is billed twice and kept twice."""
    for row in Subscription.objects.filter(customer=customer):
        ahead = InvoiceLine.objects.filter(
            subscription=row, item="plan", kind__in=["recurring", "charge"], starts_at__isnull=False
        ).exclude(invoice__status="void")
        spans: list[tuple[datetime, datetime]] = []
        for line in ahead:
            given_back = line.proration_credits.first()
            ends_at = given_back.starts_at if given_back else line.ends_at
            spans.append((line.starts_at, ends_at))
        spans.sort()
        for (_, ends_at), (starts_at, _) in itertools.pairwise(spans):
            assert ends_at <= starts_at


def check_balance(customer: Customer) -> None:
    entries = list(BalanceEntry.objects.filter(customer=customer).order_by("sequence"))
    running = 0
    for entry in entries:
        running += entry.amount_minor
        assert entry.balance_minor == running >= 0
    kept = Invoice.objects.filter(customer=customer).exclude(status="void")
    taken = kept.aggregate(sum=Sum("balance_minor"))["sum"] or 0
    notes = CreditNote.objects.filter(customer=customer)
    assert running == (notes.aggregate(sum=Sum("balance_minor"))["sum"] or 0) - taken


def check_mrr(customer: Customer, at: datetime) -> None:
    """Assert that start + movements = end in each month, and that the end is what is true."""
    for row in Subscription.objects.filter(customer=customer):
        movements = list(MrrMovement.objects.filter(subscription=row).order_by("sequence"))
        total, by_month = 0, {}
        for each in movements:
            total += each.amount_minor
            assert each.mrr_minor == total
            by_month.setdefault((each.occurred_at.year, each.occurred_at.month), []).append(each)
        start = 0
        for month in sorted(by_month):
            end = by_month[month][-1].mrr_minor
            assert start + sum(each.amount_minor for each in by_month[month]) == end
            start = end
        taken = selectors.list_taken(row, at=at)
        redemption = selectors.find_redemption(subscription_id=row.pk)
        assert total == revenue.mrr_minor(row=row, taken=taken, redemption=redemption)


def check_numbers() -> None:
    numbers = Invoice.objects.filter(number__isnull=False).order_by("number")
    assert list(numbers.values_list("number", flat=True)) == list(range(1, numbers.count() + 1))


@pytest.fixture
def coupons_on_offer() -> None:
    for key, fields in (
        ("ONCE", {"duration": "once", "percent_off": 33}),
        ("TWICE", {"duration": "repeating", "invoices_max": 2, "percent_off": 15}),
        ("ALWAYS", {"duration": "forever", "amount_off_minor": 250, "currency": "EUR"}),
    ):
        coupons.create(
            coupon=Coupon(key=key, name=key, **fields), clock=factories.standing(STARTED)
        )


class TestLife:
    @settings(
        max_examples=LIVES,
        derandomize="LIVES" not in os.environ,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(steps=st.lists(STEPS, min_size=3, max_size=STEPS_MAX))
    def test_accounts_for_every_minor_unit(self, customer, coupons_on_offer, steps):
        life = Life(factories.make_customer(at=STARTED))
        for step in [("subscribe", "pro", "TWICE"), ("pay", True), *steps]:
            life.step(*step)
            note(f"{life.at} {step}")
            check_invoices(life.customer)
            check_credits(life.customer)
            check_periods(life.customer)
            check_balance(life.customer)
            check_mrr(life.customer, life.at)
        check_numbers()
