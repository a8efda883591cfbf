"""Show what moved, append-only: payments, credit notes, balances, MRR; and name the issuer."""

from typing import ClassVar

from django.contrib import admin
from django.http import HttpRequest

from billing.admin.moves import AdjustBalance
from billing.models import BalanceEntry, CreditNote, Issuer, MrrMovement, Payment
from core import money
from core.admin import base


class MoneyAdmin(base.LedgerAdmin[base.M]):
    """A ledger of amounts in a currency."""

    @admin.display(description="Amount")
    def amount(self, row: Payment | CreditNote | BalanceEntry | MrrMovement) -> str:
        """Return the amount as people read it."""
        return money.display(row.amount_minor, currency=row.currency)


@admin.register(Payment)
class PaymentAdmin(MoneyAdmin[Payment]):
    """Payments as gateways and people reported them."""

    empty_text = "Every attempt to pay an invoice will stand here."
    list_display = ("occurred_at", "customer", "invoice", "status", "amount", "gateway", "is_late")
    list_filter = ("status", "is_late", "gateway")
    list_select_related = ("customer", "invoice")
    readonly_fields = ("amount",)
    fields = (
        ("customer", "invoice", "occurred_at"),
        ("status", "amount", "is_late"),
        ("gateway", "reference"),
        ("actor", "reason"),
    )


@admin.register(CreditNote)
class CreditNoteAdmin(MoneyAdmin[CreditNote]):
    """What was taken back of issued invoices."""

    empty_text = "Write one on an invoice's page."
    list_display = ("label", "customer", "invoice", "amount", "reason", "actor", "issued_at")
    list_filter = ("currency",)
    list_select_related = ("customer", "invoice")
    fields = (
        ("label", "invoice", "customer"),
        ("amount", "to_balance", "issued_at"),
        ("actor", "reason"),
    )
    readonly_fields = ("amount", "to_balance")

    @admin.display(description="To the balance")
    def to_balance(self, row: CreditNote) -> str:
        """Return the part that went to the customer's balance."""
        return money.display(row.balance_minor, currency=row.currency)


@admin.register(BalanceEntry)
class BalanceEntryAdmin(MoneyAdmin[BalanceEntry]):
    """Every movement of what customers have in balance."""

    operations: ClassVar = (AdjustBalance,)
    empty_text = "What a downgrade or a credit note gives back will stand here."
    list_display = ("occurred_at", "customer", "kind", "amount", "after", "invoice", "reason")
    list_filter = ("kind", "currency")
    list_select_related = ("customer", "invoice")
    fields = (
        ("customer", "occurred_at", "kind"),
        ("amount", "after"),
        ("invoice", "credit_note"),
        ("actor", "reason"),
    )
    readonly_fields = ("amount", "after")

    @admin.display(description="In balance after it")
    def after(self, row: BalanceEntry) -> str:
        """Return what is in balance after it."""
        return money.display(row.balance_minor, currency=row.currency)


@admin.register(MrrMovement)
class MrrMovementAdmin(MoneyAdmin[MrrMovement]):
    """Every change of recurring revenue: start + movements = end."""

    empty_text = "The first paid subscription writes the first movement."
    list_display = ("occurred_at", "customer", "kind", "amount", "after")
    list_filter = ("kind", "currency")
    list_select_related = ("customer",)
    fields = (("customer", "subscription", "occurred_at"), ("kind", "amount", "after"))
    readonly_fields = ("amount", "after")

    @admin.display(description="MRR after it")
    def after(self, row: MrrMovement) -> str:
        """Return the subscription's MRR after it."""
        return money.display(row.mrr_minor, currency=row.currency)


@admin.register(Issuer)
class IssuerAdmin(base.EngineAdmin[Issuer]):
    """Who bills: what is printed on invoices issued from now on; numbers are never edited."""

    empty_text = "The first invoice makes the issuer; then give it its name and address."
    list_display = ("name", "key", "invoices", "credit_notes")
    fields = (
        ("key", "name", "tax_id"),
        "address",
        ("payment_days", "payment_instructions"),
        ("invoice_prefix", "credit_note_prefix"),
        ("invoices", "credit_notes"),
    )
    readonly_fields = ("key", "invoices", "credit_notes")

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Refuse: the first invoice makes it."""
        return False
