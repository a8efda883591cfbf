"""Note what gateways report of payments: all that follows, once, under the customer's lock.

Every report ends in `note`: a mark by hand, a gateway's webhook, a reconciliation. It is known by
(gateway, reference), and told twice it changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from uuid_utils.compat import uuid7

from billing import errors as own_errors
from billing import locks
from billing.gateways import manual
from billing.models import Invoice, Payment
from billing.services import closing, telling
from core import clock as clocks
from core import db, errors, money
from core.services import audit, idempotency
from core.services.idempotency import NO_CLAIM, Claim, KeyedRequest, Recorded
from subscriptions.services import moves
from subscriptions.services import payments as subscription_payments
from subscriptions.services.moves import Locked
from subscriptions.services.payments import Outcome
from subscriptions.services.timeline import Actor

FAILED = "invoice.payment_failed"
LATE = "invoice.payment_late"
OK = 200
Status = Invoice.Status
OWED = frozenset({Status.OPEN, Status.UNCOLLECTIBLE})


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a gateway reports of one attempt to pay an invoice; the amount in minor units.

    `is_new` says that the reference was made just now, so that nobody has told it before.
    """

    invoice_id: UUID
    gateway: str
    reference: str
    status: str
    amount_minor: int
    currency: str
    is_new: bool = False


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What somebody reports by hand: paid in full, or failed; without a reference, each anew."""

    status: str
    reference: str = ""


def note(*, report: Report, actor: Actor, clock: clocks.Clock) -> Payment:
    """Record the report, once, with all that follows from it for invoice and subscription.

    A success closes the invoice and activates or recovers its subscription; the first failure
    starts grace. Money for an invoice that owes nothing more is recorded as late, to refund.

    :raises NotFound: where there is no such invoice.
    :raises InvoiceClosed: for a failure of an invoice that owes nothing, or a draft's payment.
    :raises AmountMismatch: for a success of another amount or currency than is due.
    """
    return _note(invoice_id=report.invoice_id, reported=lambda _: report, actor=actor, clock=clock)


def mark(
    *, invoice_id: UUID, status: str, reference: str, actor: Actor, clock: clocks.Clock
) -> Payment:
    """Report by hand that an invoice was paid in full, or that its payment failed.

    Without a reference each mark is one of its own.

    :raises NotFound: where there is no such invoice.
    :raises InvoiceClosed: for an invoice that owes nothing, where the reference is new.
    :raises Invalid: for a reference that stands for another invoice.
    """
    marked = Mark(status=status, reference=reference)
    return _note(invoice_id=invoice_id, reported=_by_hand(marked), actor=actor, clock=clock)


def mark_once(
    *,
    invoice_id: UUID,
    marked: Mark,
    actor: Actor,
    keyed: KeyedRequest,
    render: Callable[[Invoice], Mapping[str, object]],
    clock: clocks.Clock,
) -> Recorded:
    """Do what `mark` does, once under the key, and record the answer: the rendered invoice.

    :raises NotFound, InvoiceClosed, Invalid: as `mark`.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    return idempotency.once_by_claim(
        customer_id=telling.customer_of(invoice_id),
        keyed=keyed,
        status=OK,
        render=render,
        act=lambda claim: _note(
            invoice_id=invoice_id,
            reported=_by_hand(marked),
            actor=actor,
            clock=clock,
            claim=claim,
        ),
    )


def _by_hand(marked: Mark) -> Callable[[Invoice], Report]:
    def reported(invoice: Invoice) -> Report:
        return Report(
            invoice_id=invoice.pk,
            gateway=manual.KEY,
            reference=marked.reference or str(uuid7()),
            is_new=not marked.reference,
            status=marked.status,
            amount_minor=invoice.due_minor,
            currency=invoice.currency,
        )

    return reported


