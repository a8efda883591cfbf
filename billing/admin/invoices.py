"""Show invoices with their lines, payments and PDF; what staff does to them is in `moves`."""

from typing import ClassVar
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from billing import selectors
from billing.admin.moves import (
    AdjustBalance,
    GiveUpInvoice,
    MarkInvoiceFailed,
    MarkInvoicePaid,
    VoidInvoice,
    WriteCreditNote,
    amount_text,
    due_text,
    total_text,
)
from billing.documents import invoice_pdf
from billing.models import Invoice, InvoiceLine, Payment
from core import money
from core.admin import base
from core.admin.text import instant

Status = Invoice.Status
COLORS = {
    Status.DRAFT: "info",
    Status.OPEN: "warning",
    Status.PAID: "success",
    Status.UNCOLLECTIBLE: "danger",
}


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
        return amount_text(line.amount_minor, line.invoice)

    @admin.display(description="Discount")
    def discount(self, line: InvoiceLine) -> str:
        """Return the discount as people read it."""
        return amount_text(-line.discount_minor, line.invoice) if line.discount_minor else "–"

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
        AdjustBalance,
    )
    inlines = (LineInline, PaymentInline)
    empty_text = "The first paid subscription writes the first invoice."
    list_display = ("__str__", "customer", "state", "total", "due", "billed_at", "due_at")
    list_filter = ("status", "currency")
    list_select_related = ("customer",)
    fields = (
        ("label", "state", "customer_link", "pdf"),
        ("subscription", "billed_at", "currency"),
        ("subtotal", "discount", "tax", "total"),
        ("from_balance", "credited", "paid", "due"),
        ("issued_at", "due_at", "paid_at"),
        ("closed_at", "closed_by", "closed_reason"),
    )
    readonly_fields = (
        "state",
        "customer_link",
        "pdf",
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

    @admin.display(description="PDF")
    def pdf(self, row: Invoice) -> SafeString | str:
        """Return a way to the invoice as it was issued."""
        if row.status == Status.DRAFT:
            return "once it is issued"
        return base.links([(reverse("admin:billing_invoice_pdf", args=(row.pk,)), "Open")])

    def get_urls(self) -> list[URLPattern]:
        """Return the screen's addresses, the PDF's among them."""
        shown = self.admin_site.admin_view(self.show_pdf)
        return [
            path("<uuid:invoice_id>/pdf/", shown, name="billing_invoice_pdf"),
            *super().get_urls(),
        ]

    def show_pdf(self, request: HttpRequest, invoice_id: UUID) -> HttpResponse:
        """Print one issued invoice."""
        invoice = Invoice.objects.filter(pk=invoice_id).exclude(status=Status.DRAFT).first()
        if not self.has_view_permission(request, invoice):
            raise PermissionDenied
        if invoice is None:
            raise Http404
        printed = invoice_pdf.render(
            invoice=invoice, lines=selectors.list_lines(invoices=[invoice])
        )
        name = f'inline; filename="{invoice.label}.pdf"'
        return HttpResponse(
            printed, content_type=invoice_pdf.TYPE, headers={"Content-Disposition": name}
        )

    @base.label(description="Status", colors=COLORS)
    def state(self, row: Invoice) -> str:
        """Return the status."""
        return row.status

    @admin.display(description="Subtotal")
    def subtotal(self, row: Invoice) -> str:
        """Return the sum of the lines."""
        return amount_text(row.subtotal_minor, row)

    @admin.display(description="Discount")
    def discount(self, row: Invoice) -> str:
        """Return what coupons take off."""
        return amount_text(row.discount_minor, row)

    @admin.display(description="Tax")
    def tax(self, row: Invoice) -> str:
        """Return the tax, where one was given."""
        return "none given" if row.tax_minor is None else amount_text(row.tax_minor, row)

    @admin.display(description="Total")
    def total(self, row: Invoice) -> str:
        """Return the total."""
        return total_text(row)

    @admin.display(description="From balance")
    def from_balance(self, row: Invoice) -> str:
        """Return what the balance paid, or below 0 what was added to it."""
        return amount_text(row.balance_minor, row)

    @admin.display(description="Credit notes")
    def credited(self, row: Invoice) -> str:
        """Return what credit notes took off what is due."""
        return amount_text(row.credited_minor, row)

    @admin.display(description="Paid")
    def paid(self, row: Invoice) -> str:
        """Return what was paid."""
        return amount_text(row.paid_minor, row)

    @admin.display(description="Due")
    def due(self, row: Invoice) -> str:
        """Return what is due."""
        return due_text(row)
