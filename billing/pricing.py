"""Price a quantity: exact in major units, then rounded once to minor units.

Flat, per unit, package (whole packages), volume (all units at the tier they reach), graduated
(each unit at its own tier), percentage. Nothing is due at zero usage, unless the price is flat or
says `bill_flat_on_zero`. Source: docs.stripe.com/subscriptions/pricing-models, getlago/lago-api.
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

from billing import proration
from billing.proration import Share
from core import money
from subscriptions import terms
from subscriptions.terms import PriceTier, Terms

ZERO = Fraction(0)


def amount_minor(price: Terms, *, quantity: Fraction, operations: int = 0) -> int:
    """Return what the quantity (≥ 0) costs in minor units, rounded once.

    `operations` is how many times the fixed part of a percentage price is due.
    """
    exact = exact_amount(price, quantity=quantity, operations=operations)
    return money.to_minor(exact, currency=price.currency)


def exact_amount(price: Terms, *, quantity: Fraction, operations: int = 0) -> Fraction:
    """Return what the quantity (≥ 0) costs, exactly, in major units."""
    charged = max(quantity - price.included, ZERO)
    match price.model:
        case terms.FLAT:
            return price.amount
        case terms.PER_UNIT:
            return charged * price.amount
        case terms.PACKAGE:
            return math.ceil(charged / price.size) * price.amount
        case terms.VOLUME:
            return _volume(price, quantity)
        case terms.GRADUATED:
            return _graduated(price, quantity)
        case _:
            return _percentage(price, charged) + operations * price.fixed_amount


def minimum_minor(price: Terms, *, share: Share = proration.WHOLE) -> int:
    """Return the least that the share of a period costs; 0 where the price names none."""
    return money.rounded(money.to_minor(price.minimum, currency=price.currency) * share.ratio)


def true_up_minor(*, minimum_minor: int, charged_minor: int) -> int:
    """Return what a line of its own adds to reach the minimum; 0 where it is reached."""
    return max(minimum_minor - charged_minor, 0)


def _volume(price: Terms, quantity: Fraction) -> Fraction:
    if quantity == 0 and not price.bill_flat_on_zero:
        return ZERO
    reached = next(
        each for each in price.price_tiers if each.up_to is None or quantity <= each.up_to
    )
    return quantity * reached.unit_amount + reached.flat_amount


def _graduated(price: Terms, quantity: Fraction) -> Fraction:
    if quantity == 0:
        return price.price_tiers[0].flat_amount if price.bill_flat_on_zero else ZERO
    return sum(
        (
            units * each.unit_amount + each.flat_amount
            for each, units in _filled(price.price_tiers, quantity)
        ),
        ZERO,
    )


def _percentage(price: Terms, charged: Fraction) -> Fraction:
    if not price.price_tiers:
        return charged * price.rate_percent / 100
    return sum(
        (
            units * each.rate_percent / 100 + each.flat_amount
            for each, units in _filled(price.price_tiers, charged)
        ),
        ZERO,
    )


def _filled(
    price_tiers: Sequence[PriceTier], quantity: Fraction
) -> Iterator[tuple[PriceTier, Fraction]]:
    """Yield each tier that holds units, with how many."""
    below = ZERO
    for each in price_tiers:
        if quantity <= below:
            return
        filled_to = quantity if each.up_to is None else min(quantity, each.up_to)
        yield each, filled_to - below
        below = filled_to
