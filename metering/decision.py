"""Decide in plain Python over locked rows: may these units be counted now.

The one decision of the engine. It knows no database; who calls it holds the rows' locks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from metering import errors
from metering.models import Balance
from subscriptions.models import UNITS_MAX, Entitlement


class Place(NamedTuple):
    """Where units are counted: a feature's balance of the customer, a member or an entity."""

    feature_id: int
    scope: str


class Spot(NamedTuple):
    """A place of one customer: what names the row that decides."""

    customer_id: UUID
    place: Place


@dataclass(slots=True)
class Row:
    """A locked current balance of the fast path; `used_units` rises as requests are granted."""

    spot: Spot
    pk: int
    used_units: int
    held_units: int
    carried_units: int
    limit_units: int | None
    mode: str
    overage_cap_units: int | None
    denial_code: str
    is_plain: bool
    alert_units: int | None
    valid_until: datetime | None
    holds_due_at: datetime | None
    decided_at: datetime
    period_starts_at: datetime
    period_ends_at: datetime | None
    moved_units: int = 0

    @property
    def feature_id(self) -> int:
        """Return the feature that the row counts."""
        return self.spot.place.feature_id

    @property
    def counted_units(self) -> int:
        """Return all that counts against the limit."""
        return self.used_units + self.held_units + self.carried_units

    def suffices(self, *, at: datetime) -> bool:
        """Tell whether the row alone decides now: nothing due, and no grants behind it."""
        return (
            self.is_plain
            and (self.valid_until is None or at < self.valid_until)
            and (self.holds_due_at is None or at < self.holds_due_at)
        )

    def count(self, units: int) -> None:
        """Count units as used."""
        self.used_units += units
        self.moved_units += units


DecidingRow = Balance | Row


class Draw(NamedTuple):
    """Units of one item that one balance counts."""

    place: Place
    feature_key: str
    units: int


class Item(NamedTuple):
    """So many units of one metered feature, 1 … 10^12, and every balance that counts them.

    The first draw is the feature's own; the others are the customer's balance beside a
    member's, and the pool's.
    """

    feature_id: int
    feature_key: str
    units: int
    draws: tuple[Draw, ...]


@dataclass(frozen=True, kw_only=True)
class Denied:
    """The first item that may not be used, why, and the row that refuses it.

    `balance` is None where the plan in force grants none of the feature.
    """

    item: Item
    draw: Draw
    code: str
    balance: DecidingRow | None


def decide(
    items: Sequence[Item],
    *,
    balances: Mapping[Place, DecidingRow],
    codes: Mapping[Place, str],
) -> Denied | None:
    """Return None where all items may be used, else the first that may not; changes nothing.

    `codes` name the denial of a place without a row. Items of one feature add up in their
    order.
    """
    added: dict[Place, int] = {}
    for item in items:
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
    return None


def headroom_units(row: DecidingRow, *, added_units: int) -> int:
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
