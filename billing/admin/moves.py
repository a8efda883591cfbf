"""Move money by hand: pay, void, give up, take back and adjust, by the services."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget

from billing import errors as own_errors
from billing import selectors
from billing.models import BalanceEntry, Invoice, Payment
from billing.services import corrections, customer_balance, payments
from core import errors, money
from core.admin.operations import Asked, Consequence, Done, Operation, ReasonForm
from subscriptions.services.timeline import Actor

Status = Invoice.Status
OWED = frozenset({Status.OPEN, Status.UNCOLLECTIBLE})


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
                f"{amount_text(amount, row)} of {row} are taken back by a note of its own number.",
                f"{amount_text(from_due, row)} lower what is due, the rest fills the balance.",
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
        return Done(message=f"{note} takes back {amount_text(note.amount_minor, asked.row)}.")


class AdjustmentForm(ReasonForm):
    """Ask how much, below 0 to take it, in major units of the row's currency."""

    amount = forms.DecimalField(
        max_digits=18,
        decimal_places=4,
        help_text="As 29.00 to give, -29.00 to take, in the currency shown.",
        widget=UnfoldAdminDecimalFieldWidget,
    )
    field_order = ("amount", "reason")


class AdjustBalance(Operation[Invoice | BalanceEntry]):
    """Give to what a customer has in balance, or take from it."""

    name = "adjust_balance"
    title = "Adjust the customer's balance"
    permission = "billing.adjust_balanceentry"
    icon = "account_balance_wallet"
    form = AdjustmentForm
    previews = True

    def consequence(self, asked: Asked[Invoice | BalanceEntry]) -> Consequence:
        """Tell what he has before and after.

        :raises AmountMismatch: for taking more than there is.
        """
        row = asked.row
        before = selectors.get_balance_minor(customer_id=row.customer_id, currency=row.currency)
        after = before + minor_of(asked.values["amount"], currency=row.currency)
        if after < 0:
            detail = f"Only {amount_text(before, row)} are in balance."
            facts = {"due_minor": before, "currency": row.currency}
            raise own_errors.AmountMismatch(detail, facts=facts)
        return Consequence(
            sentences=(
                (
                    f"{row.customer.name} has {amount_text(after, row)} in balance instead of"
                    f" {amount_text(before, row)}."
                ),
                "What is in balance pays the next invoices first.",
            )
        )

    def run(self, asked: Asked[Invoice | BalanceEntry]) -> Done:
        """Adjust it."""
        row = asked.row
        entry = customer_balance.adjust(
            customer_id=row.customer_id,
            currency=row.currency,
            amount_minor=minor_of(asked.values["amount"], currency=row.currency),
            actor=actor_of(asked),
            clock=asked.clock,
        )
        return Done(message=f"{amount_text(entry.balance_minor, row)} are in balance.")


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
    return amount_text(row.due_minor, row)


def total_text(row: Invoice) -> str:
    """Return the total as people read it."""
    return amount_text(row.total_minor, row)


def amount_text(amount_minor: int, row: Invoice | BalanceEntry) -> str:
    """Return an amount in the row's currency as people read it."""
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
