"""Load and save where units come from: grants, and the burns of counted lines."""

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from metering import grants, locks, position
from metering.burndown import Burn as Burnt
from metering.burndown import Item, State
from metering.models import Balance, Burn, Grant, UsageEntry
from metering.position import ALLOWANCE
from metering.selectors import items as reading
from metering.selectors.items import Snapshot


def load_state_step(row: Balance, *, at: datetime) -> tuple[State, Snapshot]:
    """Lock the row's grants, and return the engine's state of the valid row as it stands."""
    given = locks.lock_grants(customer_id=row.customer_id, feature_ids=[row.feature_id])
    usable = [each for each in given if not row.scope and not grants.is_over(each, at=at)]
    items = reading.overage_items(row) if row.overage_units else []
    state = position.state_of(row, given=usable, items=items, since=at)
    return state, reading.snapshot(given=usable, items=items)


def take_in(
    *,
    state: State,
    stored: Snapshot,
    entry_ids: Collection[UUID],
    burns: Iterable[Burn],
    current: Balance,
) -> None:
    """Put the lines' items into the state: all the burns they have, which are stored no longer."""
    for item in reading.items_of(burns, current=current):
        state.items.setdefault(item.id, item)
        stored.items.pop(item.id, None)
    stored.read.update(entry_ids)


def load_item(
    *, state: State, stored: Snapshot, entry_id: UUID, row: Balance, current: Balance, units: int
) -> None:
    """Put an item into the state whose units are to come back.

    One without burns took them from the allowance of its own row; where that row's period is
    over, they are gone.
    """
    item_id = str(entry_id)
    if item_id in state.items:
        return
    if entry_id not in stored.read:
        for item in reading.items_of_entry(entry_id, current=current):
            state.items[item.id] = item
            stored.items[item.id] = reading.figures(item)
    if item_id not in state.items and row.epoch == current.epoch:
        at = current.decided_at
        burns = [Burnt(source_id=ALLOWANCE, epoch=row.epoch, units=units, at=at)]
        state.items[item_id] = Item(id=item_id, at=at, burns=burns)
        stored.passing.add(item_id)


def standing_units(state: State, *, entry_id: UUID) -> int:
    """Return how many units of an item can come back."""
    item = state.items.get(str(entry_id))
    if item is None:
        return 0
    return int(item.overage + item.forgiven + sum(burn.units for burn in item.burns))


def save_step(state: State, *, stored: Snapshot, row: Balance, foreign: Collection[str]) -> None:
    """Write the grants and burns that moved.

    `foreign` items were counted on another row than the one that they burn on.
    """
    moved = [
        Grant(pk=UUID(grant_id), remaining_units=int(source.balance), epoch=source.epoch)
        for grant_id, before in stored.grants.items()
        if (source := state.sources.get(grant_id)) is not None
        and (int(source.balance), source.epoch) != before
    ]
    if moved:
        Grant.objects.bulk_update(moved, ["remaining_units", "epoch"])
    changed = [
        item
        for item in state.items.values()
        if item.id not in stored.passing
        and not item.id.startswith(f"{ALLOWANCE} ")
        and reading.figures(item) != stored.items.get(item.id)
    ]
    known = [UUID(item.id) for item in changed if item.id in stored.items]
    if known:
        Burn.objects.filter(entry_id__in=known).delete()
    written = [
        burn
        for item in changed
        if not _is_implicit(item, row, foreign=foreign)
        for burn in _burns(item, row)
    ]
    if written:
        Burn.objects.bulk_create(written)


def _is_implicit(item: Item, row: Balance, *, foreign: Collection[str]) -> bool:
    """Tell whether the item took all its units at once, from the allowance of its own row."""
    own = all(
        each.source_id == ALLOWANCE and each.epoch == row.epoch and each.at == item.at
        for each in item.burns
    )
    return own and not item.overage and not item.forgiven and item.id not in foreign


def _burns(item: Item, row: Balance) -> list[Burn]:
    entry_id = UUID(item.id)
    found = [
        Burn(
            entry_id=entry_id,
            balance=row,
            grant_id=None if each.source_id == ALLOWANCE else UUID(each.source_id),
            epoch=each.epoch,
            units=int(each.units),
            burnt_at=each.at,
        )
        for each in item.burns
    ]
    if item.overage:
        found.append(Burn(entry_id=entry_id, balance=row, units=int(item.overage), is_overage=True))
    if item.forgiven:
        counted_on = UsageEntry.objects.values_list("balance_id", flat=True).get(pk=entry_id)
        found.append(
            Burn(
                entry_id=entry_id,
                balance_id=counted_on,
                units=int(item.forgiven),
                is_overage=True,
            )
        )
    for number, burn in enumerate(found):
        burn.position = number
    return found
