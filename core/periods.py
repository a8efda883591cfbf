"""Compute the periods of a recurrence: half-open, in UTC, always counted from the anchor.

`boundary(n)` is the anchor plus n intervals: elapsed time for minutes and hours, wall-clock time
in the anchor's zone for days and weeks, month arithmetic clamped to the month's last day for the
rest. A wall time that occurs twice means its first occurrence, one that does not occur is shifted
forward (PEP 495, fold 0). Counting from the boundary before would drift: 31 January, 28 February,
28 March. Another zone counts from the next boundary on: the period that runs is what it was.
"""

import calendar
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class Interval(StrEnum):
    """What a recurrence counts."""

    LIFETIME = "lifetime"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    HALF_YEAR = "half_year"
    YEAR = "year"


ELAPSED = {Interval.MINUTE: timedelta(minutes=1), Interval.HOUR: timedelta(hours=1)}
DAYS = {Interval.DAY: 1, Interval.WEEK: 7}
MONDAY_AND_FIRST = datetime(2001, 1, 1)  # noqa: DTZ001 - a wall time, at home in every zone
MONTHS = {Interval.MONTH: 1, Interval.QUARTER: 3, Interval.HALF_YEAR: 6, Interval.YEAR: 12}
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class FormerZone:
    """A zone that was given up at `changed_at`, while a billing period ran up to `renews_at`.

    Days and weeks count in it to the end of theirs that ran then; months and longer to the end
    of the billing period, so that no month straddles the renewal of a year.
    """

    time_zone: str
    changed_at: datetime
    renews_at: datetime


@dataclass(frozen=True, kw_only=True)
class Recurrence:
    """An interval times a count (≥ 1), repeated from an anchor in an IANA zone.

    `former_zones` stood before it, the oldest first; those given up before the anchor count
    nothing.

    :raises ValueError: for a naive anchor, an unknown zone or a count below 1.
    """

    anchor: datetime
    time_zone: str
    interval: Interval
    count: int = 1
    former_zones: tuple[FormerZone, ...] = ()

    def __post_init__(self) -> None:
        _aware(self.anchor)
        for each in (self.time_zone, *(former.time_zone for former in self.former_zones)):
            _zone(each)
        if self.count < 1:
            msg = f"a recurrence counts at least 1 interval, not {self.count}"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class Period:
    """A half-open span `[starts_at, ends_at)` in UTC; `ends_at` None means that it never ends."""

    starts_at: datetime
    ends_at: datetime | None

    def contains(self, instant: datetime) -> bool:
        """Tell whether the instant lies in the span."""
        return self.starts_at <= instant and (self.ends_at is None or instant < self.ends_at)


def boundary(recurrence: Recurrence, *, index: int) -> datetime:
    """Return the instant of the boundary in UTC; index 0 is the anchor itself.

    :raises ValueError: for a boundary of a lifetime other than 0.
    :raises OverflowError: beyond the years 1 … 9999.
    """
    anchor = recurrence.anchor.astimezone(UTC)
    if index == 0:
        return anchor
    if recurrence.interval in ELAPSED:
        return anchor + index * recurrence.count * ELAPSED[recurrence.interval]
    if recurrence.former_zones:
        return _boundary_over_zones(recurrence, index=index)
    return _boundary_in(recurrence, recurrence.time_zone, index=index)


def zone_at(recurrence: Recurrence, *, at: datetime) -> str:
    """Return the zone by which the period that holds the instant ends."""
    if recurrence.interval is Interval.LIFETIME:
        return recurrence.time_zone
    following = index_at(recurrence, at=at) + 1
    zones = [former.time_zone for former, last in _last_boundaries(recurrence) if following <= last]
    return next(iter(zones), recurrence.time_zone)


def index_at(recurrence: Recurrence, *, at: datetime) -> int:
    """Return the last index whose boundary is not after the instant; negative before the anchor.

    A lifetime has the index 0 alone. The index is guessed at once and corrected by a few steps.
    """
    _aware(at)
    if recurrence.interval is Interval.LIFETIME:
        return 0
    index = _guessed_index(recurrence, at=at)
    while boundary(recurrence, index=index) > at:
        index -= 1
    while boundary(recurrence, index=index + 1) <= at:
        index += 1
    return index


def period_at(recurrence: Recurrence, *, at: datetime) -> Period:
    """Return the period that holds the instant; an instant on a boundary opens the new period."""
    if recurrence.interval is Interval.LIFETIME:
        return Period(starts_at=recurrence.anchor.astimezone(UTC), ends_at=None)
    index = index_at(recurrence, at=at)
    return Period(
        starts_at=boundary(recurrence, index=index),
        ends_at=boundary(recurrence, index=index + 1),
    )


def windows(
    *, starts_at: datetime, ends_at: datetime, interval: Interval, time_zone: str
) -> Iterator[Period]:
    """Yield the calendar's minutes, hours, days, weeks (from Monday), months … of a zone.

    The first begins at `starts_at` and the last ends at `ends_at` (exclusive), within their
    window. A day has as many hours as it has in the zone.

    :raises ValueError: for a naive instant or an unknown zone.
    """
    anchor = MONDAY_AND_FIRST.replace(tzinfo=_zone(time_zone))
    if interval in ELAPSED:
        here = starts_at.astimezone(_zone(time_zone))
        anchor = here.replace(minute=here.minute if interval is Interval.MINUTE else 0)
        anchor = anchor.replace(second=0, microsecond=0, fold=0)
    recurrence = Recurrence(anchor=anchor, time_zone=time_zone, interval=interval)
    index = index_at(recurrence, at=starts_at)
    begins_at = boundary(recurrence, index=index)
    while begins_at < ends_at:
        index += 1
        next_at = boundary(recurrence, index=index)
        yield Period(starts_at=max(begins_at, starts_at), ends_at=min(next_at, ends_at))
        begins_at = next_at


