"""Close invoices, as steps: paid, void, or given up. The caller holds the customer's lock."""

from datetime import datetime

from billing import errors as own_errors
from billing import selectors
from billing.gateways import manual
from billing.models import BalanceEntry, Invoice, InvoiceLine, Payment
from billing.services import customer_balance, telling
from billing.services.customer_balance import Move
from core import db
from subscriptions.models import Subscription
from subscriptions.services import payments
from subscriptions.services.moves import Locked
from subscriptions.services.payments import Outcome
from subscriptions.services.timeline import Actor

Status = Invoice.Status
AWAITING = frozenset(
    {
        Subscription.Status.INCOMPLETE,
        Subscription.Status.ACTIVE,
        Subscription.Status.PAST_DUE,
        Subscription.Status.UNPAID,
    }
)


def pay_step(*, invoice: Invoice, at: datetime) -> None:
    """Write what is due as paid."""
    db.transaction_required()
    invoice.paid_minor += invoice.due_minor
    invoice.due_minor = 0
    close_step(invoice=invoice, at=at)


def close_step(*, invoice: Invoice, at: datetime) -> None:
    """Write an invoice that owes nothing more as paid, and tell it."""
    invoice.status, invoice.paid_at = Status.PAID, at
    invoice.save(update_fields=["status", "paid_at", "paid_minor", "credited_minor", "due_minor"])
    telling.publish_step(invoice, event_type=telling.PAID, at=at)


def pay_first_step(*, invoice: Invoice, at: datetime) -> None:
    """Record that a first invoice was paid by hand, where its subscription was marked as paid.

    A draft is paid before it is issued; issuing it closes it.
    """
    db.transaction_required()
    if invoice.status not in {Status.DRAFT, Status.OPEN}:
        return
    is_draft = invoice.status == Status.DRAFT
    amount_minor = invoice.total_minor if is_draft else invoice.due_minor
    Payment.objects.create(
        customer_id=invoice.customer_id,
        invoice=invoice,
        gateway=manual.KEY,
        reference=f"{invoice.pk}:first",
        status=Payment.Status.SUCCEEDED,
        amount_minor=amount_minor,
        currency=invoice.currency,
        occurred_at=at,
        actor="subscription marked as paid",
    )
    if is_draft:
        invoice.paid_minor = amount_minor
        invoice.save(update_fields=["paid_minor"])
    else:
        pay_step(invoice=invoice, at=at)


def settle_step(*, invoice: Invoice, locked: Locked, actor: Actor) -> Outcome | None:
    """Let a subscription go on whose invoice owes nothing more; None where it does not wait.

    The caller took the locks of `moves.lock_step`.
    """
    db.transaction_required()
    row = locked.get(invoice.subscription_id)
    if row.status not in AWAITING:
        return None
    if selectors.is_blocked(invoice=invoice, status=row.status, at=locked.at):
        return None
    return payments.succeed_step(locked, row=row, actor=actor)


def void_step(*, invoice: Invoice, actor: Actor, at: datetime) -> None:
    """Take an invoice back that nobody paid; what it took from the balance returns there.

    A draft is deleted: it has no number that could be missed.

    :raises InvoiceClosed: for one that is paid in part or in whole, or given back in part.
    """
    db.transaction_required()
    if invoice.status == Status.DRAFT and not invoice.paid_minor:
        invoice.delete()
        return
    if invoice.status not in {Status.OPEN, Status.UNCOLLECTIBLE} or _is_used(invoice):
        detail = f"{invoice.label} is {invoice.status}; a credit note takes it back."
        raise own_errors.InvoiceClosed(detail, facts={"invoice_status": invoice.status})
    give_up_step(invoice=invoice, to=Status.VOID, actor=actor, at=at)
    if invoice.balance_minor > 0:
        move = Move(
            customer_id=invoice.customer_id,
            currency=invoice.currency,
            kind=BalanceEntry.Kind.RETURNED,
            amount_minor=invoice.balance_minor,
            invoice=invoice,
            actor=actor.name,
            reason=actor.reason,
        )
        customer_balance.move_step(move, at=at)


def give_up_step(*, invoice: Invoice, to: str, actor: Actor, at: datetime) -> None:
    """Write an open invoice as void or uncollectible, with who did it and why, and tell it."""
    invoice.status, invoice.closed_at = to, at
    invoice.closed_by, invoice.closed_reason = actor.name, actor.reason
    invoice.save(update_fields=["status", "closed_at", "closed_by", "closed_reason"])
    telling.publish_step(invoice, event_type=f"invoice.{to}", at=at)


def _is_used(invoice: Invoice) -> bool:
    """Tell whether money or a credit speaks of the invoice already."""
    given_back = InvoiceLine.objects.filter(credits__invoice=invoice).exclude(
        invoice__status=Status.VOID
    )
    return bool(invoice.paid_minor or invoice.credited_minor) or given_back.exists()
