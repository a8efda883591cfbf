"""Show invoices and the balance to their customer."""

from typing import cast
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import selectors
from billing.api import bodies
from billing.api import serializers as shapes
from billing.documents import invoice_pdf
from billing.models import Invoice
from core import errors
from core.api import access, pagination, schema
from core.api import serializers as strict
from core.api.schema import Answer
from core.models import Customer

INVOICE_EXAMPLE = {
    "id": "01936d3c-7c00-7000-8000-0000000000c1",
    "number": "INV-000007",
    "status": "open",
    "subscription": "01936d3c-7c00-7000-8000-0000000000b1",
    "currency": "EUR",
    "lines": [
        {
            "description": "Pro",
            "kind": "recurring",
            "quantity": 1,
            "amount_minor": 2900,
            "discount_minor": 0,
            "period": {"starts_at": "2026-11-01T00:00:00Z", "ends_at": "2026-12-01T00:00:00Z"},
        }
    ],
    "subtotal_minor": 2900,
    "discount_minor": 0,
    "tax_minor": None,
    "total_minor": 2900,
    "credited_minor": 0,
    "balance_minor": 0,
    "paid_minor": 0,
    "due_minor": 2900,
    "issued_at": "2026-11-01T00:00:00Z",
    "due_at": "2026-11-15T00:00:00Z",
    "paid_at": None,
    "pdf": "/api/invoices/01936d3c-7c00-7000-8000-0000000000c1/pdf",
}
ENTRY_EXAMPLE = {
    "id": "01936d3c-7c00-7000-8000-0000000000e1",
    "kind": "proration",
    "currency": "EUR",
    "amount_minor": 1450,
    "balance_minor": 1450,
    "invoice": "01936d3c-7c00-7000-8000-0000000000c1",
    "occurred_at": "2026-11-16T00:00:00Z",
    "reason": "",
}
OWN = (errors.UnknownField, errors.PermissionDenied, *schema.CUSTOMER)


class InvoicesView(APIView):
    """List invoices."""

    @schema.operation(
        operation_id="listInvoices",
        tag="billing",
        summary="Invoices of a customer",
        description="List the issued invoices with their lines, newest first.",
        answers={200: schema.page_of(shapes.InvoiceSerializer)},
        example={"results": [INVOICE_EXAMPLE], "next": None, "previous": None},
        parameters=(schema.CUSTOMER_PARAMETER, *schema.PAGE_PARAMETERS),
        refusals=OWN,
    )
    def get(self, request: Request) -> Response:
        """List invoices."""
        asked = strict.read_query(shapes.PageQuery, request)
        customer = billed_customer(request, named=asked.get("customer"))
        pages = pagination.CursorPages()
        found = selectors.list_invoices(customer=customer)
        page = pages.paginate_queryset(found, request, view=self) or []
        lines = selectors.list_lines(invoices=page)
        return pages.get_paginated_response(
            [
                bodies.invoice(row, lines=[line for line in lines if line.invoice_id == row.pk])
                for row in page
            ]
        )


class InvoiceView(APIView):
    """Show one invoice."""

    @schema.operation(
        operation_id="getInvoice",
        tag="billing",
        summary="One invoice",
        description="Show one issued invoice with its lines.",
        answers={200: shapes.InvoiceSerializer},
        example=INVOICE_EXAMPLE,
        parameters=(schema.CUSTOMER_PARAMETER,),
        refusals=OWN,
    )
    def get(self, request: Request, invoice_id: UUID) -> Response:
        """Show one invoice."""
        invoice = access_invoice(request, invoice_id)
        return Response(bodies.invoice(invoice, lines=selectors.list_lines(invoices=[invoice])))


class InvoicePdfView(APIView):
    """Print one invoice."""

    @schema.operation(
        operation_id="downloadInvoice",
        tag="billing",
        summary="One invoice as a PDF",
        description="Return the invoice as a PDF; it prints what was frozen when it was issued.",
        answers={(200, invoice_pdf.TYPE): cast("Answer", OpenApiTypes.BINARY)},
        parameters=(schema.CUSTOMER_PARAMETER,),
        refusals=OWN,
    )
    def get(self, request: Request, invoice_id: UUID) -> HttpResponse:
        """Print one invoice."""
        invoice = access_invoice(request, invoice_id)
        lines = selectors.list_lines(invoices=[invoice])
        name = f'inline; filename="{invoice.label}.pdf"'
        return HttpResponse(
            invoice_pdf.render(invoice=invoice, lines=lines),
            content_type=invoice_pdf.TYPE,
            headers={"Content-Disposition": name},
        )


class BalanceView(APIView):
    """Show the balance."""

    @schema.operation(
        operation_id="getBalance",
        tag="billing",
        summary="What a customer has in balance",
        description="Show what the customer's next invoices will be paid from first, by currency.",
        answers={200: shapes.BalancesSerializer},
        example={"results": [{"currency": "EUR", "balance_minor": 1450}]},
        parameters=(schema.CUSTOMER_PARAMETER,),
        refusals=OWN,
    )
    def get(self, request: Request) -> Response:
        """Show the balance."""
        asked = strict.read_query(shapes.CustomerQuery, request)
        customer = billed_customer(request, named=asked.get("customer"))
        found = selectors.list_balances(customer=customer)
        shown = [{"currency": each.currency, "balance_minor": each.balance_minor} for each in found]
        return Response({"results": shown})


class BalanceEntriesView(APIView):
    """List what moved in the balance."""

    @schema.operation(
        operation_id="listBalanceEntries",
        tag="billing",
        summary="Movements of a customer's balance",
        description="List every movement of the customer's balance, newest first.",
        answers={200: schema.page_of(shapes.BalanceEntrySerializer)},
        example={"results": [ENTRY_EXAMPLE], "next": None, "previous": None},
        parameters=(schema.CUSTOMER_PARAMETER, *schema.PAGE_PARAMETERS),
        refusals=OWN,
    )
    def get(self, request: Request) -> Response:
        """List what moved in the balance."""
        asked = strict.read_query(shapes.PageQuery, request)
        customer = billed_customer(request, named=asked.get("customer"))
        pages = pagination.CursorPages()
        found = selectors.list_balance_entries(customer=customer)
        page = pages.paginate_queryset(found, request, view=self) or []
        return pages.get_paginated_response([bodies.balance_entry(each) for each in page])


def billed_customer(request: Request, *, named: str | None) -> Customer:
    """Return the customer whose money the caller may see."""
    return access.access_customer(
        request, scope="billing:read", named=named, roles=access.PAYING_ROLES
    )


def access_invoice(request: Request, invoice_id: UUID) -> Invoice:
    """Return an issued invoice of a customer whose money the caller may see.

    :raises NotFound: for one that is not there or not his.
    """
    asked = strict.read_query(shapes.CustomerQuery, request)
    customer = billed_customer(request, named=asked.get("customer"))
    invoice = selectors.find_invoice(customer=customer, invoice_id=invoice_id)
    if invoice is None:
        raise errors.NotFound("There is no such invoice.")
    return invoice
