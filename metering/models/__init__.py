"""Store balances, the usage ledger, and what feeds them."""

from metering.models.meters import Meter, MeterEvent
from metering.models.sources import AlertThreshold, Burn, Grant, Hold
from metering.models.usage import Balance, UsageEntry

__all__ = [
    "AlertThreshold",
    "Balance",
    "Burn",
    "Grant",
    "Hold",
    "Meter",
    "MeterEvent",
    "UsageEntry",
]
