"""Store balances, the usage ledger, and what feeds them."""

from metering.models.usage import Balance, UsageEntry

__all__ = ["Balance", "UsageEntry"]
