"""Decide in plain Python over locked rows: may these units be used now.

The one decision of the engine. It knows no database; who calls it holds the rows' locks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metering import errors
from metering.models import Balance
from subscriptions.models import UNITS_MAX, Entitlement


@dataclass(frozen=True, kw_only=True)
class Item:
    """So many units of one metered feature; 1 … 10^12."""

    feature_id: int
    feature_key: str
    units: int


@dataclass(frozen=True, kw_only=True)
class Granted:
    """The figures after one item: what its answer shows and its ledger entry keeps."""

    item: Item
    balance: Balance
    used_units: int


@dataclass(frozen=True, kw_only=True)
class Denied:
    """The first item that may not be used, why, and the figures at that moment.

    `balance` is None where the plan in force grants none of the feature.
    """

    item: Item
    code: str
    balance: Balance | None


def decide(
    items: Sequence[Item], *, balances: Mapping[int, Balance], codes: Mapping[int, str]
) -> list[Granted] | Denied:
    """Grant all items, or name the first that may not be used; changes nothing.

    `balances` are the rows by feature id; `codes` name the denial of a feature without a row.
    Items of one feature add up in their order.
    """
    used: dict[int, int] = {key: row.used_units for key, row in balances.items()}
    granted: list[Granted] = []
    for item in items:
        row = balances.get(item.feature_id)
        if row is None:
            return Denied(item=item, code=codes[item.feature_id], balance=None)
        if row.denial_code:
            return Denied(item=item, code=row.denial_code, balance=row)
        if item.units > headroom_units(row, used_units=used[item.feature_id]):
            return Denied(item=item, code=errors.UsageLimitReached.code, balance=row)
        used[item.feature_id] += item.units
        granted.append(Granted(item=item, balance=row, used_units=used[item.feature_id]))
    return granted


def headroom_units(row: Balance, *, used_units: int) -> int:
    """Return how many more units the row can take, overage included; at least 0."""
    bound = UNITS_MAX
    if row.limit_units is not None and row.mode != Entitlement.Mode.SOFT:
        bound = row.limit_units + (row.overage_cap_units or 0)
    return max(bound - used_units - row.held_units, 0)


def remaining_units(*, limit_units: int | None, used_units: int, held_units: int) -> int | None:
    """Return what is left below the limit, at least 0; None where it is unlimited."""
    if limit_units is None:
        return None
    return max(limit_units - used_units - held_units, 0)
