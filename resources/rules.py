"""Decide by a policy: notice, days ahead, limits, peak hours, what it costs: pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from core import clock as clocks
from core.errors import DomainError
from resources import errors, opening
from resources.models import ResourceType
from resources.opening import Span

HOUR_MINUTES = 60
ALL_PERCENT = 100


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Hours of one weekday in local time, what they cost, and how many one may hold of them."""

    weekday: int
    starts_at: time
    ends_at: time
    rate_percent: int
    active_max: int | None


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The terms of one type for one customer; None bounds nothing."""

    notice_minutes: int = 0
    days_ahead: int = 31
    active_max: int | None = None
    per_day_max: int | None = None
    guests_max: int | None = None
    guest_fee_minor: int = 0
    free_cancel_minutes: int = 1440
    late_units_percent: int = ALL_PERCENT
    late_fee_minor: int = 0
    requires_check_in: bool = False
    no_show_units_percent: int = ALL_PERCENT
    no_show_fee_minor: int = 0
    peaks: tuple[Peak, ...] = ()

    def peak_at(self, starts_at: datetime, *, time_zone: str) -> Peak | None:
        """Return the peak window in which a booking starts."""
        local = starts_at.astimezone(opening.zone(time_zone))
        return next(
            (
                peak
                for peak in self.peaks
                if peak.weekday == local.weekday()
                and peak.starts_at <= local.time().replace(fold=0) < peak.ends_at
            ),
            None,
        )


@dataclass(frozen=True, kw_only=True)
class Own:
    """One booking that the customer has, live or of the days that are asked about."""

    type_id: int
    span: Span


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a policy judges: a time of one type at a venue's clock, and so many guests."""

    type_id: int
    span: Span
    time_zone: str
    guests: int = 0


def refuse_by_policy(
    policy: Policy, *, asked: Asked, own: Collection[Own], at: datetime
) -> DomainError | None:
    """Return why the policy refuses the booking at the instant; None where it allows it."""
    return (
        _refuse_time(policy, asked, at)
        or _refuse_guests(policy, asked)
        or _refuse_count(policy, asked, [each for each in own if each.type_id == asked.type_id], at)
    )


def _refuse_time(policy: Policy, asked: Asked, at: datetime) -> DomainError | None:
    earliest = at + timedelta(minutes=policy.notice_minutes)
    if asked.span.starts_at < earliest:
        detail = f"It starts at {clocks.rfc3339(asked.span.starts_at)}, too soon to book."
        return errors.BookingTooSoon(detail, facts={"earliest_at": clocks.rfc3339(earliest)})
    last_day = last_open_day(policy, at=at, time_zone=asked.time_zone)
    if opening.local_day(asked.span.starts_at, time_zone=asked.time_zone) > last_day:
        detail = f"Days after {last_day} are not yet open for booking."
        return errors.BookingTooFar(detail, facts={"last_day": last_day.isoformat()})
    return None


def last_open_day(policy: Policy, *, at: datetime, time_zone: str) -> date:
    """Return the last local day that may be booked at the instant."""
    return opening.local_day(at, time_zone=time_zone) + timedelta(days=policy.days_ahead)


def _refuse_guests(policy: Policy, asked: Asked) -> DomainError | None:
    if policy.guests_max is not None and asked.guests > policy.guests_max:
        return _limit_reached("guests_max", policy.guests_max)
    return None


def _refuse_count(
    policy: Policy, asked: Asked, own: Sequence[Own], at: datetime
) -> DomainError | None:
    active = [each for each in own if at < each.span.ends_at]
    if policy.active_max is not None and len(active) >= policy.active_max:
        return _limit_reached("active_max", policy.active_max)
    day = opening.local_day(asked.span.starts_at, time_zone=asked.time_zone)
    on_day = _starting_on(own, day=day, time_zone=asked.time_zone)
    if policy.per_day_max is not None and on_day >= policy.per_day_max:
        return _limit_reached("per_day_max", policy.per_day_max)
    peak = policy.peak_at(asked.span.starts_at, time_zone=asked.time_zone)
    if peak is None or peak.active_max is None:
        return None
    at_peak = [
        each
        for each in active
        if policy.peak_at(each.span.starts_at, time_zone=asked.time_zone) is not None
    ]
    if len(at_peak) >= peak.active_max:
        return _limit_reached("peak_active_max", peak.active_max)
    return None


def _starting_on(own: Iterable[Own], *, day: date, time_zone: str) -> int:
    return sum(opening.local_day(each.span.starts_at, time_zone=time_zone) == day for each in own)


def _limit_reached(rule: str, limit: int) -> DomainError:
    detail = f"The plan allows {limit} ({rule})."
    return errors.BookingLimitReached(detail, facts={"rule": rule, "limit": limit})


def cost_units(policy: Policy, *, unit: str, span: Span, time_zone: str, quantity: int = 1) -> int:
    """Return the units that so many places take for the span, at its start's rate; at least 1."""
    minutes = -int(-span.minutes // 1)
    per_place = {
        ResourceType.Unit.MINUTE: minutes,
        ResourceType.Unit.HOUR: -(-minutes // HOUR_MINUTES),
        ResourceType.Unit.VISIT: 1,
    }[ResourceType.Unit(unit)]
    peak = policy.peak_at(span.starts_at, time_zone=time_zone)
    rate_percent = peak.rate_percent if peak else ALL_PERCENT
    return share_units(per_place * quantity, percent=rate_percent)


def share_units(units: int, *, percent: int) -> int:
    """Return so many percent of the units, rounded up."""
    return -(-units * percent // ALL_PERCENT)


def strictest(policies: Sequence[Policy]) -> Policy:
    """Return the terms on which a booking under several policies is left: the strictest of each.

    Fees add up: each type has its own.
    """
    return Policy(
        free_cancel_minutes=max(each.free_cancel_minutes for each in policies),
        late_units_percent=max(each.late_units_percent for each in policies),
        late_fee_minor=sum(each.late_fee_minor for each in policies),
        requires_check_in=any(each.requires_check_in for each in policies),
        no_show_units_percent=max(each.no_show_units_percent for each in policies),
        no_show_fee_minor=sum(each.no_show_fee_minor for each in policies),
        guest_fee_minor=sum(each.guest_fee_minor for each in policies),
    )
