"""Read the terms of a price: what a quantity costs beyond one amount per unit.

Amounts stand as decimal strings in major units, with at most 12 places: a unit may cost less than
any coin. Price tiers cover `(previous up_to, up_to]`; the last is open.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from core import money

FLAT, PER_UNIT, PACKAGE, VOLUME = "flat", "per_unit", "package", "volume"
GRADUATED, PERCENTAGE = "graduated", "percentage"
PRICE_TIERS_MAX = 100
NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,12})?", re.ASCII)
ZERO = Fraction(0)
FIELDS: Mapping[str, frozenset[str]] = {
    FLAT: frozenset({"amount"}),
    PER_UNIT: frozenset({"unit_amount", "included"}),
    PACKAGE: frozenset({"amount", "size", "included"}),
    VOLUME: frozenset({"tiers", "bill_flat_on_zero"}),
    GRADUATED: frozenset({"tiers", "bill_flat_on_zero"}),
    PERCENTAGE: frozenset({"rate_percent", "fixed_amount", "included", "tiers"}),
}
PRICE_TIER_FIELDS = frozenset({"up_to", "unit_amount", "flat_amount", "rate_percent"})


@dataclass(frozen=True, kw_only=True)
class PriceTier:
    """The units of `(previous up_to, up_to]`: each costs the unit amount, all the flat amount."""

    up_to: Fraction | None
    unit_amount: Fraction
    flat_amount: Fraction
    rate_percent: Fraction


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a quantity costs, exactly, in major units of the currency.

    `amount` is the price of the whole (flat), of a unit (per unit) or of a package of `size`
    units; the first `included` units are free; `minimum` is due where less was charged.
    """

    model: str
    currency: str
    amount: Fraction = ZERO
    size: Fraction = Fraction(1)
    included: Fraction = ZERO
    rate_percent: Fraction = ZERO
    fixed_amount: Fraction = ZERO
    minimum: Fraction = ZERO
    price_tiers: Sequence[PriceTier] = ()
    bill_flat_on_zero: bool = False


class TermsInvalid(ValueError):
    """Say in one sentence why a document is not the terms of a price."""


def read(
    *, model: str, currency: str, unit_amount_minor: int, document: Mapping[str, object]
) -> Terms:
    """Return the terms that a price's columns and its document mean together.

    An empty document is a flat or per-unit price of `unit_amount_minor`.

    :raises TermsInvalid: for an unknown field, a number that is none, tiers out of order.
    """
    unknown = sorted(document.keys() - FIELDS[model] - {"minimum"})
    if unknown:
        msg = f"A {model} price has no {unknown[0]!r}."
        raise TermsInvalid(msg)
    named = "unit_amount" if model == PER_UNIT else "amount"
    if unit_amount_minor and (named in document or model not in {FLAT, PER_UNIT}):
        msg = "Give the amount in minor units or in the terms, not in both."
        raise TermsInvalid(msg)
    price_tiers = _price_tiers(document)
    _refuse_unfit(model, document, price_tiers)
    whole = money.to_major(unit_amount_minor, currency=currency)
    return Terms(
        model=model,
        currency=currency,
        amount=_number(document, named, default=whole),
        size=_number(document, "size", default=Fraction(1)),
        included=_number(document, "included"),
        rate_percent=_number(document, "rate_percent"),
        fixed_amount=_number(document, "fixed_amount"),
        minimum=_number(document, "minimum"),
        price_tiers=price_tiers,
        bill_flat_on_zero=document.get("bill_flat_on_zero") is True,
    )


def _refuse_unfit(
    model: str, document: Mapping[str, object], price_tiers: Sequence[PriceTier]
) -> None:
    """Refuse what the model needs and does not have."""
    if document.get("bill_flat_on_zero", False) not in {True, False}:
        msg = "bill_flat_on_zero is true or false."
        raise TermsInvalid(msg)
    if model in {VOLUME, GRADUATED} and not price_tiers:
        msg = f"A {model} price needs tiers."
        raise TermsInvalid(msg)
    if model == PACKAGE and not ({"amount", "size"} <= document.keys()):
        msg = "A package price needs amount and size."
        raise TermsInvalid(msg)
    if model == PACKAGE and _number(document, "size") == 0:
        msg = "A package holds more than nothing."
        raise TermsInvalid(msg)
    if model == PERCENTAGE and bool(price_tiers) == ("rate_percent" in document):
        msg = "A percentage price needs either rate_percent or tiers."
        raise TermsInvalid(msg)


def _price_tiers(document: Mapping[str, object]) -> tuple[PriceTier, ...]:
    given = document.get("tiers", [])
    if not isinstance(given, list) or len(given) > PRICE_TIERS_MAX:
        msg = f"tiers is a list of at most {PRICE_TIERS_MAX}."
        raise TermsInvalid(msg)
    found = tuple(_price_tier(each) for each in given)
    bounds = [each.up_to for each in found]
    closed = [each for each in bounds if each is not None]
    in_order = closed == sorted(set(closed)) and ZERO not in closed
    if found and not (bounds[-1] is None and len(closed) == len(bounds) - 1 and in_order):
        msg = "up_to rises from tier to tier, and is null in the last alone."
        raise TermsInvalid(msg)
    return found


def _price_tier(given: object) -> PriceTier:
    if (
        not isinstance(given, Mapping)
        or not given.keys() <= PRICE_TIER_FIELDS
        or "up_to" not in given
    ):
        msg = f"A tier has up_to, and of {', '.join(sorted(PRICE_TIER_FIELDS))} no other field."
        raise TermsInvalid(msg)
    return PriceTier(
        up_to=None if given["up_to"] is None else _number(given, "up_to"),
        unit_amount=_number(given, "unit_amount"),
        flat_amount=_number(given, "flat_amount"),
        rate_percent=_number(given, "rate_percent"),
    )


def _number(document: Mapping[str, object], name: str, *, default: Fraction = ZERO) -> Fraction:
    if name not in document:
        return default
    given = document[name]
    if isinstance(given, bool) or not isinstance(given, int | str):
        msg = f"{name} is a decimal string."
        raise TermsInvalid(msg)
    if not NUMBER.fullmatch(str(given)):
        msg = f"{name} is at least 0, with at most 12 decimals."
        raise TermsInvalid(msg)
    return Fraction(str(given))
