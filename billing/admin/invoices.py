"""Show invoices with their lines and payments; pay, void, give up and take back by the services."""

from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget

from billing import errors as own_errors
from billing import selectors
from billing.models import Invoice, InvoiceLine, Payment
from billing.services import corrections, payments
from core import errors, money
from core.admin import base
from core.admin.operations import Asked, Consequence, Done, Operation, ReasonForm
from core.admin.text import instant
from subscriptions.services.timeline import Actor

Status = Invoice.Status
OWED = frozenset({Status.OPEN, Status.UNCOLLECTIBLE})
COLORS = {
    Status.DRAFT: "info",
    Status.OPEN: "warning",
    Status.PAID: "success",
    Status.UNCOLLECTIBLE: "danger",
}


class PaidForm(ReasonForm):
    """Ask under which reference the money came."""

    reference = forms.CharField(
        max_length=255,
        required=False,
        help_text="The bank's words for the transfer; told twice, it counts once.",
        widget=UnfoldAdminTextInputWidget,
    )
    field_order = ("reference", "reason")


class AmountForm(ReasonForm):
    """Ask how much, in major units of the invoice's currency."""

    amount = forms.DecimalField(
        min_value=Decimal(0),
        max_digits=18,
        decimal_places=4,
        help_text="As 29.00, in the invoice's currency.",
        widget=UnfoldAdminDecimalFieldWidget,
    )
    field_order = ("amount", "reason")


class MarkInvoicePaid(Operation[Invoice]):
    """Report that what is due came."""

    name = "mark_invoice_paid"
    title = "Mark paid"
    permission = "billing.pay_invoice"
    icon = "paid"
    form = PaidForm

    def is_offered(self, row: Invoice) -> bool:
        """Offer it while something is owed."""
        return row.status in OWED

    def consequence(self, asked: Asked[Invoice]) -> Consequence:
        """Tell what closes and what starts."""
        row = asked.row
        return Consequence(
            sentences=(
                f"You confirm that {row.customer.name} paid {due_text(row)} on {row}.",
                "The invoice closes. A subscription that waits for it starts, or recovers.",
            )
        )

    def run(self, asked: Asked[Invoice]) -> Done:
        """Report it."""
        return _marked(asked, status=Payment.Status.SUCCEEDED, message="is paid")


class MarkInvoiceFailed(Operation[Invoice]):
    """Report that paying failed."""

    name = "mark_invoice_failed"
    title = "Mark payment failed"
    permission = "billing.fail_invoice"
    icon = "money_off"
    is_dangerous = True

    def is_offered(self, row: Invoice) -> bool:
        """Offer it while something is owed."""
        return row.status in OWED

    def consequence(self, asked: Asked[Invoice]) -> Consequence:
        """Tell what begins."""
        row = asked.row
        return Consequence(
            sentences=(
                f"{row} stays open with {due_text(row)} due.",
                "The first failure starts the grace of the subscription; others never extend it.",
                "After the grace the customer loses access until he pays.",
            )
        )

    def run(self, asked: Asked[Invoice]) -> Done:
        """Report it."""
        return _marked(asked, status=Payment.Status.FAILED, message="has a failed payment")


class VoidInvoice(Operation[Invoice]):
    """Take an unpaid invoice back."""

    name = "void_invoice"
    title = "Void"
    permission = "billing.void_invoice"
    icon = "block"
    is_dangerous = True

    def is_offered(self, row: Invoice) -> bool:
        """Offer it while something is owed."""
        return row.status in OWED

    def consequence(self, asked: Asked[Invoice]) -> Consequence:
        """Tell what is taken back."""
        row = asked.row
        return Consequence(
            sentences=(
                f"{row} over {total_text(row)} is void for ever; its number stays.",
                "What it took from the customer's balance returns there.",
            )
        )

    def run(self, asked: Asked[Invoice]) -> Done:
        """Void it."""
        row = corrections.void(invoice_id=asked.row.pk, actor=actor_of(asked), clock=asked.clock)
        return Done(message=f"{row} is void.")


