"""Turn opening hours in local wall time into spans of UTC, over changes of the clocks: pure.

A wall time that occurs twice means its first occurrence, one that does not occur is shifted
forward (PEP 495, fold 0). A day of 23 or 25 hours therefore opens for 23 or 25 hours. The starts
of a grid are the wall times on it that exist: none in the gap, both in the repeated hour.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

ONE_DAY = timedelta(days=1)
DAY_MINUTES = 1440


@dataclass(frozen=True, kw_only=True, order=True)
class Span:
    """A half-open span `[starts_at, ends_at)` in UTC."""

    starts_at: datetime
    ends_at: datetime

    @property
    def minutes(self) -> float:
        """Return the elapsed minutes."""
        return (self.ends_at - self.starts_at) / timedelta(minutes=1)

    def overlaps(self, other: "Span") -> bool:
        """Tell whether the two share an instant."""
        return self.starts_at < other.ends_at and other.starts_at < self.ends_at

    def contains(self, other: "Span") -> bool:
        """Tell whether the other lies wholly within."""
        return self.starts_at <= other.starts_at and other.ends_at <= self.ends_at


@dataclass(frozen=True, kw_only=True)
class WeeklyRule:
    """Hours of one weekday (Monday is 0); `ends_on` is exclusive, None never begins or ends.

    A closing time at or before the opening one is the next day's.
    """

    weekday: int
    opens_at: time
    closes_at: time
    starts_on: date | None = None
    ends_on: date | None = None

    def covers(self, day: date) -> bool:
        """Tell whether the rule opens on the local day."""
        return (
            day.weekday() == self.weekday
            and (self.starts_on is None or self.starts_on <= day)
            and (self.ends_on is None or day < self.ends_on)
        )


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return the IANA zone."""
    return ZoneInfo(name)


def instant(*, day: date, wall: time, time_zone: str) -> datetime:
    """Return the instant of a wall time, shifted forward where it does not occur."""
    return datetime.combine(day, wall, zone(time_zone)).replace(fold=0).astimezone(UTC)


def has_wall_time(*, day: date, wall: time, time_zone: str) -> bool:
    """Tell whether the wall time occurs on the day."""
    local = instant(day=day, wall=wall, time_zone=time_zone).astimezone(zone(time_zone))
    return local.replace(tzinfo=None) == datetime.combine(day, wall)


def local_day(at: datetime, *, time_zone: str) -> date:
    """Return the local date of an instant."""
    return at.astimezone(zone(time_zone)).date()


def day_span(*, day: date, days: int, time_zone: str) -> Span:
    """Return the span from the day's local midnight over so many days."""
    return Span(
        starts_at=instant(day=day, wall=time(), time_zone=time_zone),
        ends_at=instant(day=day + days * ONE_DAY, wall=time(), time_zone=time_zone),
    )


def open_spans(
    rules: Iterable[WeeklyRule], *, time_zone: str, first_day: date, days: int
) -> list[Span]:
    """Return when the rules open on the local days, in order, touching spans joined."""
    known = list(rules)
    spans: list[Span] = []
    for offset in range(days):
        day = first_day + offset * ONE_DAY
        spans += [_opened(rule, day, time_zone) for rule in known if rule.covers(day)]
    return joined(span for span in spans if span.starts_at < span.ends_at)


def _opened(rule: WeeklyRule, day: date, time_zone: str) -> Span:
    closing_day = day if rule.closes_at > rule.opens_at else day + ONE_DAY
    return Span(
        starts_at=instant(day=day, wall=rule.opens_at, time_zone=time_zone),
        ends_at=instant(day=closing_day, wall=rule.closes_at, time_zone=time_zone),
    )


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, those that touch or overlap as one."""
    result: list[Span] = []
    for span in sorted(spans):
        if result and span.starts_at <= result[-1].ends_at:
            last = result.pop()
            span = Span(  # noqa: PLW2901 - grown by the one before
                starts_at=last.starts_at, ends_at=max(last.ends_at, span.ends_at)
            )
        result.append(span)
    return result


def is_on_grid(at: datetime, *, time_zone: str, grid_minutes: int) -> bool:
    """Tell whether the instant's wall time is a multiple of the grid after local midnight."""
    local = at.astimezone(zone(time_zone))
    minute = local.hour * 60 + local.minute
    return minute % grid_minutes == 0 and not local.second and not local.microsecond


@lru_cache(maxsize=256)
def grid_starts(
    *, time_zone: str, first_day: date, days: int, grid_minutes: int
) -> Sequence[datetime]:
    """Return every start on the grid of the local days that exists, in order."""
    found: list[datetime] = []
    for offset in range(days):
        midnight = datetime.combine(first_day + offset * ONE_DAY, time())
        for minute in range(0, DAY_MINUTES, grid_minutes):
            found += _occurrences(midnight + timedelta(minutes=minute), time_zone)
    return tuple(sorted(found))


def _occurrences(wall: datetime, time_zone: str) -> set[datetime]:
    """Return the instants that show the wall time: one, none or two."""
    both = {wall.replace(tzinfo=zone(time_zone), fold=fold).astimezone(UTC) for fold in (0, 1)}
    return {at for at in both if at.astimezone(zone(time_zone)).replace(tzinfo=None) == wall}


def weekly_starts(
    *, first: datetime, time_zone: str, interval_weeks: int, occurrences: int
) -> list[datetime | date]:
    """Return the starts of a series that keeps its wall time; a day that lacks it stands as date.

    The first of two occurrences of a wall time counts.
    """
    local = first.astimezone(zone(time_zone))
    found: list[datetime | date] = [first]
    for number in range(1, occurrences):
        day = local.date() + number * interval_weeks * 7 * ONE_DAY
        wall = local.time()
        exists = has_wall_time(day=day, wall=wall, time_zone=time_zone)
        found.append(instant(day=day, wall=wall, time_zone=time_zone) if exists else day)
    return found