def clipped(period: Period, *, starts_at: datetime | None, ends_at: datetime | None) -> Period:
    """Return the part of the period inside a life; None for a life without that end."""
    ends = [each for each in (period.ends_at, ends_at) if each is not None]
    return Period(
        starts_at=max(period.starts_at, starts_at or period.starts_at),
        ends_at=min(ends, default=None),
    )


def first_boundary_on_or_after(
    *, start: date, anchor_day: int, interval: Interval, count: int = 1
) -> date:
    """Return the first billing day on or after a date, for intervals of months and longer.

    The day is clamped to short months. Source: Kill Bill's bill cycle day.
    """
    in_start_month = _clamped_day(start.year, start.month, anchor_day)
    if in_start_month >= start.day:
        return start.replace(day=in_start_month)
    year, month = divmod(start.year * 12 + start.month - 1 + count * MONTHS[interval], 12)
    return date(year, month + 1, _clamped_day(year, month + 1, anchor_day))


def in_rolling_window(*, times: Iterable[datetime], at: datetime, seconds: int) -> int:
    """Count the instants in `(at - seconds, at]`: elapsed time, whatever the wall clock did."""
    opens_at = at - timedelta(seconds=seconds)
    return sum(1 for each in times if opens_at < each <= at)


def is_accepted(
    *,
    event_at: datetime,
    received_at: datetime,
    late_horizon_seconds: int,
    future_skew_seconds: int,
) -> bool:
    """Tell whether an event's own time lies in `[received − horizon, received + skew]`."""
    oldest = received_at - timedelta(seconds=late_horizon_seconds)
    newest = received_at + timedelta(seconds=future_skew_seconds)
    return oldest <= event_at <= newest


def _boundary_in(recurrence: Recurrence, time_zone: str, *, index: int) -> datetime:
    """Return the boundary as one zone counts it."""
    zone, steps = _zone(time_zone), index * recurrence.count
    wall = recurrence.anchor.astimezone(zone).replace(tzinfo=None)
    if recurrence.interval in DAYS:
        wall += timedelta(days=steps * DAYS[recurrence.interval])
    elif recurrence.interval in MONTHS:
        wall = _months_later(wall, months=steps * MONTHS[recurrence.interval])
    else:
        msg = f"a {recurrence.interval} has no boundary but its anchor"
        raise ValueError(msg)
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _boundary_over_zones(recurrence: Recurrence, *, index: int) -> datetime:
    """Return the boundary in the zone that counts it, never before the last of a former zone."""
    begun_at = datetime.min.replace(tzinfo=UTC)
    for former, last in _last_boundaries(recurrence):
        found = _boundary_in(recurrence, former.time_zone, index=min(index, last))
        begun_at = max(begun_at, found)
        if index <= last:
            return begun_at
    return max(begun_at, _boundary_in(recurrence, recurrence.time_zone, index=index))


@lru_cache(maxsize=1024)
def _last_boundaries(recurrence: Recurrence) -> tuple[tuple[FormerZone, int], ...]:
    """Return the former zones with the index of the last boundary that each counts, in order."""
    found: list[tuple[FormerZone, int]] = []
    known: tuple[FormerZone, ...] = ()
    for former in recurrence.former_zones:
        if former.changed_at >= recurrence.anchor:
            is_short = recurrence.interval in DAYS
            last_at = former.changed_at if is_short else former.renews_at - INSTANT
            before = replace(recurrence, time_zone=former.time_zone, former_zones=known)
            found.append((former, index_at(before, at=last_at) + 1))
        known = (*known, former)
    return tuple(found)


def _guessed_index(recurrence: Recurrence, *, at: datetime) -> int:
    if recurrence.interval in ELAPSED:
        width = recurrence.count * ELAPSED[recurrence.interval]
        return (at - recurrence.anchor) // width
    zone = _zone(recurrence.time_zone)
    here, there = at.astimezone(zone), recurrence.anchor.astimezone(zone)
    if recurrence.interval in DAYS:
        days = here.date().toordinal() - there.date().toordinal()
        return days // (recurrence.count * DAYS[recurrence.interval])
    months = (here.year - there.year) * 12 + here.month - there.month
    return months // (recurrence.count * MONTHS[recurrence.interval])


def _months_later(wall: datetime, *, months: int) -> datetime:
    year, month = divmod(wall.year * 12 + wall.month - 1 + months, 12)
    if not MINYEAR <= year <= MAXYEAR:
        msg = f"the year {year} is out of range"
        raise OverflowError(msg)
    return wall.replace(year=year, month=month + 1, day=_clamped_day(year, month + 1, wall.day))


def _clamped_day(year: int, month: int, day: int) -> int:
    return min(day, calendar.monthrange(year, month)[1])


def _aware(instant: datetime) -> None:
    if instant.tzinfo is None:
        msg = f"{instant} has no offset"
        raise ValueError(msg)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, IsADirectoryError) as error:
        msg = f"{name!r} is not an IANA time zone"
        raise ValueError(msg) from error
