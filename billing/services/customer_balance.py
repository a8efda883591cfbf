"""Keep what a customer has in balance with us: a ledger per currency, never below 0."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing import errors as own_errors
from billing import selectors
from billing.models import BalanceEntry, CreditNote, Invoice
from core import clock as clocks
from core import db, errors, money
from core import locks as core_locks
from core.models import Customer
from core.services import audit
from subscriptions.services.timeline import Actor


@dataclass(frozen=True, kw_only=True)
class Move:
    """What moves in a customer's balance, and why; never 0."""

    customer_id: UUID
    currency: str
    kind: str
    amount_minor: int
    invoice: Invoice | None = None
    credit_note: CreditNote | None = None
    actor: str = ""
    reason: str = ""


def move_step(move: Move, *, at: datetime) -> BalanceEntry:
    """Append one movement; the caller holds the customer's lock."""
    db.transaction_required()
    last = selectors.find_last_balance_entry(customer_id=move.customer_id, currency=move.currency)
    return BalanceEntry.objects.create(
        customer_id=move.customer_id,
        currency=move.currency,
        sequence=last.sequence + 1 if last else 1,
        kind=move.kind,
        amount_minor=move.amount_minor,
        balance_minor=(last.balance_minor if last else 0) + move.amount_minor,
        invoice=move.invoice,
        credit_note=move.credit_note,
        occurred_at=at,
        actor=move.actor,
        reason=move.reason,
    )


@db.operation
def adjust(
    *, customer_id: UUID, currency: str, amount_minor: int, actor: Actor, clock: clocks.Clock
) -> BalanceEntry:
    """Give to a customer's balance, or take from it, by hand and with a reason.

    :raises NotFound: where there is no such customer.
    :raises Invalid: for 0, or a currency that is none.
    :raises AmountMismatch: for taking more than there is.
    """
    if not amount_minor or abs(amount_minor) > money.AMOUNT_MAX:
        raise errors.Invalid.at("/amount_minor", code="invalid", detail="Give an amount, not 0.")
    if not money.is_currency(currency):
        raise errors.Invalid.at("/currency", code="invalid", detail="Give a code of ISO 4217.")
    with db.transaction():
        try:
            customer = core_locks.lock_customer(customer_id=customer_id)
        except Customer.DoesNotExist as error:
            raise errors.NotFound("There is no such customer.") from error
        at = clocks.instant_of(customer, clock=clock)
        there_minor = selectors.get_balance_minor(customer_id=customer_id, currency=currency)
        if there_minor + amount_minor < 0:
            shown = money.display(there_minor, currency=currency)
            detail = f"Only {shown} are in balance."
            facts = {"due_minor": there_minor, "currency": currency}
            raise own_errors.AmountMismatch(detail, facts=facts)
        move = Move(
            customer_id=customer_id,
            currency=currency,
            kind=BalanceEntry.Kind.ADJUSTMENT,
            amount_minor=amount_minor,
            actor=actor.name,
            reason=actor.reason,
        )
        entry = move_step(move, at=at)
        after = audit.snapshot(entry)
        audit.record_step(actor=actor, action="balance.adjusted", row=entry, at=at, after=after)
        return entry
