"""Decide rate limits by GCRA: exact, one number per caller and limit, several at once.

Each request moves a caller's mark ahead of the clock by the limit's interval; a request that
would put the mark more than the window ahead is refused, and moves nothing. So `requests` may
come at once, and then one more every `seconds / requests`. Pure: the stores stand in
`core/services/rates.py`. Source: ITU-T I.371, annex A.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SECOND_US = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Limit:
    """So many requests in so many seconds, under a name that the caller is told."""

    name: str
    requests: int
    seconds: int

    @property
    def interval_us(self) -> int:
        """Return the microseconds that one request takes up, rounded up."""
        return -(-self.seconds * SECOND_US // self.requests)

    @property
    def window_us(self) -> int:
        """Return how far ahead of the clock the mark may be."""
        return self.interval_us * self.requests


@dataclass(frozen=True, kw_only=True)
class Limited:
    """One caller under one limit; the key names both."""

    key: str
    limit: Limit


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a caller stands under one limit after the decision."""

    limit: Limit
    remaining: int
    seconds_to_full: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision on one request under all its limits: all or nothing."""

    is_allowed: bool
    retry_after_us: int
    marks: tuple[int, ...]
    standings: tuple[Standing, ...]

    @property
    def retry_after_seconds(self) -> int:
        """Return the seconds to wait, rounded up; at least 1 for a refusal."""
        return max(1, -(-self.retry_after_us // SECOND_US))

    @property
    def tightest(self) -> Standing:
        """Return the limit under which least remains."""
        return min(self.standings, key=lambda each: (each.remaining, -each.seconds_to_full))


def decide(limited: Sequence[Limited], *, marks: Sequence[int], now_us: int) -> Verdict:
    """Return the verdict on one more request, and the marks that it leaves."""
    limits = [each.limit for each in limited]
    moved = [
        max(mark, now_us) + limit.interval_us for limit, mark in zip(limits, marks, strict=True)
    ]
    waits = [after - now_us - limit.window_us for limit, after in zip(limits, moved, strict=True)]
    is_allowed = max(waits, default=0) <= 0
    left = tuple(moved if is_allowed else marks)
    return Verdict(
        is_allowed=is_allowed,
        retry_after_us=max(0, *waits) if waits else 0,
        marks=left,
        standings=tuple(
            standing(limit, mark=mark, now_us=now_us)
            for limit, mark in zip(limits, left, strict=True)
        ),
    )


def standing(limit: Limit, *, mark: int, now_us: int) -> Standing:
    """Return what a mark leaves of its limit."""
    ahead = max(0, mark - now_us)
    return Standing(
        limit=limit,
        remaining=(limit.window_us - ahead) // limit.interval_us,
        seconds_to_full=-(-ahead // SECOND_US),
    )
