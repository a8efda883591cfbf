"""Lock invoices and an issuer's numbers, in the order of `core.db.LockRank`.

Everything of one customer's money is written under the customer's lock; these come after it.
"""

from uuid import UUID

from billing.models import Invoice, Issuer
from core import db, errors
from core.clock import Clock
from core.models import Customer

DEFAULT_ISSUER = "default"


def lock_nothing(*, customer: Customer, clock: Clock) -> None:
    """Lock nothing more: the steps of billing write under the customer's lock alone."""


def lock_invoice(*, invoice_id: UUID) -> Invoice:
    """Lock one invoice until the transaction ends.

    :raises NotFound: where there is none, or it was a draft that lapsed meanwhile.
    """
    db.note_lock(rank=db.LockRank.ROW, key=f"invoice {invoice_id}")
    invoices = Invoice.objects.select_for_update(no_key=True, of=("self",))
    found = invoices.filter(pk=invoice_id).first()
    if found is None:
        raise errors.NotFound("There is no such invoice.")
    return found


def lock_issuer() -> Issuer:
    """Lock the sequence of the issuer's numbers, last of all; the issuer is made at first use."""
    db.note_lock(rank=db.LockRank.SEQUENCE, key=f"issuer {DEFAULT_ISSUER}")
    issuers = Issuer.objects.select_for_update(no_key=True, of=("self",))
    found = issuers.filter(key=DEFAULT_ISSUER).first()
    if found is None:
        new = Issuer(key=DEFAULT_ISSUER, name="Your company")
        Issuer.objects.bulk_create([new], ignore_conflicts=True)
        found = issuers.get(key=DEFAULT_ISSUER)
    return found
