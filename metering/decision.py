"""Decide in plain Python over locked rows: may these units be counted now.

The one decision of the engine. It knows no database; who calls it holds the rows' locks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from metering import errors
from metering.models import Balance
from subscriptions.models import UNITS_MAX, Entitlement


class Place(NamedTuple):
    """Where units are counted: a feature's balance of the customer, a member or an entity."""

    feature_id: int
    scope: str


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Units of one item that one balance counts."""

    place: Place
    feature_key: str
    units: int


@dataclass(frozen=True, kw_only=True)
class Item:
    """So many units of one metered feature, 1 … 10^12, and every balance that counts them.

    The first draw is the feature's own; the others are the customer's balance beside a
    member's, and the pool's.
    """

    feature_id: int
    feature_key: str
    units: int
    draws: tuple[Draw, ...]


@dataclass(frozen=True, kw_only=True)
class Granted:
    """One draw that may be counted: its item's index and what is counted before it."""

    item_index: int
    draw: Draw
    balance: Balance
    counted_before: int


@dataclass(frozen=True, kw_only=True)
class Denied:
    """The first item that may not be used, why, and the row that refuses it.

    `balance` is None where the plan in force grants none of the feature.
    """

    item: Item
    draw: Draw
    code: str
    balance: Balance | None


def decide(
    items: Sequence[Item],
    *,
    balances: Mapping[Place, Balance],
    codes: Mapping[Place, str],
) -> list[Granted] | Denied:
    """Grant all items, or name the first that may not be used; changes nothing.

    `codes` name the denial of a place without a row. Items of one feature add up in their
    order.
    """
    added: dict[Place, int] = {}
    granted: list[Granted] = []
    for index, item in enumerate(items):
        for draw in item.draws:
            row = balances.get(draw.place)
            if row is None:
                code = codes.get(draw.place, errors.FeatureNotInPlan.code)
                return Denied(item=item, draw=draw, code=code, balance=None)
            if row.denial_code:
                return Denied(item=item, draw=draw, code=row.denial_code, balance=row)
            counted = added.get(draw.place, 0)
            if draw.units > headroom_units(row, added_units=counted):
                code = errors.UsageLimitReached.code
                return Denied(item=item, draw=draw, code=code, balance=row)
            added[draw.place] = counted + draw.units
            granted.append(
                Granted(item_index=index, draw=draw, balance=row, counted_before=counted)
            )
    return granted


def headroom_units(row: Balance, *, added_units: int) -> int:
    """Return how many more units the row can take, overage included; at least 0."""
    bound = UNITS_MAX
    if row.limit_units is not None and row.mode != Entitlement.Mode.SOFT:
        bound = row.limit_units + (row.overage_cap_units or 0)
    return max(bound - row.counted_units - added_units, 0)


def remaining_units(*, limit_units: int | None, counted_units: int) -> int | None:
    """Return what is left below the limit, at least 0; None where it is unlimited."""
    if limit_units is None:
        return None
    return max(limit_units - counted_units, 0)
