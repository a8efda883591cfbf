"""Show invoices, payments, balances, coupons and MRR; correct them by the services alone."""

from billing.admin import coupons, invoices, ledgers

__all__ = ["coupons", "invoices", "ledgers"]
