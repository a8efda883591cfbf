"""Define what a payment gateway is to the engine.

A gateway asks for money and reports what came of it. Asking happens after the commit, never
inside a transaction; every report, by a hand, a webhook or a reconciliation, ends in the one
idempotent `billing.services.payments.note`.
"""

from dataclasses import dataclass
from typing import Protocol

from billing.models import Invoice


@dataclass(frozen=True, kw_only=True)
class HowToPay:
    """What a customer needs to pay an invoice: an address to go to, or instructions to read."""

    gateway: str
    checkout_url: str | None = None
    instructions: str | None = None


class Gateway(Protocol):
    """Take the money for an invoice."""

    key: str

    def ask(self, invoice: Invoice) -> HowToPay:
        """Ask for what is due on an issued invoice; asking again changes nothing."""
        ...