@db.operation
def _note(
    *,
    invoice_id: UUID,
    reported: Callable[[Invoice], Report],
    actor: Actor,
    clock: clocks.Clock,
    claim: Claim[Invoice] = NO_CLAIM,
) -> Payment:
    with db.transaction():
        customer_id = telling.customer_of(invoice_id)
        locked = moves.lock_step(customer_id=customer_id, clock=clock)
        invoice = locks.lock_invoice(invoice_id=invoice_id)
        report = reported(invoice)
        payment = _find_known(report)
        if payment is None:
            _refuse_unfit(report, invoice)
            payment = _noted_step(report, invoice, locked=locked, actor=actor)
        claim(invoice, locked.at)
        return payment


def _noted_step(report: Report, invoice: Invoice, *, locked: Locked, actor: Actor) -> Payment:
    """Do what follows from a report that is new; one by hand goes to the audit log as well.

    What a gateway tells stands in the payments, with its reference.
    """
    act = _fail_step if report.status == Payment.Status.FAILED else _succeed_step
    before = audit.snapshot(invoice) if actor.is_operator else {}
    payment = act(report, invoice, locked=locked, actor=actor)
    if actor.is_operator:
        audit.record_step(
            actor=actor,
            action=f"invoice.payment_{report.status}",
            row=invoice,
            at=locked.at,
            before=before,
            after={**audit.snapshot(invoice), "payment": audit.snapshot(payment)},
        )
    return payment


def _find_known(report: Report) -> Payment | None:
    if report.is_new:
        return None
    known = Payment.objects.filter(gateway=report.gateway, reference=report.reference).first()
    if known is not None and known.invoice_id != report.invoice_id:
        detail = f"The reference {report.reference!r} stands for another invoice."
        raise errors.Invalid.at("/reference", code="taken", detail=detail)
    return known


def _refuse_unfit(report: Report, invoice: Invoice) -> None:
    """Refuse what cannot be so; a gateway's money that comes too late is not refused."""
    is_late = report.status == Payment.Status.SUCCEEDED and report.gateway != manual.KEY
    if invoice.status == Status.DRAFT or (invoice.status not in OWED and not is_late):
        detail = f"{invoice} is {invoice.status} and awaits no payment."
        raise own_errors.InvoiceClosed(detail, facts={"invoice_status": invoice.status})
    if report.status == Payment.Status.FAILED or invoice.status not in OWED:
        return
    if (report.amount_minor, report.currency) != (invoice.due_minor, invoice.currency):
        due = money.display(invoice.due_minor, currency=invoice.currency)
        told = money.display(report.amount_minor, currency=report.currency)
        detail = f"{due} are due, not {told}."
        facts = {"due_minor": invoice.due_minor, "currency": invoice.currency}
        raise own_errors.AmountMismatch(detail, facts=facts)


def _succeed_step(report: Report, invoice: Invoice, *, locked: Locked, actor: Actor) -> Payment:
    is_late = invoice.status not in OWED
    if not is_late:
        closing.pay_step(invoice=invoice, at=locked.at)
        outcome = closing.settle_step(invoice=invoice, locked=locked, actor=actor)
        is_late = outcome == Outcome.LATE
    if is_late:
        telling.publish_step(invoice, event_type=LATE, at=locked.at)
    return _record(report, invoice, locked=locked, actor=actor, is_late=is_late)


def _fail_step(report: Report, invoice: Invoice, *, locked: Locked, actor: Actor) -> Payment:
    row = locked.get(invoice.subscription_id)
    if row.status in closing.AWAITING:
        subscription_payments.fail_step(locked, row=row, actor=actor)
    telling.publish_step(invoice, event_type=FAILED, at=locked.at)
    return _record(report, invoice, locked=locked, actor=actor, is_late=False)


def _record(
    report: Report, invoice: Invoice, *, locked: Locked, actor: Actor, is_late: bool
) -> Payment:
    return Payment.objects.create(
        customer_id=invoice.customer_id,
        invoice=invoice,
        gateway=report.gateway,
        reference=report.reference,
        status=report.status,
        amount_minor=report.amount_minor,
        currency=report.currency,
        is_late=is_late,
        occurred_at=locked.at,
        actor=actor.name,
        reason=actor.reason,
    )
