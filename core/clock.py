"""Tell the time: the database's, carried by this process's monotonic clock.

Hosts agree because they ask the same database, and a jump of a host's clock decides nothing.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from django.db import connection
from django.utils import timezone

RESYNC_SECONDS = 60.0
SAME_INSTANT = timedelta(milliseconds=1)


def rfc3339(instant: datetime) -> str:
    """Return an instant as it stands in JSON: RFC 3339 in UTC, ending in Z."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Clock(Protocol):
    """Tell the current instant as an aware datetime in UTC."""

    def now(self) -> datetime:
        """Return the current instant."""
        ...


@dataclass(frozen=True, kw_only=True)
class FixedClock:
    """Stand still at one instant."""

    at: datetime

    def now(self) -> datetime:
        """Return the instant."""
        return self.at


class DatabaseClock:
    """Carry the database's clock by the monotonic one, asked again every 60 seconds.

    The answer is taken before the question's return is counted, so that the clock is never
    ahead of the database by the time that the question took.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._synced_at: datetime | None = None
        self._synced_monotonic = 0.0

    def now(self) -> datetime:
        """Return the current instant, at least as late as any earlier answer."""
        with self._lock:
            elapsed = time.monotonic() - self._synced_monotonic
            if self._synced_at is None or elapsed >= RESYNC_SECONDS:
                previous = None
                if self._synced_at is not None:
                    previous = self._synced_at + timedelta(seconds=elapsed)
                self._synchronise(not_before=previous)
                elapsed = time.monotonic() - self._synced_monotonic
            if self._synced_at is None:
                msg = "the clock is not synchronised"
                raise RuntimeError(msg)
            return self._synced_at + timedelta(seconds=elapsed)

    def _synchronise(self, *, not_before: datetime | None) -> None:
        asked = _database_now()
        self._synced_at = asked if not_before is None else max(asked, not_before)
        self._synced_monotonic = time.monotonic()


def host_now() -> datetime:
    """Return this host's own clock, to compare it with the database's; it decides nothing."""
    return timezone.now()


def _database_now() -> datetime:
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        answer: datetime = cursor.fetchone()[0]
    return answer.astimezone(UTC)


class TimedCustomer(Protocol):
    """The columns of a customer that decide what time it is for him."""

    test_clock_at: datetime | None
    revised_at: datetime | None


def customer_clock(customer: TimedCustomer, *, clock: Clock) -> Clock:
    """Return the customer's own clock where he has a test clock, else the clock given.

    Where the caller decides, the customer's row is locked.
    """
    if customer.test_clock_at is None:
        return clock
    return FixedClock(at=customer.test_clock_at)


def instant_of(customer: TimedCustomer, *, clock: Clock) -> datetime:
    """Return what time it is for a locked customer, never before he was last revised.

    Revisions of one instant stand microseconds apart, which is not later.
    """
    now = customer_clock(customer, clock=clock).now()
    if customer.test_clock_at is not None:
        return now
    if customer.revised_at is None or customer.revised_at - now < SAME_INSTANT:
        return now
    return customer.revised_at


_process_clock: Clock = DatabaseClock()


def process_clock() -> Clock:
    """Return the clock that the edges hand to operations."""
    return _process_clock


@contextmanager
def overridden(clock: Clock) -> Iterator[None]:
    """Let the edges hand out another clock inside the block; for tests and simulations."""
    global _process_clock  # noqa: PLW0603 - one clock per process is the point
    before, _process_clock = _process_clock, clock
    try:
        yield
    finally:
        _process_clock = before
