"""What gives units: its amount, life, place in the burn order and rollover.

A source is a plan's limit, a top-up or a promotion. Units are integers, or decimals for decimal
meters; never floats.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal

from core.periods import Recurrence

Units = int | Decimal
Category = Literal["paid", "promotional"]
RolloverMax = Units | Literal["amount"] | None
BurnKey = tuple[int, datetime, bool, datetime, datetime, str]

WHOLE_AMOUNT: Final = "amount"
"""A `rollover_max` that follows the source's amount: all that is left stays."""

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(kw_only=True, slots=True)
class Source:
    """A giver of units, active on `[effective_at, min(expires_at, voided_at))`.

    `rollover_max` None is no cap. `epoch` rises when the balance starts anew (refill, recurrence,
    a reset that changed it): what burnt in an older epoch never comes back.
    """

    id: str
    amount: Units
    priority: int
    category: Category = "paid"
    effective_at: datetime
    expires_at: datetime | None = None
    voided_at: datetime | None = None
    created_at: datetime
    refills: bool = False
    rollover_min: Units = 0
    rollover_max: RolloverMax = WHOLE_AMOUNT
    recurrence: Recurrence | None = None
    balance: Units = 0
    epoch: int = 0

    def is_active(self, at: datetime) -> bool:
        """Tell whether the source gives units at the instant."""
        return (
            self.effective_at <= at
            and (self.expires_at is None or at < self.expires_at)
            and (self.voided_at is None or at < self.voided_at)
        )

    def balance_after(self, *, resets: int) -> Units:
        """Return what so many resets in a row leave; each may keep, cut, raise or refill."""
        units = self.balance
        for _ in range(resets):
            before, units = units, self._rolled_over(units)
            if units == before:
                break
        return units

    def burn_key(self, *, period_ends_at: datetime | None) -> BurnKey:
        """Return the place in the burn order; a source that refills ends with the period."""
        ends = [self.expires_at or NEVER]
        if self.refills and period_ends_at is not None:
            ends.append(period_ends_at)
        is_paid = self.category == "paid"
        return (self.priority, min(ends), is_paid, self.effective_at, self.created_at, self.id)

    def _rolled_over(self, units: Units) -> Units:
        kept = max(self.rollover_min, units)
        if self.rollover_max is not None:
            cap = self.amount if isinstance(self.rollover_max, str) else self.rollover_max
            kept = min(cap, kept)
        return kept + self.amount if self.refills else kept
