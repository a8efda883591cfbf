"""Billing in the admin: staff see the money as people read it, and act by the services."""

import pytest
from django.urls import reverse

from billing.models import BalanceEntry, Coupon, CreditNote, Invoice, Issuer, Payment
from subscriptions.models import Subscription
from tests import factories, staff

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock")]


@pytest.fixture
def browser(world):
    return staff.client("finance")


def act(browser, row, operation, **values):
    return browser.post(staff.page(row, operation), staff.confirmed(**values))


class TestInvoice:
    def test_is_shown_with_lines_payments_and_amounts_as_people_read_them(self, browser, world):
        shown = browser.get(staff.page(world.paid_invoice)).content.decode()
        for text in ("INV-00000", "29.00 EUR", "Pro", "manual", "none given"):
            assert text in shown
        assert (
            "from the first payment on" in browser.get(staff.page(world.invoice)).content.decode()
        )

    def test_is_marked_paid_and_its_subscription_starts(self, browser, world):
        answer = act(browser, world.invoice, "mark_invoice_paid", reference="bank 7")
        assert answer.status_code == 302
        world.invoice.refresh_from_db()
        assert world.invoice.status == "paid"
        payment = Payment.objects.get(invoice=world.invoice)
        assert (payment.reference, payment.reason) == ("bank 7", "a ticket asks for it")
        assert Subscription.objects.get(pk=world.waiting.pk).status == "active"

    def test_has_a_failed_payment(self, browser, world):
        act(browser, world.invoice, "mark_invoice_failed")
        assert Payment.objects.get(invoice=world.invoice).status == "failed"

    @pytest.mark.parametrize(
        ("operation", "status"),
        [("void_invoice", "void"), ("give_up_invoice", "uncollectible")],
    )
    def test_is_voided_or_given_up(self, browser, world, operation, status):
        act(browser, world.invoice, operation)
        world.invoice.refresh_from_db()
        assert (world.invoice.status, world.invoice.closed_reason) == (
            status,
            "a ticket asks for it",
        )

    def test_is_taken_back_in_part(self, browser, world):
        act(browser, world.paid_invoice, "write_credit_note", amount="9.00")
        note = CreditNote.objects.get()
        assert (note.amount_minor, note.balance_minor) == (900, 900)
        shown = browser.get(staff.listed("billing.BalanceEntry")).content.decode()
        assert "9.00 EUR" in shown

    @pytest.mark.parametrize("amount", ["29.01", "0", "0.001"])
    def test_is_not_taken_back_beyond_itself(self, browser, world, amount):
        before = staff.rows()
        answer = act(browser, world.paid_invoice, "write_credit_note", amount=amount)
        assert answer.status_code in {200, 409}
        assert staff.rows() == before

    def test_offers_what_its_state_lets_make_sense(self, browser, world):
        paid = browser.get(staff.page(world.paid_invoice)).content.decode()
        assert "write-credit-note" in paid
        for operation in ("mark-invoice-paid", "void-invoice", "give-up-invoice"):
            assert operation not in paid


class TestPdf:
    def test_is_opened_from_the_page_of_what_is_issued(self, browser, world):
        shown = browser.get(staff.page(world.paid_invoice)).content.decode()
        address = reverse("admin:billing_invoice_pdf", args=(world.paid_invoice.pk,))
        assert address in shown
        answer = browser.get(address)
        assert (answer.status_code, answer["Content-Type"]) == (200, "application/pdf")
        assert answer.content.startswith(b"%PDF")

    def test_is_shown_to_nobody_without_the_permission_and_not_of_drafts(self, world, browser, at):
        issued = reverse("admin:billing_invoice_pdf", args=(world.paid_invoice.pk,))
        assert staff.client().get(issued).status_code == 403
        row = factories.subscribe(factories.make_customer(at=at), "pro", at=at, pay=False)
        draft = Invoice.objects.get(subscription=row)
        assert draft.status == "draft"
        address = reverse("admin:billing_invoice_pdf", args=(draft.pk,))
        assert browser.get(address).status_code == 404
        assert "once it is issued" in browser.get(staff.page(draft)).content.decode()


class TestBalance:
    def test_is_given_to_and_taken_from_with_a_reason(self, browser, world):
        invoice = world.paid_invoice
        question = browser.post(
            staff.page(invoice, "adjust_balance"), {"amount": "10", "reason": "r"}
        )
        assert "10.00 EUR in balance instead of 0.00 EUR" in question.content.decode()
        assert not BalanceEntry.objects.filter(customer=world.customer).exists()
        act(browser, invoice, "adjust_balance", amount="10")
        given = BalanceEntry.objects.get(customer=world.customer)
        assert (given.amount_minor, given.kind, given.reason) == (
            1000,
            "adjustment",
            "a ticket asks for it",
        )
        act(browser, given, "adjust_balance", amount="-4.50")
        assert BalanceEntry.objects.get(customer=world.customer, sequence=2).balance_minor == 550

    def test_never_falls_below_0(self, browser, world):
        answer = act(browser, world.paid_invoice, "adjust_balance", amount="-0.01")
        assert "Only 0.00 EUR are in balance" in answer.content.decode()
        assert not BalanceEntry.objects.filter(customer=world.customer).exists()


class TestCoupon:
    def test_is_archived(self, browser, world):
        act(browser, world.coupon, "archive_coupon")
        assert Coupon.objects.get().archived_at is not None
        assert "expired" in browser.get(staff.listed("billing.Coupon")).content.decode()

    def test_shows_what_it_takes_off_and_whether_it_may_be_redeemed(self, browser, world, at):
        Coupon.objects.create(
            key="EUROS",
            name="Euros",
            amount_off_minor=500,
            currency="EUR",
            duration="once",
            redemptions=1,
            redemptions_max=1,
            created_at=at,
        )
        shown = browser.get(staff.listed("billing.Coupon")).content.decode()
        for text in ("20 %", "valid", "5.00 EUR", "used up"):
            assert text in shown


class TestIssuer:
    def test_is_named_by_finance_and_its_numbers_are_nobodys(self, browser, world):
        numbers = world.issuer.invoices
        values = {
            "name": "Acme GmbH",
            "tax_id": "DE1",
            "address": "Berlin",
            "payment_days": "30",
            "payment_instructions": "IBAN DE02",
            "invoice_prefix": "A-",
            "credit_note_prefix": "C-",
            "invoices": "999",
            "reason": "a new address",
        }
        assert browser.post(staff.page(world.issuer), values).status_code == 302
        issuer = Issuer.objects.get()
        assert (issuer.name, issuer.payment_days, issuer.invoices) == ("Acme GmbH", 30, numbers)
        reader = staff.client("read-only")
        assert reader.post(staff.page(issuer), values | {"name": "X"}).status_code == 403
        assert Issuer.objects.get().name == "Acme GmbH"


class TestLists:
    @pytest.mark.parametrize(
        "label",
        ["Invoice", "Payment", "CreditNote", "BalanceEntry", "MrrMovement", "Coupon", "Issuer"],
    )
    def test_cost_few_statements_with_many_rows(
        self, browser, world, at, label, django_assert_max_num_queries
    ):
        for _ in range(3):
            row = factories.subscribe(factories.make_customer(at=at), "pro", at=at)
            staff.issuing.issue_drafts_of(subscription_id=row.pk, clock=factories.standing(at))
        act(browser, Invoice.objects.filter(status="paid").first(), "write_credit_note", amount="1")
        with django_assert_max_num_queries(12):
            assert browser.get(staff.listed(f"billing.{label}")).status_code == 200
