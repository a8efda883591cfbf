"""Prorate amounts by the second or by local day: exact ratios, one rounding per line.

Consumed + credited = billed, always: a proration credit never exceeds what of its line is not yet
credited. Source: docs.stripe.com/billing/subscriptions/prorations.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from core import money

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Share:
    """What remains of a whole: `0 ≤ remaining ≤ total`, in microseconds or in days."""

    remaining: int
    total: int

    @property
    def ratio(self) -> Fraction:
        """Return the exact ratio."""
        return Fraction(self.remaining, self.total)


WHOLE = Share(remaining=1, total=1)


def by_second(*, starts_at: datetime, ends_at: datetime, at: datetime) -> Share:
    """Return what remains of `[starts_at, ends_at)` at the instant, clamped to it; in UTC."""
    begins = min(max(at, starts_at), ends_at)
    return Share(
        remaining=(ends_at - begins) // MICROSECOND,
        total=(ends_at - starts_at) // MICROSECOND,
    )


def by_day(*, starts_at: datetime, ends_at: datetime, at: datetime, time_zone: str) -> Share:
    """Return the local days of the zone that remain; the day of the instant counts whole."""
    zone = ZoneInfo(time_zone)
    starts_on, ends_on = starts_at.astimezone(zone).date(), ends_at.astimezone(zone).date()
    return days(
        first=min(max(at.astimezone(zone).date(), starts_on), ends_on),
        end=ends_on,
        starts_on=starts_on,
        ends_on=ends_on,
    )


def days(*, first: date, end: date, starts_on: date, ends_on: date) -> Share:
    """Return the days `[first, end)` as a share of those of `[starts_on, ends_on)`."""
    return Share(remaining=(end - first).days, total=(ends_on - starts_on).days)


def charge(*, amount_minor: int, share: Share) -> int:
    """Return the charge for the share of a period that costs the amount."""
    return money.rounded(amount_minor * share.ratio)


def proration_credit(*, billed_minor: int, credited_minor: int, share: Share) -> int:
    """Return what is given back of a line for its share: negative or 0.

    `billed_minor` is what the line charged after discounts, `credited_minor` (≥ 0) what was given
    back of it already; together they never exceed it.
    """
    wanted = money.rounded(billed_minor * share.ratio)
    return -min(wanted, billed_minor - credited_minor)