class GiveUpInvoice(Operation[Invoice]):
    """Write an invoice off."""

    name = "give_up_invoice"
    title = "Give up as uncollectible"
    permission = "billing.write_off_invoice"
    icon = "do_not_disturb_on"
    is_dangerous = True

    def is_offered(self, row: Invoice) -> bool:
        """Offer it while it is open."""
        return row.status == Status.OPEN

    def consequence(self, asked: Asked[Invoice]) -> Consequence:
        """Tell what is written off."""
        return Consequence(
            sentences=(
                f"{due_text(asked.row)} of {asked.row} are written off.",
                "The subscription is untouched. Money that comes later still closes the invoice.",
            )
        )

    def run(self, asked: Asked[Invoice]) -> Done:
        """Write it off."""
        row = corrections.give_up(invoice_id=asked.row.pk, actor=actor_of(asked), clock=asked.clock)
        return Done(message=f"{row} is uncollectible.")


class WriteCreditNote(Operation[Invoice]):
    """Take a part of an issued invoice back."""

    name = "write_credit_note"
    title = "Credit note"
    permission = "billing.credit_invoice"
    icon = "undo"
    form = AmountForm
    previews = True

    def is_offered(self, row: Invoice) -> bool:
        """Offer it for what is issued and not void."""
        return row.status in corrections.CREDITABLE

    def consequence(self, asked: Asked[Invoice]) -> Consequence:
        """Tell where the amount goes.

        :raises AmountMismatch: for more than is left.
        """
        row = asked.row
        amount = minor_of(asked.values["amount"], currency=row.currency)
        left = selectors.get_creditable_minor(invoice=row)
        if not 0 < amount <= left:
            detail = f"{money.display(left, currency=row.currency)} may be taken back."
            facts = {"due_minor": left, "currency": row.currency}
            raise own_errors.AmountMismatch(detail, facts=facts)
        from_due = min(amount, row.due_minor)
        return Consequence(
            sentences=(
                f"{_text(amount, row)} of {row} are taken back, by a note with its own number.",
                f"{_text(from_due, row)} lower what is due, the rest fills the balance.",
            )
        )

    def run(self, asked: Asked[Invoice]) -> Done:
        """Write it."""
        note = corrections.credit_note(
            invoice_id=asked.row.pk,
            amount_minor=minor_of(asked.values["amount"], currency=asked.row.currency),
            actor=actor_of(asked),
            clock=asked.clock,
        )
        return Done(message=f"{note} takes back {_text(note.amount_minor, asked.row)}.")


class LineInline(base.ReadOnlyInline):
    """What an invoice bills."""

    model = InvoiceLine
    fields = ("description", "kind", "quantity", "amount", "discount", "period")
    readonly_fields = ("amount", "discount", "period")
    ordering = ("id",)
    verbose_name_plural = "Lines"

    def get_queryset(self, request: HttpRequest) -> QuerySet[InvoiceLine]:
        """Return the lines with the currency of their invoice."""
        found: QuerySet[InvoiceLine] = super().get_queryset(request)
        return found.select_related("invoice")

    @admin.display(description="Amount")
    def amount(self, line: InvoiceLine) -> str:
        """Return the amount as people read it."""
        return _text(line.amount_minor, line.invoice)

    @admin.display(description="Discount")
    def discount(self, line: InvoiceLine) -> str:
        """Return the discount as people read it."""
        return _text(-line.discount_minor, line.invoice) if line.discount_minor else "–"

    @admin.display(description="Period")
    def period(self, line: InvoiceLine) -> str:
        """Return the half-open period."""
        if line.starts_at is None:
            return "from the first payment on"
        return f"{instant(line.starts_at)} – {instant(line.ends_at)}"


class PaymentInline(base.ReadOnlyInline):
    """What came of attempts to pay."""

    model = Payment
    fields = ("occurred_at", "status", "gateway", "reference", "amount", "actor", "reason")
    readonly_fields = ("amount",)
    ordering = ("id",)
    verbose_name_plural = "Payments"

    @admin.display(description="Amount")
    def amount(self, payment: Payment) -> str:
        """Return the amount as people read it."""
        return money.display(payment.amount_minor, currency=payment.currency)


