"""Tell what of a feature's units a customer may still take for a time: a hint, never a decision.

Only the hold decides, under its locks. What is in force holds until it changes, so that a month
of slots derives once per period.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from metering import errors
from metering import selectors as metering_selectors
from metering.models import Balance
from metering.selectors import Standing
from resources.timetable import FeatureName
from subscriptions import selectors as subscription_selectors


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """The customer's facts and balances, read once, and the feature that is asked about."""

    facts: Any
    feature: FeatureName
    rows: Sequence[Balance]
    _known: list[tuple[datetime, Standing]] = field(default_factory=list)

    def refuse(self, *, units: int, starts_at: datetime) -> str:
        """Return the code of what refuses the units at the start of play; empty for nothing."""
        standing = self._standing(starts_at)
        if standing.derived.denial_code:
            return standing.derived.denial_code
        remaining = standing.remaining_units
        return "" if remaining is None or units <= remaining else errors.UsageLimitReached.code

    def remaining_units(self, *, at: datetime) -> int | None:
        """Return what is left in the period of the instant; None where it is unlimited."""
        return self._standing(at).remaining_units

    def _standing(self, instant: datetime) -> Standing:
        for since, known in self._known:
            until = known.derived.next_change_at
            if since <= instant and (until is None or instant < until):
                return known
        overview = metering_selectors.overview_of(self.facts, rows=self.rows, at=instant)
        feature = subscription_selectors.get_feature(key=self.feature.key)
        standing = metering_selectors.standing_of(overview, feature=feature)
        self._known.append((instant, standing))
        return standing
