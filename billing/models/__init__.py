"""Store coupons, invoices, payments, customers' balances and MRR movements."""

from billing.models.coupons import Coupon, Redemption
from billing.models.invoices import CreditNote, Invoice, InvoiceLine, Issuer, UsageMark
from billing.models.money import BalanceEntry, MrrMovement, Payment

__all__ = [
    "BalanceEntry",
    "Coupon",
    "CreditNote",
    "Invoice",
    "InvoiceLine",
    "Issuer",
    "MrrMovement",
    "Payment",
    "Redemption",
    "UsageMark",
]
