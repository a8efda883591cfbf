"""Tell what the clock makes of a booking, and what it costs to leave it: pure functions of the row.

The state in effect does not wait for the job that writes it down.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from resources.models import Booking

State = Booking.State
CHECK_IN_EARLY = timedelta(hours=1)
ALL_PERCENT = 100


@dataclass(frozen=True, kw_only=True)
class Due:
    """What the clock has brought about: the state, and the share of the units that is captured.

    `percent` is None where the hold stays as it is; `ended_at` is the boundary's own instant.
    """

    state: str
    percent: int | None
    ended_at: datetime | None
    fee_minor: int = 0


@dataclass(frozen=True, kw_only=True)
class Leaving:
    """What giving the booking up at an instant means; `percent` of its units are captured."""

    is_late: bool
    percent: int
    fee_minor: int


def effective_state(row: Booking, *, at: datetime) -> str:
    """Return the state in effect at the instant."""
    return due(row, at=at).state


def due(row: Booking, *, at: datetime) -> Due:
    """Return what the clock has made of the booking by the instant.

    A held one expires; a confirmed one is captured at its start, or, where its terms ask for a
    check-in, at that; at its end it is completed, or a no-show where nobody checked in.
    """
    if row.state == State.HELD and row.expires_at is not None and row.expires_at <= at:
        return Due(state=State.EXPIRED, percent=0, ended_at=row.expires_at)
    if row.state != State.CONFIRMED:
        return Due(state=row.state, percent=None, ended_at=row.ended_at)
    stayed_away = row.requires_check_in and row.checked_in_at is None
    if at >= row.ends_at:
        if stayed_away:
            return no_show(row, ended_at=row.ends_at)
        return Due(state=State.COMPLETED, percent=ALL_PERCENT, ended_at=row.ends_at)
    if at >= row.starts_at and not stayed_away:
        return Due(state=State.CONFIRMED, percent=ALL_PERCENT, ended_at=None)
    return Due(state=State.CONFIRMED, percent=None, ended_at=None)


def no_show(row: Booking, *, ended_at: datetime) -> Due:
    """Return what staying away means by the booking's terms."""
    return Due(
        state=State.NO_SHOW,
        percent=row.no_show_units_percent,
        ended_at=ended_at,
        fee_minor=row.no_show_fee_minor,
    )


def due_at(row: Booking) -> datetime | None:
    """Return the next instant at which the clock moves the booking; None for a final one."""
    if row.state == State.HELD:
        return row.expires_at
    if row.state != State.CONFIRMED:
        return None
    waits_for_check_in = row.requires_check_in and row.checked_in_at is None
    return row.ends_at if row.captured_at is not None or waits_for_check_in else row.starts_at


def leaving(row: Booking, *, at: datetime, is_free: bool = False) -> Leaving:
    """Return what a cancellation at the instant means; `is_free` waives what it costs.

    A booking that only waits to be confirmed is left free.
    """
    if is_free or row.state == State.HELD or at <= row.free_cancel_until:
        return Leaving(is_late=False, percent=0, fee_minor=0)
    return Leaving(is_late=True, percent=row.late_units_percent, fee_minor=row.late_fee_minor)


def can_check_in(row: Booking, *, at: datetime) -> bool:
    """Tell whether the booking takes a check-in at the instant: from an hour before, to its end."""
    return row.state == State.CONFIRMED and row.starts_at - CHECK_IN_EARLY <= at < row.ends_at
