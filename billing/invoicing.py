"""Add an invoice up: fees − coupons + tax − credit notes − customer balance = due.

A coupon's discount is rounded once on what it discounts and given to the lines by largest
remainder, so that the lines' discounts add up to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from core import money


@dataclass(frozen=True, kw_only=True)
class Off:
    """What one coupon takes off: a percentage, or an amount that floors at 0."""

    percent: Fraction | None = None
    amount_minor: int = 0


@dataclass(frozen=True, kw_only=True)
class Fee:
    """One line before discounts; prorations are not discounted again."""

    amount_minor: int
    is_discountable: bool = True


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What an invoice adds up to, in minor units.

    `discounts_minor` stand by line, in their order. `balance_minor` is what the customer's
    balance pays; below 0 it is what a negative total adds to it.
    """

    subtotal_minor: int
    discounts_minor: tuple[int, ...]
    tax_minor: int | None
    total_minor: int
    balance_minor: int
    due_minor: int

    @property
    def discount_minor(self) -> int:
        """Return what the coupons take off in all."""
        return sum(self.discounts_minor)


def add_up(
    fees: Sequence[Fee],
    *,
    offs: Sequence[Off] = (),
    tax_minor: int | None = None,
    credit_notes_minor: int = 0,
    balance_minor: int = 0,
) -> Totals:
    """Return the totals; coupons apply in their order, each to what the ones before left.

    `tax_minor` comes from outside and is never invented; `balance_minor` (≥ 0) is what the
    customer has in balance.
    """
    discounts = [0] * len(fees)
    for off in offs:
        left = [
            max(fee.amount_minor - taken, 0) if fee.is_discountable else 0
            for fee, taken in zip(fees, discounts, strict=True)
        ]
        taken_now = spread(_wanted(off, sum(left)), over=left)
        discounts = [before + now for before, now in zip(discounts, taken_now, strict=True)]
    subtotal = sum(fee.amount_minor for fee in fees)
    total = subtotal - sum(discounts) + (tax_minor or 0)
    owed = total - credit_notes_minor
    paid_from_balance = min(balance_minor, owed)
    return Totals(
        subtotal_minor=subtotal,
        discounts_minor=tuple(discounts),
        tax_minor=tax_minor,
        total_minor=total,
        balance_minor=paid_from_balance,
        due_minor=owed - paid_from_balance,
    )


def spread(amount_minor: int, *, over: Sequence[int]) -> list[int]:
    """Divide an amount (0 … their sum) over weights (≥ 0) by largest remainder, the first first."""
    whole = sum(over)
    if whole == 0:
        return [0] * len(over)
    parts = [divmod(amount_minor * weight, whole) for weight in over]
    shares = [quotient for quotient, _ in parts]
    by_remainder = sorted(range(len(parts)), key=lambda index: (-parts[index][1], index))
    for index in by_remainder[: amount_minor - sum(shares)]:
        shares[index] += 1
    return shares


def _wanted(off: Off, left_minor: int) -> int:
    if off.percent is not None:
        return money.rounded(left_minor * off.percent / 100)
    return min(off.amount_minor, left_minor)
