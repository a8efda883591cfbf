"""Tell the usage periods of a timeline: the grid of its anchor, moved by resets by hand."""

from bisect import bisect_right
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from core import periods
from core.periods import Period
from metering.services.replay.timelines import Reset, Timeline


@dataclass(frozen=True, kw_only=True)
class NumberedPeriod(Period):
    """A period with its number on the grid: scheduled resets raise it by one each."""

    number: int


class Calendar:
    """The periods of a timeline from `measure_from` on, and whether their resets preserve overage.

    The first period starts there and ends with the grid. A reset by hand opens one more, and moves
    the grid's anchor to its instant unless it retains it. Several at one instant are one: any of
    them moves the anchor, any of them preserves.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.by_hand: set[datetime] = set()
        self._preserves = timeline.preserve_overage_at_reset
        self._preserves_by_hand: dict[datetime, bool] = {}
        self._starts = [timeline.measure_from]
        self._grids = [timeline.usage_period]
        later = [each for each in timeline.resets if each.at >= timeline.measure_from]
        later.sort(key=attrgetter("at"))
        for at, at_once in groupby(later, key=attrgetter("at")):
            self._add(at, list(at_once))

    def preserves_at(self, at: datetime) -> bool:
        """Tell whether the reset at an instant preserves overage."""
        return self._preserves_by_hand.get(at, self._preserves)

    def period_at(self, at: datetime) -> NumberedPeriod:
        """Return the period around an instant that is not before `measure_from`."""
        place = bisect_right(self._starts, at) - 1
        starts_at, grid = self._starts[place], self._grids[place]
        if grid is None:
            return NumberedPeriod(number=0, starts_at=starts_at, ends_at=None)
        index = periods.index_at(grid, at=at)
        return NumberedPeriod(
            number=index,
            starts_at=max(starts_at, periods.boundary(grid, index=index)),
            ends_at=periods.boundary(grid, index=index + 1),
        )

    def _add(self, at: datetime, resets: list[Reset]) -> None:
        self.by_hand.add(at)
        self._preserves_by_hand[at] = any(
            self._preserves if each.preserve_overage is None else each.preserve_overage
            for each in resets
        )
        grid = self._grids[-1]
        if grid is not None and not all(each.retain_anchor for each in resets):
            grid = replace(grid, anchor=at)
        self._starts.append(at)
        self._grids.append(grid)
