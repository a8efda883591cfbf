"""Walk a subscription through its billing periods and all else that the clock brings: pure.

A period opens at its boundary where the subscription is active then. One that began meanwhile
opens at the instant at which the subscription becomes active again, once, so that no pause
over a boundary yields a free period; periods that went by entirely are not charged.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from core import periods
from core.periods import Interval, Period, Recurrence
from core.zones import Zones
from subscriptions import status, transitions
from subscriptions.states import Facts
from subscriptions.status import Upcoming

RENEW = "period_ended_renew"
RENEW_RANK = 9  # after all else of its instant: what ended is not renewed


class PriceFacts(Protocol):
    """The columns of a price that decide about billing periods."""

    @property
    def interval(self) -> str:
        """Return the interval."""

    @property
    def interval_count(self) -> int:
        """Return how many intervals make a period."""


class Renewable(Facts, Protocol):
    """A subscription's row with what decides about its billing periods."""

    renewed_until: datetime | None

    @property
    def zones(self) -> Zones:
        """Return the zones in which its periods are counted."""

    @property
    def price(self) -> PriceFacts | None:
        """Return the price; None where the plan has none."""


@dataclass(frozen=True, kw_only=True)
class Passed:
    """One thing that the clock brought to a row, and the billing period that it opened."""

    at: datetime
    event: str
    before: str
    opened: Period | None


def billing_recurrence(
    *, anchor_at: datetime, zones: Zones, price: PriceFacts | None
) -> Recurrence:
    """Return how billing periods recur: the price's interval, a month where there is no price."""
    return Recurrence(
        anchor=anchor_at,
        time_zone=zones.time_zone,
        interval=Interval(price.interval) if price else Interval.MONTH,
        count=price.interval_count if price else 1,
        former_zones=zones.former,
    )


def billing_period(row: Renewable, *, at: datetime) -> Period:
    """Return the billing period around the instant; while on trial, the trial."""
    if row.status == "trialing":
        return Period(starts_at=row.start_at, ends_at=row.trial_ends_at)
    recurrence = billing_recurrence(anchor_at=row.anchor_at, zones=row.zones, price=row.price)
    return periods.period_at(recurrence, at=at)


def zone_at(row: Renewable, *, at: datetime) -> str:
    """Return the zone whose days the billing period around the instant counts."""
    recurrence = billing_recurrence(anchor_at=row.anchor_at, zones=row.zones, price=row.price)
    return periods.zone_at(recurrence, at=at)


def next_due(row: Renewable) -> Upcoming | None:
    """Return what the clock brings to the row next, renewals included; None where nothing."""
    following = status.upcoming(row)
    if row.status != "active" or row.price_id is None or row.renewed_until is None:
        return following
    renewal = Upcoming(at=row.renewed_until, rank=RENEW_RANK, event=RENEW)
    return renewal if following is None or renewal.at < following.at else following


def advance(row: Renewable, *, due: Upcoming) -> Passed:
    """Apply what is due to the row, and open the billing period that begins with it."""
    before = row.status
    transitions.take(row, event=due.event, at=due.at)
    if row.price_id is None:
        row.renewed_until = None
    is_opening = due.event == RENEW or before != row.status or row.renewed_until is None
    opened = open_period(row, at=due.at) if is_opening else None
    return Passed(at=due.at, event=due.event, before=before, opened=opened)


def open_period(row: Renewable, *, at: datetime) -> Period | None:
    """Open the billing period around the instant where none is open; None where one is.

    Only what is active opens one, or what owes its first after a trial.
    """
    is_billable = row.status == "active" or (row.status == "past_due" and row.renewed_until is None)
    is_open = row.renewed_until is not None and row.renewed_until > at
    if row.price_id is None or not is_billable or is_open:
        return None
    period = billing_period(row, at=at)
    row.renewed_until = period.ends_at
    return period
