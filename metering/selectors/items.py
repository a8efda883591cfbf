"""Read where counted units came from: the items of a balance with their burns."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from metering.burndown import Burn as Burnt
from metering.burndown import Item
from metering.models import Balance, Burn, Grant, Hold, UsageEntry
from metering.position import ALLOWANCE

ITEMS_MAX = 10_000
TAKEN = (UsageEntry.Kind.CONSUME, UsageEntry.Kind.RECORD)
Figures = tuple[tuple[tuple[str, int, int], ...], int, int]


@dataclass(kw_only=True)
class Snapshot:
    """What is stored of a state before it moves: its grants, and its items with their burns.

    `passing` items only stand for units of the allowance that come back: they are not stored.
    Of the lines in `read` there are no other burns than these.
    """

    grants: dict[str, tuple[int, int]] = field(default_factory=dict)
    items: dict[str, Figures] = field(default_factory=dict)
    passing: set[str] = field(default_factory=set)
    read: set[UUID] = field(default_factory=set)


def snapshot(*, given: Iterable[Grant], items: Iterable[Item]) -> Snapshot:
    """Return what is stored, before anything moves."""
    return Snapshot(
        grants={str(each.pk): (each.remaining_units, each.epoch) for each in given},
        items={each.id: figures(each) for each in items},
    )


def overage_items(row: Balance) -> list[Item]:
    """Return the items whose overage stands on the row, with all their burns."""
    owing = Burn.objects.filter(balance=row, is_overage=True, units__gt=0).values("entry_id")
    return _items(Burn.objects.filter(entry_id__in=owing), current=row)


def moving_items(row: Balance, *, holds: Collection[Hold]) -> tuple[list[Item], Snapshot]:
    """Return the items of a row that a boundary may move: its newest, at most 10,000.

    Where the row was plain so far, what is over its limit stands on the newest.
    """
    burns = Burn.objects.filter(Q(entry__balance=row) | Q(balance=row, units__gt=0))
    explicit = _items(burns, current=row)
    known = {item.id for item in explicit}
    implicit = []
    for entry_id, at, units in _outstanding(row, holds=holds):
        if str(entry_id) not in known:
            burnt = Burnt(source_id=ALLOWANCE, epoch=row.epoch, units=units, at=at)
            implicit.append(Item(id=str(entry_id), at=at, burns=[burnt]))
    stored = snapshot(given=(), items=[*implicit, *explicit])
    over = row.overage_units if row.is_plain else 0
    for item in implicit:
        owed = min(over, int(item.burns[0].units))
        over -= owed
        item.overage = owed
        item.burns[0].units -= owed
        if not item.burns[0].units:
            item.burns.clear()
    return _in_order([*reversed(implicit), *explicit]), stored


def _outstanding(row: Balance, *, holds: Collection[Hold]) -> list[tuple[UUID, datetime, int]]:
    """Return what still counts on the row, the newest first."""
    entries = UsageEntry.objects.filter(balance=row).order_by("-id")
    reversed_ids = entries.filter(reverses__isnull=False).values("reverses_id")
    taken = entries.filter(kind__in=TAKEN).exclude(pk__in=reversed_ids)[:ITEMS_MAX]
    found = [(each.pk, each.consumed_at, each.units) for each in taken]
    dying = {each.pk for each in holds if not each.is_provisional}
    kept = Hold.objects.filter(balance=row, is_provisional=False).exclude(
        state__in=[Hold.State.RELEASED, Hold.State.EXPIRED]
    )
    for hold in kept.order_by("-id")[:ITEMS_MAX]:
        is_open = hold.state == Hold.State.LIVE or hold.pk in dying
        units = hold.units if is_open else hold.captured_units
        found.append((hold.entry_id, max(hold.created_at, row.period_starts_at), units))
    return sorted(
        (each for each in found if each[2]), key=lambda each: (each[1], each[0]), reverse=True
    )


def items_of_entry(entry_id: UUID, *, current: Balance) -> list[Item]:
    """Return the line's item; none where it has no stored burns."""
    return _items(Burn.objects.filter(entry_id=entry_id), current=current)


def _items(rows: "QuerySet[Burn]", *, current: Balance) -> list[Item]:
    return items_of(rows.select_related("entry").order_by("entry_id", "position"), current=current)


def items_of(burns: Iterable[Burn], *, current: Balance) -> list[Item]:
    """Return the items of burns that come with their lines, each item's in their order."""
    found: dict[UUID, Item] = {}
    for burn in burns:
        at = burn.entry.consumed_at
        item = found.setdefault(burn.entry_id, Item(id=str(burn.entry_id), at=at))
        if burn.is_overage and burn.balance_id == current.pk:
            item.overage += burn.units
        elif burn.is_overage:
            item.forgiven += burn.units
        else:
            source_id = str(burn.grant_id) if burn.grant_id else ALLOWANCE
            item.burns.append(
                Burnt(
                    source_id=source_id,
                    epoch=burn.epoch,
                    units=burn.units,
                    at=burn.burnt_at or at,
                )
            )
    return _in_order(list(found.values()))


def _in_order(items: list[Item]) -> list[Item]:
    """Number all burns in the order in which they burnt: at one instant, the oldest item's first.

    It is the order in which a lowered allowance takes units back from those who burnt it.
    """
    burns = [(burn.at, item.at, item.id, burn) for item in items for burn in item.burns]
    for order, (*_, burn) in enumerate(sorted(burns, key=lambda each: each[:3]), start=1):
        burn.order = order
    return items


def figures(item: Item) -> Figures:
    """Return what would be stored of the item: burns, overage, forgiven overage."""
    burns = tuple((each.source_id, each.epoch, int(each.units)) for each in item.burns)
    return burns, int(item.overage), int(item.forgiven)
