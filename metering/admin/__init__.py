"""Show customers with all they have, their balances, and the usage ledger."""

from metering.admin import customers, meters, usage

__all__ = ["customers", "meters", "usage"]
