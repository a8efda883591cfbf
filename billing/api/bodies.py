"""Write invoices, coupons, balances and quotes as the API shows them."""

from collections.abc import Sequence
from datetime import datetime

from billing.models import BalanceEntry, Coupon, CreditNote, Invoice, InvoiceLine
from billing.services.changing import Quote
from billing.services.subscribing import Payable
from core import clock
from metering.api import bodies as metering_bodies
from subscriptions.models import Subscription

Body = dict[str, object]


def invoice(row: Invoice, *, lines: Sequence[InvoiceLine]) -> Body:
    """Return an issued invoice with its lines."""
    return {
        "id": str(row.pk),
        "number": row.label,
        "status": row.status,
        "subscription": str(row.subscription_id),
        "currency": row.currency,
        "lines": [line(each) for each in lines],
        "subtotal_minor": row.subtotal_minor,
        "discount_minor": row.discount_minor,
        "tax_minor": row.tax_minor,
        "total_minor": row.total_minor,
        "credited_minor": row.credited_minor,
        "balance_minor": row.balance_minor,
        "paid_minor": row.paid_minor,
        "due_minor": row.due_minor,
        "issued_at": instant(row.issued_at),
        "due_at": instant(row.due_at),
        "paid_at": instant(row.paid_at),
        "pdf": f"/api/invoices/{row.pk}/pdf",
    }


def line(row: InvoiceLine) -> Body:
    """Return one line; its period is null until a first payment starts it."""
    period = None
    if row.starts_at is not None:
        period = {"starts_at": instant(row.starts_at), "ends_at": instant(row.ends_at)}
    return {
        "description": row.description,
        "kind": row.kind,
        "quantity": row.quantity,
        "amount_minor": row.amount_minor,
        "discount_minor": row.discount_minor,
        "period": period,
    }


def credit_note(row: CreditNote) -> Body:
    """Return a credit note."""
    return {
        "id": str(row.pk),
        "number": row.label,
        "invoice": str(row.invoice_id),
        "currency": row.currency,
        "amount_minor": row.amount_minor,
        "balance_minor": row.balance_minor,
        "reason": row.reason,
        "issued_at": instant(row.issued_at),
    }


def coupon(row: Coupon) -> Body:
    """Return a coupon."""
    percent = None if row.percent_off is None else f"{row.percent_off.normalize():f}"
    return {
        "key": row.key,
        "name": row.name,
        "percent_off": percent,
        "amount_off_minor": row.amount_off_minor,
        "currency": row.currency or None,
        "duration": row.duration,
        "invoices_max": row.invoices_max,
        "expires_at": instant(row.expires_at),
        "redemptions_max": row.redemptions_max,
        "redemptions": row.redemptions,
        "archived_at": instant(row.archived_at),
    }


def balance_entry(row: BalanceEntry) -> Body:
    """Return one movement of a balance."""
    return {
        "id": str(row.pk),
        "kind": row.kind,
        "currency": row.currency,
        "amount_minor": row.amount_minor,
        "balance_minor": row.balance_minor,
        "invoice": str(row.invoice_id) if row.invoice_id else None,
        "occurred_at": instant(row.occurred_at),
        "reason": row.reason,
    }


def quote(row: Quote) -> Body:
    """Return what a change does, or did, with how to pay where it waits for that."""
    body: Body = {
        "effective_at": instant(row.effective_at),
        "proration_at": instant(row.proration_at),
        "lines": [line(each) for each in row.lines],
        "due_now_minor": row.due_now_minor,
        "currency": row.currency,
        "limits_after": dict(row.limits_after),
        "exceeds": row.exceeds,
    }
    return body if row.payable is None else {**body, "payment": payment(row.payable)}


def subscribed(row: Subscription, payable: Payable | None, at: datetime) -> Body:
    """Return the overview after subscribing, with how to pay where something is due."""
    body = metering_bodies.overview_at(row, at)
    return body if payable is None else {**body, "payment": payment(payable)}


def payment(payable: Payable) -> Body:
    """Return what a first invoice asks, and how to pay it."""
    how = {
        "gateway": payable.how.gateway,
        "checkout_url": payable.how.checkout_url,
        "instructions": payable.how.instructions,
    }
    return {name: value for name, value in how.items() if value is not None} | {
        "expires_at": instant(payable.expires_at) or "",
        "invoice": str(payable.invoice_id),
        "currency": payable.currency,
        "due_minor": payable.due_minor,
    }


def instant(value: datetime | None) -> str | None:
    """Return an instant as it stands in JSON."""
    return None if value is None else clock.rfc3339(value)
