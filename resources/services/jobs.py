"""Do what is due for bookings: the worker's kinds of work, and one run of them by hand."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from resources import selectors
from resources.models import Booking, WaitlistEntry
from resources.services import closures, settling, waiting

FREEING = {Booking.State.EXPIRED, Booking.State.NO_SHOW}


class SettleJob:
    """Capture started bookings and end what has ended; offer what lapses to who waits."""

    name = "bookings"

    def list_due(self, *, at: datetime, limit: int, excluded: Collection[str]) -> list[str]:
        """Return the ids of bookings that the clock has moved, the longest due first."""
        due = selectors.list_due(at=at).exclude(pk__in=[UUID(key) for key in excluded])
        return [str(each) for each in due.values_list("pk", flat=True)[:limit]]

    def work(self, *, key: str, clock: clocks.Clock) -> bool:
        """Settle one booking."""
        row = settling.settle(booking_id=UUID(key), clock=clock)
        if row is not None and row.state in FREEING:
            waiting.offer_freed(row=row, clock=clock)
        return row is not None


class ClosureJob:
    """Cancel what closures were told to cancel, after a crash between their commits."""

    name = "closures"

    def list_due(self, *, at: datetime, limit: int, excluded: Collection[str]) -> list[str]:  # noqa: ARG002 - they are due at once
        """Return the ids of closures that are not finished."""
        found = selectors.list_pending_closures().exclude(pk__in=[UUID(key) for key in excluded])
        return [str(each) for each in found.values_list("pk", flat=True)[:limit]]

    def work(self, *, key: str, clock: clocks.Clock) -> bool:
        """Finish one closure."""
        return bool(closures.finish(closure_id=UUID(key), clock=clock))


class WaitlistJob:
    """End what waited past its start."""

    name = "waiting list"

    def list_due(self, *, at: datetime, limit: int, excluded: Collection[str]) -> list[str]:
        """Return the ids of entries whose start has passed."""
        due = WaitlistEntry.objects.filter(
            state=WaitlistEntry.State.WAITING, starts_at__lte=at
        ).exclude(pk__in=[UUID(key) for key in excluded])
        return [
            str(each) for each in due.order_by("starts_at").values_list("pk", flat=True)[:limit]
        ]

    def work(self, *, key: str, clock: clocks.Clock) -> bool:
        """End one entry."""
        return waiting.end_past(entry_id=UUID(key), clock=clock)


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a run came to: bookings moved by state, cancelled under closures, offers made."""

    settled: dict[str, int] = field(default_factory=dict)
    closed: int = 0
    offered: int = 0


def run_due(*, clock: clocks.Clock, limit: int = settling.BATCH_MAX) -> Done:
    """Settle due bookings, at most `limit`, finish closures, and offer what has fallen free."""
    settled = settling.settle_due(clock=clock, limit=limit)
    closed = [
        closures.finish(closure_id=closure.pk, clock=clock)
        for closure in selectors.list_pending_closures()[:limit]
    ]
    past = WaitlistJob()
    for key in past.list_due(at=clock.now(), limit=limit, excluded=()):
        past.work(key=key, clock=clock)
    return Done(
        settled=settled.by_state,
        closed=sum(len(bookings) for bookings in closed),
        offered=len(waiting.offer_waiting(clock=clock)),
    )
