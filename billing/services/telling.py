"""Tell what became of invoices, in the caller's transaction."""

from datetime import datetime
from uuid import UUID

from billing.models import Invoice
from core import errors, events

PAID = "invoice.paid"


def publish_step(invoice: Invoice, *, event_type: str, at: datetime) -> None:
    """Tell what became of an invoice, in the caller's transaction."""
    payload: dict[str, object] = {
        "invoice": str(invoice.pk),
        "subscription": str(invoice.subscription_id),
        "number": invoice.label,
        "status": invoice.status,
        "due_minor": invoice.due_minor,
        "currency": invoice.currency,
    }
    events.publish(
        events.Event(
            event_type=event_type,
            customer_id=invoice.customer_id,
            occurred_at=at,
            payload=payload,
        )
    )


def customer_of(invoice_id: UUID) -> UUID:
    """Return whose invoice it is, without a lock: it never changes.

    :raises NotFound: where there is no such invoice.
    """
    invoice = Invoice.objects.filter(pk=invoice_id).only("customer_id").first()
    if invoice is None:
        raise errors.NotFound("There is no such invoice.")
    return invoice.customer_id