@admin.register(Invoice)
class InvoiceAdmin(base.LedgerAdmin[Invoice]):
    """Invoices, newest first; an issued one never changes but by these operations."""

    operations: ClassVar = (
        MarkInvoicePaid,
        MarkInvoiceFailed,
        WriteCreditNote,
        VoidInvoice,
        GiveUpInvoice,
    )
    inlines = (LineInline, PaymentInline)
    empty_text = "The first paid subscription writes the first invoice."
    list_display = ("__str__", "customer", "state", "total", "due", "billed_at", "due_at")
    list_filter = ("status", "currency")
    list_select_related = ("customer",)
    fields = (
        ("label", "state", "customer_link"),
        ("subscription", "billed_at", "currency"),
        ("subtotal", "discount", "tax", "total"),
        ("from_balance", "credited", "paid", "due"),
        ("issued_at", "due_at", "paid_at"),
        ("closed_at", "closed_by", "closed_reason"),
    )
    readonly_fields = (
        "state",
        "customer_link",
        "subtotal",
        "discount",
        "tax",
        "total",
        "from_balance",
        "credited",
        "paid",
        "due",
    )

    @admin.display(description="Customer")
    def customer_link(self, row: Invoice) -> str:
        """Return the customer with a way to him."""
        return base.link(to=row.customer, text=row.customer.name)

    @base.label(description="Status", colors=COLORS)
    def state(self, row: Invoice) -> str:
        """Return the status."""
        return row.status

    @admin.display(description="Subtotal")
    def subtotal(self, row: Invoice) -> str:
        """Return the sum of the lines."""
        return _text(row.subtotal_minor, row)

    @admin.display(description="Discount")
    def discount(self, row: Invoice) -> str:
        """Return what coupons take off."""
        return _text(row.discount_minor, row)

    @admin.display(description="Tax")
    def tax(self, row: Invoice) -> str:
        """Return the tax, where one was given."""
        return "none given" if row.tax_minor is None else _text(row.tax_minor, row)

    @admin.display(description="Total")
    def total(self, row: Invoice) -> str:
        """Return the total."""
        return total_text(row)

    @admin.display(description="From balance")
    def from_balance(self, row: Invoice) -> str:
        """Return what the balance paid, or below 0 what was added to it."""
        return _text(row.balance_minor, row)

    @admin.display(description="Credit notes")
    def credited(self, row: Invoice) -> str:
        """Return what credit notes took off what is due."""
        return _text(row.credited_minor, row)

    @admin.display(description="Paid")
    def paid(self, row: Invoice) -> str:
        """Return what was paid."""
        return _text(row.paid_minor, row)

    @admin.display(description="Due")
    def due(self, row: Invoice) -> str:
        """Return what is due."""
        return due_text(row)


def actor_of(asked: Asked[Any]) -> Actor:
    """Return who acts and why, as the timeline keeps it."""
    return Actor(name=asked.actor_name, reason=asked.reason, request_id=asked.request_id)


def minor_of(amount: Decimal, *, currency: str) -> int:
    """Return an amount in major units as minor units.

    :raises Invalid: for parts of a minor unit.
    """
    exact = Fraction(amount) * 10 ** money.exponent_of(currency=currency)
    if exact.denominator != 1:
        detail = f"{currency} has no such small part."
        raise errors.Invalid.at("/amount", code="invalid", detail=detail)
    return int(exact)


def due_text(row: Invoice) -> str:
    """Return what is due as people read it."""
    return _text(row.due_minor, row)


def total_text(row: Invoice) -> str:
    """Return the total as people read it."""
    return _text(row.total_minor, row)


def _text(amount_minor: int, row: Invoice) -> str:
    return money.display(amount_minor, currency=row.currency)


def _marked(asked: Asked[Invoice], *, status: str, message: str) -> Done:
    payments.mark(
        invoice_id=asked.row.pk,
        status=status,
        reference=str(asked.values.get("reference", "")),
        actor=actor_of(asked),
        clock=asked.clock,
    )
    return Done(message=f"{asked.row} {message}.")
