"""Correct issued invoices, which never change: void, give up, or take back by a credit note."""

from collections.abc import Callable, Mapping
from datetime import datetime
from uuid import UUID

from billing import errors as own_errors
from billing import locks, selectors
from billing.models import BalanceEntry, CreditNote, Invoice
from billing.services import closing, customer_balance, telling
from billing.services.customer_balance import Move
from core import clock as clocks
from core import db, money
from core import locks as core_locks
from core.services import audit, idempotency
from core.services.idempotency import NO_CLAIM, Claim, KeyedRequest, Recorded
from subscriptions.services import moves
from subscriptions.services.moves import Locked
from subscriptions.services.timeline import Actor

CREDITED = "invoice.credited"
OK, CREATED = 200, 201
Status = Invoice.Status
Render = Callable[[CreditNote], Mapping[str, object]]
RenderInvoice = Callable[[Invoice], Mapping[str, object]]
CREDITABLE = frozenset({Status.OPEN, Status.PAID, Status.UNCOLLECTIBLE})


def void(*, invoice_id: UUID, actor: Actor, clock: clocks.Clock) -> Invoice:
    """Take back an issued invoice of which nothing is paid; one that is void stays so.

    :raises NotFound: where there is no such invoice.
    :raises InvoiceClosed: for one that is a draft, paid, or given back in part.
    """
    return _close(invoice_id=invoice_id, to=Status.VOID, actor=actor, clock=clock)


def give_up(*, invoice_id: UUID, actor: Actor, clock: clocks.Clock) -> Invoice:
    """Write an open invoice as uncollectible; money that comes still closes it.

    :raises NotFound: where there is no such invoice.
    :raises InvoiceClosed: for one that is not open.
    """
    return _close(invoice_id=invoice_id, to=Status.UNCOLLECTIBLE, actor=actor, clock=clock)


