"""Burn units down over sources: in their order, with overage, rollover, refills and returns.

An item uses units and knows from which sources they came. The module is pure: it knows no
database, no clock and no plan. The stored balances and `replay` run on the same functions, so that
they cannot disagree.

A `State` may hold a part of all items. Missing may be any item that no operation touches: `cover`
and `reset` touch the items whose overage stands, `give_back` the item that it names, a lowered
`set_amount` the items that burnt from that source in its epoch. The sources of a state have begun,
and the instants given to its functions never go back.

After `begin`, `recur` and `set_amount` call `cover`, once for all that happens at one instant.
"""

from datetime import datetime
from heapq import heappop

from metering.sources import WHOLE_AMOUNT, Source, Units
from metering.state import Burn, Item, State

__all__ = ["WHOLE_AMOUNT", "Burn", "Item", "Source", "State", "Units"]


def balances(state: State, *, at: datetime) -> dict[str, Units]:
    """Return what is left on each active source."""
    return {each.id: each.balance for each in state.sources.values() if each.is_active(at)}


def balance(state: State, *, at: datetime) -> Units:
    """Return what is left on all active sources; 0 where overage stands, after `cover`."""
    return sum(balances(state, at=at).values())


def begin(state: State, source: Source) -> None:
    """Let a source give units from now on, with its whole amount."""
    source.balance = source.amount
    state.sources[source.id] = source
    state.offer(source)


def use(state: State, *, item_id: str, at: datetime, units: Units, order: int = 0) -> Item:
    """Use units: they burn the active sources in order, and what is not covered is overage."""
    item = state.items[item_id] = Item(id=item_id, at=at, order=order)
    state.owe(item, _burn(state, item, units=units, at=at))
    return item


def cover(state: State, *, at: datetime) -> None:
    """Let the overage that stands burn what the active sources have, the oldest item first."""
    while state.uncovered:
        item = state.items[state.uncovered[0][2]]
        rest = _burn(state, item, units=item.overage, at=at)
        state.overage -= item.overage - rest
        item.overage = rest
        if rest:
            return
        heappop(state.uncovered)


def give_back(state: State, *, item_id: str, at: datetime, units: Units) -> None:
    """Return units of an item: its overage first, then its burns, the last burnt first.

    A source takes its units back while it is active and its epoch is the same; otherwise they are
    gone. Overage that stands burns what came back.

    :raises ValueError: for more units than stand of the item; nothing is changed then.
    """
    item = state.items[item_id]
    if units > item.overage + item.forgiven + sum(burn.units for burn in item.burns):
        msg = f"{units} units were never used by {item_id}, or were given back before"
        raise ValueError(msg)
    from_overage = min(units, item.overage)
    item.overage -= from_overage
    state.overage -= from_overage
    from_forgiven = min(units - from_overage, item.forgiven)
    item.forgiven -= from_forgiven
    units -= from_overage + from_forgiven
    while units:
        burn = item.burns[-1]
        taken = _take_off(state, item, burn, units=units)
        units -= taken
        source = state.sources.get(burn.source_id)
        if source and source.epoch == burn.epoch and source.is_active(at):
            source.balance += taken
            state.offer(source)
    cover(state, at=at)


def set_amount(state: State, *, source_id: str, at: datetime, amount: Units) -> None:
    """Change the amount in force, and an active source's balance by the difference.

    What is cut below 0 becomes overage of the items that burnt from the source, the last burnt
    first; where none did (a reset had cut the balance), of an item that stands for the cut.
    """
    source = state.sources[source_id]
    change = amount - source.amount
    source.amount = amount
    if not source.is_active(at):
        return
    source.balance += change
    if source.balance < 0:
        missing, source.balance = -source.balance, 0
        _uncover(state, source, units=missing, at=at)
    state.offer(source)


def recur(state: State, *, source_id: str, at: datetime) -> None:
    """Give an active source its whole amount again; nothing is carried."""
    source = state.sources[source_id]
    if source.is_active(at):
        _start_anew(state, source, units=source.amount)
        state.offer(source)


def reset(
    state: State,
    *,
    at: datetime,
    period_ends_at: datetime | None,
    preserve_overage: bool,
    times: int = 1,
) -> None:
    """Open a period: roll the active sources over, refill those that refill, count from 0.

    Overage is forgiven, or burns what was rolled over and refilled, the rest staying as overage.
    `times` opens so many periods in a row, the last one at the instant; more than one only where
    no overage stands that a period between could burn.
    """
    for source in state.sources.values():
        if source.is_active(at):
            units = source.balance_after(resets=times)
            if source.refills or units != source.balance:
                _start_anew(state, source, units=units)
    state.period += times
    state.period_ends_at = period_ends_at
    state.grant_used = 0
    state.line_up()
    if not preserve_overage:
        state.forgive()
    cover(state, at=at)


def _burn(state: State, item: Item, *, units: Units, at: datetime) -> Units:
    """Burn the sources in order for an item; return the units that are not covered."""
    spent = 0
    for key in state.ready:
        if not units:
            break
        source = state.sources[key[-1]]
        taken = min(units, source.balance) if source.is_active(at) else 0
        if taken:
            source.balance -= taken
            units -= taken
            _note(state, item, source, units=taken, at=at)
        if units or not source.balance:
            spent += 1
    del state.ready[:spent]
    return units


def _note(state: State, item: Item, source: Source, *, units: Units, at: datetime) -> None:
    state.burn_count += 1
    burn = Burn(
        source_id=source.id,
        epoch=source.epoch,
        units=units,
        at=at,
        period=state.period,
        order=state.burn_count,
    )
    item.burns.append(burn)
    state.trails.setdefault(source.id, []).append((burn, item))
    state.grant_used += units


def _take_off(state: State, item: Item, burn: Burn, *, units: Units) -> Units:
    """Take units off a burn, as many as it has; return how many."""
    taken = min(units, burn.units)
    burn.units -= taken
    if burn.period == state.period:
        state.grant_used -= taken
    if not burn.units:
        item.burns.remove(burn)
    return taken


def _uncover(state: State, source: Source, *, units: Units, at: datetime) -> None:
    trail = state.trails.get(source.id, [])
    while units and trail:
        burn, item = trail[-1]
        if burn.units:
            taken = _take_off(state, item, burn, units=units)
            units -= taken
            state.owe(item, taken)
        if not burn.units:
            trail.pop()
    if units:
        cut = Item(id=f"{source.id} cut at {at.isoformat()}", at=at, order=-1)
        cut = state.items.setdefault(cut.id, cut)
        state.owe(cut, units)


def _start_anew(state: State, source: Source, *, units: Units) -> None:
    source.balance = units
    source.epoch += 1
    state.trails.pop(source.id, None)
