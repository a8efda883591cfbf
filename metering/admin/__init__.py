"""Show customers with all they have, their balances, and the usage ledger."""

from metering.admin import customers, grants, holds, meters, usage

__all__ = ["customers", "grants", "holds", "meters", "usage"]
