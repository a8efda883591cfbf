"""Operate billing by service keys: payments, corrections, coupons. Operators have the admin."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import errors as own_errors
from billing import selectors
from billing.api import bodies
from billing.api import serializers as shapes
from billing.api.views import INVOICE_EXAMPLE
from billing.models import Invoice, Payment
from billing.services import corrections, coupons, payments
from core import clock, errors
from core.api import access, pagination, requests, responses, schema
from core.api import serializers as strict
from subscriptions import errors as subscription_errors
from subscriptions.services.timeline import Actor

SCOPE = "billing:write"
PAID_EXAMPLE = {
    **INVOICE_EXAMPLE,
    "status": "paid",
    "paid_minor": 2900,
    "due_minor": 0,
    "paid_at": "2026-11-05T09:00:00Z",
}
VOID_EXAMPLE = {**INVOICE_EXAMPLE, "status": "void"}
CREDIT_NOTE_EXAMPLE = {
    "id": "01936d3c-7c00-7000-8000-0000000000d1",
    "number": "CN-000003",
    "invoice": "01936d3c-7c00-7000-8000-0000000000c1",
    "currency": "EUR",
    "amount_minor": 900,
    "balance_minor": 900,
    "reason": "Two days without service",
    "issued_at": "2026-11-06T09:00:00Z",
}
COUPON_EXAMPLE = {
    "key": "SPRING",
    "name": "Spring sale",
    "percent_off": "20",
    "amount_off_minor": None,
    "currency": None,
    "duration": "repeating",
    "invoices_max": 3,
    "expires_at": "2027-05-01T00:00:00Z",
    "redemptions_max": 500,
    "redemptions": 12,
    "archived_at": None,
}
SERVICE = (errors.PermissionDenied, errors.InsufficientScope)
ON_INVOICE = (errors.NotFound, own_errors.InvoiceClosed, *SERVICE)
PAYMENT_MOVES = (subscription_errors.InvalidTransition, subscription_errors.SubscriptionEnded)


class MarkPaidView(APIView):
    """Mark an invoice as paid."""

    @schema.operation(
        operation_id="markInvoicePaid",
        tag="billing",
        summary="Mark an invoice as paid",
        description="Report that what is due on an open invoice was paid outside any gateway: "
        "its subscription is activated, or recovers. The same reference told again, under "
        "another key too, changes nothing.",
        request=shapes.ReportSerializer,
        request_example={"reference": "Transfer 4711", "reason": "Bank statement of 5 November"},
        answers={200: shapes.InvoiceSerializer},
        example=PAID_EXAMPLE,
        refusals=(*PAYMENT_MOVES, *ON_INVOICE),
        keyed=True,
    )
    def post(self, request: Request, invoice_id: UUID) -> Response:
        """Mark an invoice as paid."""
        return _marked(request, invoice_id, status=Payment.Status.SUCCEEDED)


class MarkFailedView(APIView):
    """Mark a payment as failed."""

    @schema.operation(
        operation_id="markInvoiceFailed",
        tag="billing",
        summary="Mark an invoice's payment as failed",
        description="Report that paying an open invoice failed. The first failure starts the "
        "grace of its subscription; further ones never extend it.",
        request=shapes.ReportSerializer,
        request_example={"reason": "Direct debit returned"},
        answers={200: shapes.InvoiceSerializer},
        example=INVOICE_EXAMPLE,
        refusals=(*PAYMENT_MOVES, *ON_INVOICE),
        keyed=True,
    )
    def post(self, request: Request, invoice_id: UUID) -> Response:
        """Mark a payment as failed."""
        return _marked(request, invoice_id, status=Payment.Status.FAILED)


class VoidView(APIView):
    """Void an invoice."""

    @schema.operation(
        operation_id="voidInvoice",
        tag="billing",
        summary="Void an invoice",
        description="Take back an open invoice of which nothing is paid; its number stays. What "
        "it took from the customer's balance returns there.",
        request=shapes.ReasonSerializer,
        request_example={"reason": "Issued to the wrong customer"},
        answers={200: shapes.InvoiceSerializer},
        example=VOID_EXAMPLE,
        refusals=ON_INVOICE,
        keyed=True,
    )
    def post(self, request: Request, invoice_id: UUID) -> Response:
        """Void an invoice."""
        return _closed(request, invoice_id, to=Invoice.Status.VOID)


class UncollectibleView(APIView):
    """Give an invoice up."""

    @schema.operation(
        operation_id="markInvoiceUncollectible",
        tag="billing",
        summary="Give an invoice up as uncollectible",
        description="Write off an open invoice. Money that comes later still closes it.",
        request=shapes.ReasonSerializer,
        request_example={"reason": "Insolvent"},
        answers={200: shapes.InvoiceSerializer},
        example={**INVOICE_EXAMPLE, "status": "uncollectible"},
        refusals=ON_INVOICE,
        keyed=True,
    )
    def post(self, request: Request, invoice_id: UUID) -> Response:
        """Give an invoice up."""
        return _closed(request, invoice_id, to=Invoice.Status.UNCOLLECTIBLE)


class CreditNotesView(APIView):
    """Issue a credit note."""

    @schema.operation(
        operation_id="createCreditNote",
        tag="billing",
        summary="Take back a part of an invoice",
        description="Issue a credit note: it lowers what is due; what was paid already goes to "
        "the customer's balance.",
        request=shapes.CreditNoteInput,
        request_example={"amount_minor": 900, "reason": "Two days without service"},
        answers={201: shapes.CreditNoteSerializer},
        example=CREDIT_NOTE_EXAMPLE,
        refusals=(own_errors.AmountMismatch, *ON_INVOICE),
        keyed=True,
    )
    def post(self, request: Request, invoice_id: UUID) -> Response:
        """Issue a credit note."""
        actor, given = _reported(request, shapes.CreditNoteInput)
        answer = corrections.credit_note_once(
            invoice_id=invoice_id,
            amount_minor=given["amount_minor"],
            actor=actor,
            keyed=requests.keyed(request),
            render=bodies.credit_note,
            clock=clock.process_clock(),
        )
        return responses.recorded(answer)


class CouponsView(APIView):
    """List and make coupons."""

    @schema.operation(
        operation_id="listCoupons",
        tag="billing",
        summary="Coupons",
        description="List every coupon, newest first.",
        answers={200: schema.page_of(shapes.CouponSerializer)},
        example={"results": [COUPON_EXAMPLE], "next": None, "previous": None},
        parameters=schema.PAGE_PARAMETERS,
        refusals=(errors.UnknownField, errors.Invalid, *SERVICE),
    )
    def get(self, request: Request) -> Response:
        """List coupons."""
        access.access_scope(request, scope="billing:read")
        strict.read_query(shapes.ListQuery, request)
        pages = pagination.CursorPages()
        page = pages.paginate_queryset(selectors.list_coupons(), request, view=self) or []
        return pages.get_paginated_response([bodies.coupon(each) for each in page])

    @schema.operation(
        operation_id="createCoupon",
        tag="billing",
        summary="Make a coupon",
        description="Make a coupon that takes a percentage or an amount of one currency off fees: "
        "once, for so many invoices, or forever.",
        request=shapes.CouponInput,
        request_example={
            "key": "SPRING",
            "name": "Spring sale",
            "percent_off": "20",
            "duration": "repeating",
            "invoices_max": 3,
        },
        answers={201: shapes.CouponSerializer},
        example=COUPON_EXAMPLE,
        refusals=(errors.NaiveDatetime, *SERVICE),
    )
    def post(self, request: Request) -> Response:
        """Make a coupon."""
        access.access_scope(request, scope=SCOPE)
        given = strict.read(shapes.CouponInput, request)
        coupon = coupons.create(
            coupon=shapes.coupon_of(given),
            actor=access.actor(request),
            clock=clock.process_clock(),
        )
        return Response(bodies.coupon(coupon), status=201)


class ArchiveCouponView(APIView):
    """Archive a coupon."""

    @schema.operation(
        operation_id="archiveCoupon",
        tag="billing",
        summary="Let nobody redeem a coupon any more",
        description="Archive a coupon; who redeemed it keeps it. Archived once is archived.",
        request=shapes.ArchiveInput,
        request_example={},
        answers={200: shapes.CouponSerializer},
        example={**COUPON_EXAMPLE, "archived_at": "2026-11-06T09:00:00Z"},
        refusals=(errors.NotFound, *SERVICE),
    )
    def post(self, request: Request, key: str) -> Response:
        """Archive a coupon."""
        access.access_scope(request, scope=SCOPE)
        strict.read(shapes.ArchiveInput, request)
        coupon = coupons.archive(key=key, actor=access.actor(request), clock=clock.process_clock())
        return Response(bodies.coupon(coupon))


def _reported(request: Request, shape: type[shapes.ReasonSerializer]) -> tuple[Actor, strict.Data]:
    """Return who acts and why, and what he gave."""
    service_key = access.access_scope(request, scope=SCOPE)
    given = strict.read(shape, request)
    actor = Actor(
        name=f"service key {service_key.prefix}",
        reason=given["reason"],
        request_id=requests.request_id(request),
    )
    return actor, given


def _marked(request: Request, invoice_id: UUID, *, status: str) -> Response:
    actor, given = _reported(request, shapes.ReportSerializer)
    answer = payments.mark_once(
        invoice_id=invoice_id,
        marked=payments.Mark(status=status, reference=given["reference"]),
        actor=actor,
        keyed=requests.keyed(request),
        render=_shown,
        clock=clock.process_clock(),
    )
    return responses.recorded(answer)


def _closed(request: Request, invoice_id: UUID, *, to: str) -> Response:
    actor, _ = _reported(request, shapes.ReasonSerializer)
    answer = corrections.close_once(
        invoice_id=invoice_id,
        to=to,
        actor=actor,
        keyed=requests.keyed(request),
        render=_shown,
        clock=clock.process_clock(),
    )
    return responses.recorded(answer)


def _shown(row: Invoice) -> dict[str, object]:
    return bodies.invoice(row, lines=selectors.list_lines(invoices=[row]))
