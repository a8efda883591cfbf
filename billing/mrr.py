"""Normalise recurring prices to a month: exact fractions, one rounding per subscription.

Month 1, quarter 3, year 12, week × 52/12, day × 365/12. Not counted: trials, taxes, usage, free
plans and finite coupons; a coupon that lasts forever lowers it.
"""

from collections.abc import Mapping
from fractions import Fraction

from billing.invoicing import Off
from core import money
from core.periods import Interval

BILLED_STATUSES = frozenset({"active", "past_due"})
MONTHLY: Mapping[Interval, Fraction] = {
    Interval.MINUTE: Fraction(365 * 24 * 60, 12),
    Interval.HOUR: Fraction(365 * 24, 12),
    Interval.DAY: Fraction(365, 12),
    Interval.WEEK: Fraction(52, 12),
    Interval.MONTH: Fraction(1),
    Interval.QUARTER: Fraction(1, 3),
    Interval.HALF_YEAR: Fraction(1, 6),
    Interval.YEAR: Fraction(1, 12),
}


def monthly(
    amount: Fraction, *, interval: Interval, count: int, off: Off | None = None
) -> Fraction:
    """Return what an amount in minor units per interval is a month, after a lasting coupon."""
    return discounted(amount, off=off) * MONTHLY[interval] / count


def discounted(amount: Fraction, *, off: Off | None) -> Fraction:
    """Return the amount after the coupon, exactly; at least 0."""
    if off is None:
        return amount
    if off.percent is not None:
        return amount * (100 - off.percent) / 100
    return max(amount - off.amount_minor, Fraction(0))


def kind_of(*, amount_minor: int, customer_before_minor: int, has_history: bool) -> str:
    """Return what a movement is to the customer whose MRR stood so before it.

    New: the first ever. Reactivation: back from 0. Churn: down to 0. Else he expands or contracts.
    """
    if amount_minor < 0:
        return "churn" if customer_before_minor + amount_minor == 0 else "contraction"
    if customer_before_minor > 0:
        return "expansion"
    return "reactivation" if has_history else "new"


def to_minor(monthly_amounts: Fraction) -> int:
    """Return a subscription's MRR in minor units: the one rounding."""
    return money.rounded(monthly_amounts)
