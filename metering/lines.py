"""Carry a granted line of the ledger where a model instance would cost too much."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from metering.models import UsageEntry
from subscriptions.facts import FeatureFacts


@dataclass(slots=True)
class Line:
    """A granted line of the usage ledger, with the figures that its answer shows."""

    pk: UUID
    operation_id: UUID
    item: int
    feature: FeatureFacts
    units: int
    drawn_for: int | None
    consumed_at: datetime
    metadata: Mapping[str, object]
    balance_id: int
    scope: str
    used_units: int
    held_units: int
    carried_units: int
    limit_units: int | None
    period_starts_at: datetime
    period_ends_at: datetime | None


LedgerLine = UsageEntry | Line
