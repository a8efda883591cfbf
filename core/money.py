"""Count money in integer minor units of an ISO 4217 currency: one rounding, half away from zero."""

import re
from fractions import Fraction

CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
AMOUNT_MAX = 10**15
DEFAULT_EXPONENT = 2
EXPONENTS = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI"), 0
    ),
    **dict.fromkeys(("VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}


def exponent_of(*, currency: str) -> int:
    """Return how many decimals the currency's minor unit has. Source: ISO 4217."""
    return EXPONENTS.get(currency, DEFAULT_EXPONENT)


def rounded(amount: Fraction) -> int:
    """Return the nearest integer; a half goes away from zero."""
    numerator, denominator = abs(amount.numerator), amount.denominator
    magnitude = (2 * numerator + denominator) // (2 * denominator)
    return magnitude if amount >= 0 else -magnitude


def to_minor(amount: Fraction, *, currency: str) -> int:
    """Return an exact amount in major units as minor units, rounded once."""
    return rounded(amount * 10 ** exponent_of(currency=currency))


def to_major(amount_minor: int, *, currency: str) -> Fraction:
    """Return minor units as the exact amount in major units."""
    return Fraction(amount_minor, 10 ** exponent_of(currency=currency))


def display(amount_minor: int, *, currency: str) -> str:
    """Return an amount as people read it: `29.00 EUR`, `−1,500 JPY`."""
    exponent = exponent_of(currency=currency)
    whole, part = divmod(abs(amount_minor), 10**exponent)
    decimals = f".{part:0{exponent}}" if exponent else ""
    return f"{'−' if amount_minor < 0 else ''}{whole:,}{decimals} {currency}"


def is_currency(code: str) -> bool:
    """Tell whether the code has the form of ISO 4217."""
    return CURRENCY.fullmatch(code) is not None
