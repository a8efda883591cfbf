"""Take money outside any gateway: the customer transfers it, an operator marks it as paid."""

from billing.gateways.port import HowToPay
from billing.models import Invoice
from core import money

KEY = "manual"


class ManualGateway:
    """Tell the customer how to transfer the money."""

    key = KEY

    def ask(self, invoice: Invoice) -> HowToPay:
        """Return the issuer's words, with the amount and the number to give with it."""
        due = money.display(invoice.due_minor, currency=invoice.currency)
        told = str(invoice.parties.get("issuer", {}).get("payment_instructions", ""))
        asked = f"Pay {due} and name {invoice.label or invoice.customer.external_key}."
        return HowToPay(gateway=self.key, instructions=f"{asked} {told}".strip())
