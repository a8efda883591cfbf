"""What the database refuses, going around the services."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from billing.models import (
    BalanceEntry,
    Coupon,
    CreditNote,
    Invoice,
    InvoiceLine,
    MrrMovement,
    Payment,
    Redemption,
)
from billing.services import corrections, customer_balance
from tests import factories
from tests.till import STARTED, Till

pytestmark = pytest.mark.django_db
APRIL, MAY = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
LEDGERS = (Payment, BalanceEntry, MrrMovement, CreditNote)


@pytest.fixture(scope="module")
def kept_invoice(kept_catalog) -> Invoice:
    customer = factories.make_customer(at=STARTED)
    till = Till(customer)
    row = till.subscribe("pro", APRIL)
    till.settle(MAY)
    invoice = till.issue(MAY)[1]
    given = {"actor": factories.ACTOR, "clock": factories.standing(MAY)}
    customer_balance.adjust(customer_id=customer.pk, currency="EUR", amount_minor=5, **given)
    corrections.credit_note(invoice_id=invoice.pk, amount_minor=1, **given)
    till.change(row, MAY + timedelta(days=1), plan_key="team")
    return invoice


@pytest.fixture
def issued(kept_invoice) -> Invoice:
    return Invoice.objects.get(pk=kept_invoice.pk)


def content() -> list:
    return [
        list(model.objects.order_by("pk").values())
        for model in (Invoice, InvoiceLine, Coupon, Redemption, *LEDGERS)
    ]


def refuse(act) -> None:
    before = content()
    with pytest.raises(IntegrityError), transaction.atomic():
        act()
    assert content() == before


class TestIssuedInvoice:
    @pytest.mark.parametrize(
        "columns",
        [
            {"total_minor": 1, "subtotal_minor": 1},
            {"number": 99},
            {"currency": "USD"},
            {"parties": {}},
            {"status": "draft"},
            {"issued_at": MAY + timedelta(days=1)},
            {"paid_minor": 5},
            {"status": "paid"},
            {"due_minor": 0},
        ],
    )
    def test_is_never_rewritten(self, issued, columns):
        refuse(lambda: Invoice.objects.filter(pk=issued.pk).update(**columns))

    @pytest.mark.parametrize(
        "columns",
        [{"amount_minor": 1}, {"discount_minor": 1}, {"description": "x"}, {"starts_at": MAY}],
    )
    def test_keeps_its_lines(self, issued, columns):
        refuse(lambda: issued.lines.update(**columns))
        line = issued.lines.get()
        line.pk = Payment().pk
        refuse(lambda: line.save(force_insert=True))

    def test_that_is_paid_or_void_stays_so(self, issued):
        paid = Invoice.objects.get(number=1)
        refuse(lambda: Invoice.objects.filter(pk=paid.pk).update(status="open", due_minor=1))
        refuse(lambda: Invoice.objects.filter(pk=paid.pk).update(closed_reason="x"))

    @pytest.mark.postgres
    @pytest.mark.parametrize("model", [Invoice, InvoiceLine, *LEDGERS])
    def test_and_the_ledgers_are_never_deleted(self, issued, model):
        def delete() -> None:
            where = {Invoice: " WHERE number = 2", InvoiceLine: " WHERE kind = 'recurring'"}
            with connection.cursor() as cursor:
                table = model._meta.db_table
                cursor.execute(f"DELETE FROM {table}{where.get(model, '')}")

        refuse(delete)


class TestLedgers:
    @pytest.mark.parametrize("model", LEDGERS)
    def test_are_append_only(self, issued, model):
        column = "occurred_at" if model is not CreditNote else "issued_at"
        refuse(lambda: model.objects.update(**{column: APRIL}))

    def test_refuse_a_sequence_taken_twice_and_a_balance_below_nothing(self, issued):
        for model in (BalanceEntry, MrrMovement):
            twin = model.objects.order_by("pk").first()
            twin.pk = Payment().pk
            refuse(lambda twin=twin: twin.save(force_insert=True))
        entry = BalanceEntry.objects.get()
        entry.pk, entry.sequence, entry.amount_minor, entry.balance_minor = Payment().pk, 2, 9, 8
        refuse(lambda: entry.save(force_insert=True))


class TestDraft:
    def test_is_one_an_instant_and_adds_up(self, issued):
        draft = Invoice.objects.get(status="draft")
        refuse(lambda: Invoice.objects.filter(pk=draft.pk).update(discount_minor=1))
        refuse(lambda: Invoice.objects.filter(pk=draft.pk).update(status="open"))
        draft.pk = Payment().pk
        refuse(lambda: draft.save(force_insert=True))

    def test_bills_a_period_once(self, issued):
        draft = Invoice.objects.get(status="draft")
        line = InvoiceLine.objects.filter(kind="recurring").first()
        line.pk, line.invoice = Payment().pk, draft
        refuse(lambda: line.save(force_insert=True))

    @pytest.mark.parametrize(
        "columns",
        [
            {"kind": "charge"},
            {"amount_minor": 1},
            {"credits": None},
            {"discount_minor": 1},
            {"ends_at": APRIL},
        ],
    )
    def test_refuses_a_proration_credit_that_is_none(self, issued, columns):
        credited = InvoiceLine.objects.filter(kind="proration_credit")
        refuse(lambda: credited.update(**columns))


class TestCoupon:
    def test_is_never_redeemed_too_often(self, customer):
        Coupon.objects.create(
            key="c", name="c", percent_off=1, duration="once", redemptions_max=1, created_at=APRIL
        )
        refuse(lambda: Coupon.objects.update(redemptions=2))