def close_once(
    *,
    invoice_id: UUID,
    to: str,
    actor: Actor,
    keyed: KeyedRequest,
    render: RenderInvoice,
    clock: clocks.Clock,
) -> Recorded:
    """Do what `void` or `give_up` does, once under the key, and record the rendered answer.

    :raises NotFound, InvoiceClosed: as they do.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    return idempotency.once_by_claim(
        customer_id=telling.customer_of(invoice_id),
        keyed=keyed,
        status=OK,
        render=render,
        act=lambda claim: _close(
            invoice_id=invoice_id, to=to, actor=actor, clock=clock, claim=claim
        ),
    )


@db.operation
def _close(
    *,
    invoice_id: UUID,
    to: str,
    actor: Actor,
    clock: clocks.Clock,
    claim: Claim[Invoice] = NO_CLAIM,
) -> Invoice:
    customer_id = telling.customer_of(invoice_id)
    with db.transaction():
        customer = core_locks.lock_customer(customer_id=customer_id)
        invoice = locks.lock_invoice(invoice_id=invoice_id)
        at = clocks.instant_of(customer, clock=clock)
        if invoice.status != to:
            _close_step(invoice, to=to, actor=actor, at=at)
        claim(invoice, at)
        return invoice


def _close_step(invoice: Invoice, *, to: str, actor: Actor, at: datetime) -> None:
    before = invoice.status
    if before == Status.DRAFT or (to == Status.UNCOLLECTIBLE and before != Status.OPEN):
        raise _refusal(invoice)
    if to == Status.VOID:
        closing.void_step(invoice=invoice, actor=actor, at=at)
    else:
        closing.give_up_step(invoice=invoice, to=to, actor=actor, at=at)
    audit.record_step(
        actor=actor,
        action=f"invoice.{to}",
        row=invoice,
        at=at,
        before={"status": before},
        after={"status": to},
    )


def credit_note_once(
    *,
    invoice_id: UUID,
    amount_minor: int,
    actor: Actor,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Do what `credit_note` does, once under the key, and record the rendered answer.

    :raises NotFound, InvoiceClosed, AmountMismatch: as `credit_note`.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    return idempotency.once_by_claim(
        customer_id=telling.customer_of(invoice_id),
        keyed=keyed,
        status=CREATED,
        render=render,
        act=lambda claim: credit_note(
            invoice_id=invoice_id,
            amount_minor=amount_minor,
            actor=actor,
            clock=clock,
            claim=claim,
        ),
    )


@db.operation
def credit_note(
    *,
    invoice_id: UUID,
    amount_minor: int,
    actor: Actor,
    clock: clocks.Clock,
    claim: Claim[CreditNote] = NO_CLAIM,
) -> CreditNote:
    """Take back so much of an issued invoice, with a number and a reason of its own.

    It lowers what is due; the rest, paid already, goes to the customer's balance. An invoice
    that owes nothing more thereby is paid.

    :raises NotFound: where there is no such invoice.
    :raises InvoiceClosed: for a draft or a void one.
    :raises AmountMismatch: for more than is left of the invoice.
    """
    customer_id = telling.customer_of(invoice_id)
    with db.transaction():
        locked = moves.lock_step(customer_id=customer_id, clock=clock)
        invoice = locks.lock_invoice(invoice_id=invoice_id)
        if invoice.status not in CREDITABLE:
            raise _refusal(invoice)
        _refuse_too_much(invoice, amount_minor)
        before = audit.snapshot(invoice)
        note = _write_step(invoice=invoice, amount_minor=amount_minor, actor=actor, at=locked.at)
        _settle_step(note, locked=locked, actor=actor)
        audit.record_step(
            actor=actor,
            action=CREDITED,
            row=invoice,
            at=locked.at,
            before=before,
            after={**audit.snapshot(invoice), "credit_note": audit.snapshot(note)},
        )
        claim(note, locked.at)
        return note


def _write_step(*, invoice: Invoice, amount_minor: int, actor: Actor, at: datetime) -> CreditNote:
    issuer = locks.lock_issuer()
    issuer.credit_notes += 1
    issuer.save(update_fields=["credit_notes"])
    from_due = min(invoice.due_minor, amount_minor)
    note = CreditNote.objects.create(
        customer_id=invoice.customer_id,
        invoice=invoice,
        issuer=issuer,
        number=issuer.credit_notes,
        label=f"{issuer.credit_note_prefix}{issuer.credit_notes:06}",
        currency=invoice.currency,
        amount_minor=amount_minor,
        balance_minor=amount_minor - from_due,
        reason=actor.reason,
        actor=actor.name,
        issued_at=at,
    )
    if note.balance_minor:
        move = Move(
            customer_id=invoice.customer_id,
            currency=invoice.currency,
            kind=BalanceEntry.Kind.CREDIT_NOTE,
            amount_minor=note.balance_minor,
            invoice=invoice,
            credit_note=note,
            actor=actor.name,
            reason=actor.reason,
        )
        customer_balance.move_step(move, at=at)
    return note


def _settle_step(note: CreditNote, *, locked: Locked, actor: Actor) -> None:
    """Lower what is due, and close the invoice where nothing is left."""
    invoice = note.invoice
    telling.publish_step(invoice, event_type=CREDITED, at=locked.at)
    from_due = note.amount_minor - note.balance_minor
    if not from_due:
        return
    invoice.credited_minor += from_due
    invoice.due_minor -= from_due
    if invoice.due_minor:
        invoice.save(update_fields=["credited_minor", "due_minor"])
        return
    closing.close_step(invoice=invoice, at=locked.at)
    closing.settle_step(invoice=invoice, locked=locked, actor=actor)


def _refuse_too_much(invoice: Invoice, amount_minor: int) -> None:
    left_minor = selectors.get_creditable_minor(invoice=invoice)
    if not 0 < amount_minor <= left_minor:
        left = money.display(left_minor, currency=invoice.currency)
        detail = f"{left} of {invoice.label} may be taken back."
        facts = {"due_minor": left_minor, "currency": invoice.currency}
        raise own_errors.AmountMismatch(detail, facts=facts)


def _refusal(invoice: Invoice) -> own_errors.InvoiceClosed:
    detail = f"{invoice} is {invoice.status}; that does not allow this."
    return own_errors.InvoiceClosed(detail, facts={"invoice_status": invoice.status})
