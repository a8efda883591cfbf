"""Issue draft invoices: numbers without gaps, the customer's balance applied, then open or paid."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

from billing import invoicing, locks, selectors
from billing.invoicing import Fee
from billing.models import BalanceEntry, Invoice, Issuer
from billing.services import closing, customer_balance, telling
from billing.services.customer_balance import Move
from core import clock as clocks
from core import db, errors, faults
from core import locks as core_locks
from core.models import Customer
from subscriptions.services import moves, timeline
from subscriptions.services.timeline import CLOCK

ISSUED = "invoice.issued"
Status = Invoice.Status


@db.operation
def issue(*, invoice_id: UUID, clock: clocks.Clock) -> Invoice:
    """Give a draft its number and freeze it; one that is issued stays as it is.

    A draft is kept while the collection of its subscription is paused. What the customer has in
    balance pays first; a negative total is added to it. Where nothing is left to pay, the invoice
    is paid, and with it a subscription that waited for it.

    :raises NotFound: where there is no such invoice.
    """
    customer_id = telling.customer_of(invoice_id)
    issued = _issue(invoice_id, customer_id=customer_id, clock=clock, event_types=())
    if issued is None:
        issued = _issue(
            invoice_id, customer_id=customer_id, clock=clock, event_types=timeline.EVENT_TYPES
        )
    if issued is None:
        raise AssertionError
    faults.point("issue_committed")
    return issued


def _issue(
    invoice_id: UUID, *, customer_id: UUID, clock: clocks.Clock, event_types: Sequence[str]
) -> Invoice | None:
    """Issue in a transaction of its own; None, and nothing done, where more has to be locked.

    Most drafts leave something to pay and move no subscription: those take no lock of what
    follows from a move. Where nothing is left, the subscription that waited moves.
    """
    with db.transaction():
        customer = core_locks.lock_customer(customer_id=customer_id)
        locked = moves.lock_rows_step(customer=customer, clock=clock, event_types=event_types)
        invoice = locks.lock_invoice(invoice_id=invoice_id)
        is_kept = locked.get(invoice.subscription_id).collection_paused_at is not None
        if invoice.status != Status.DRAFT or is_kept:
            return invoice
        issuer = locks.lock_issuer()
        faults.point("issue_locked")
        at = max(locked.at, invoice.billed_at)
        _apply_balance(invoice)
        if not invoice.due_minor and not event_types:
            return None
        _number(invoice, issuer=issuer, customer=customer)
        invoice.issued_at = at
        invoice.due_at = at + timedelta(days=issuer.payment_days)
        invoice.status = Status.OPEN if invoice.due_minor else Status.PAID
        invoice.paid_at = None if invoice.due_minor else at
        invoice.save()
        _move_balance(invoice)
        faults.point("issue_written")
        telling.publish_step(invoice, event_type=ISSUED, at=at)
        if invoice.status == Status.PAID:
            telling.publish_step(invoice, event_type=telling.PAID, at=at)
            closing.settle_step(invoice=invoice, locked=locked, actor=CLOCK)
        return invoice


class IssueJob:
    """Issue the drafts that no process issued: a worker's kind of due work."""

    name = "invoices"

    def list_due(self, *, at: datetime, limit: int, excluded: Collection[str]) -> list[str]:
        """Return the ids of drafts of what lies not ahead, oldest first."""
        drafts = selectors.list_drafts(before=at).exclude(pk__in=[UUID(key) for key in excluded])
        return [str(invoice_id) for invoice_id in drafts.values_list("id", flat=True)[:limit]]

    def work(self, *, key: str, clock: clocks.Clock) -> bool:
        """Issue one draft; one that lapsed meanwhile is nothing to do."""
        return bool(_issue_all([UUID(key)], clock=clock))


def issue_drafts_of(*, subscription_id: UUID, clock: clocks.Clock) -> list[Invoice]:
    """Issue the subscription's drafts at once, so that its customer need not wait for a worker."""
    drafts = selectors.list_drafts().filter(subscription=subscription_id)
    return _issue_all(list(drafts.values_list("id", flat=True)), clock=clock)


def _issue_all(drafts: Sequence[UUID], *, clock: clocks.Clock) -> list[Invoice]:
    """Issue the drafts, each in a transaction of its own; those that lapsed are left out."""
    issued = []
    for invoice_id in drafts:
        with suppress(errors.NotFound):
            issued.append(issue(invoice_id=invoice_id, clock=clock))
    return issued


def _apply_balance(invoice: Invoice) -> None:
    balance = selectors.get_balance_minor(
        customer_id=invoice.customer_id, currency=invoice.currency
    )
    fee = Fee(amount_minor=invoice.total_minor - invoice.paid_minor)
    totals = invoicing.add_up([fee], balance_minor=balance)
    invoice.balance_minor = totals.balance_minor
    invoice.due_minor = totals.due_minor


def _move_balance(invoice: Invoice) -> None:
    if not invoice.balance_minor or invoice.issued_at is None:
        return
    kinds = BalanceEntry.Kind
    move = Move(
        customer_id=invoice.customer_id,
        currency=invoice.currency,
        kind=kinds.APPLIED if invoice.balance_minor > 0 else kinds.PRORATION,
        amount_minor=-invoice.balance_minor,
        invoice=invoice,
    )
    customer_balance.move_step(move, at=invoice.issued_at)


def _number(invoice: Invoice, *, issuer: Issuer, customer: Customer) -> None:
    """Give the invoice the next number; the caller holds the issuer's lock."""
    issuer.invoices += 1
    issuer.save(update_fields=["invoices"])
    invoice.issuer = issuer
    invoice.number = issuer.invoices
    invoice.label = f"{issuer.invoice_prefix}{issuer.invoices:06}"
    invoice.parties = {
        "issuer": {
            "name": issuer.name,
            "address": issuer.address,
            "tax_id": issuer.tax_id,
            "payment_instructions": issuer.payment_instructions,
        },
        "customer": {"name": customer.name, "key": customer.external_key},
    }
