"""What stands at an instant: sources, items that used units, and the indexes over both.

The operations on it are those of `metering.burndown`.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappush

from metering.sources import BurnKey, Source, Units


@dataclass(kw_only=True, slots=True)
class Burn:
    """Units of one item that a source covers still, since the instant at which it burnt.

    `period` numbers the period that counts them as used, `order` all burns of the state.
    """

    source_id: str
    epoch: int
    units: Units
    at: datetime
    period: int = 0
    order: int = 0


@dataclass(kw_only=True, slots=True)
class Item:
    """One use of units; `order` ranks the items of one instant.

    What stands of it is covered (`burns`, the oldest first), not covered yet (`overage`), or was
    not covered when a reset forgave it (`forgiven`).
    """

    id: str
    at: datetime
    order: int = 0
    burns: list[Burn] = field(default_factory=list)
    overage: Units = 0
    forgiven: Units = 0


@dataclass(kw_only=True, slots=True)
class State:
    """Sources and items at an instant, and what they come to.

    `grant_used` is what was burnt in the current period, `overage` what no source covers yet.
    The rest are indexes: items with overage (the oldest first), the burns of each source's epoch,
    the sources that have units in the burn order.
    """

    sources: dict[str, Source] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    period_ends_at: datetime | None = None
    period: int = 0
    grant_used: Units = 0
    overage: Units = field(init=False, default=0)
    uncovered: list[tuple[datetime, int, str]] = field(init=False, default_factory=list)
    trails: dict[str, list[tuple[Burn, Item]]] = field(init=False, default_factory=dict)
    ready: list[BurnKey] = field(init=False, default_factory=list)
    burn_count: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        for item in self.items.values():
            owed, item.overage = item.overage, 0
            self.owe(item, owed)
        for burn, item in sorted(self._standing_burns(), key=lambda pair: pair[0].order):
            self.trails.setdefault(burn.source_id, []).append((burn, item))
        orders = (burn.order for item in self.items.values() for burn in item.burns)
        self.burn_count = max(orders, default=0)
        self.line_up()

    def owe(self, item: Item, units: Units) -> None:
        """Add to an item's overage."""
        if units:
            if not item.overage:
                heappush(self.uncovered, (item.at, item.order, item.id))
            item.overage += units
            self.overage += units

    def forgive(self) -> None:
        """Let all overage go; its items remember it."""
        for _, _, item_id in self.uncovered:
            item = self.items[item_id]
            item.forgiven += item.overage
            item.overage = 0
        self.uncovered.clear()
        self.overage = 0

    def offer(self, source: Source) -> None:
        """Put a source that has units again into the burn order."""
        key = source.burn_key(period_ends_at=self.period_ends_at)
        place = bisect_left(self.ready, key)
        if source.balance and self.ready[place : place + 1] != [key]:
            self.ready.insert(place, key)

    def line_up(self) -> None:
        """Put all sources that have units into the burn order of the period."""
        ends_at = self.period_ends_at
        having = [each for each in self.sources.values() if each.balance]
        self.ready = sorted(each.burn_key(period_ends_at=ends_at) for each in having)

    def _standing_burns(self) -> Iterator[tuple[Burn, Item]]:
        for item in self.items.values():
            for burn in item.burns:
                source = self.sources.get(burn.source_id)
                if source and source.epoch == burn.epoch:
                    yield burn, item
