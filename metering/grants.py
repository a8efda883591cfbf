"""Read a stored grant as a source of the burn-down; pure."""

from datetime import datetime

from core import periods
from core.periods import Interval, Recurrence
from metering.models import Grant
from metering.sources import Source


def source_of(grant: Grant) -> Source:
    """Return a grant as the engine knows it."""
    return Source(
        id=str(grant.pk),
        amount=grant.units,
        priority=grant.priority,
        category="promotional" if grant.category == Grant.Category.PROMOTIONAL else "paid",
        effective_at=grant.effective_at,
        expires_at=grant.expires_at,
        voided_at=grant.voided_at,
        created_at=grant.created_at,
        rollover_min=grant.rollover_min_units,
        rollover_max=grant.rollover_max_units,
        recurrence=recurrence_of(grant),
        balance=grant.remaining_units,
        epoch=grant.epoch,
    )


def recurrence_of(grant: Grant) -> Recurrence | None:
    """Return when the grant refills; None for one that does not."""
    if not grant.recurrence_interval or grant.recurrence_anchor_at is None:
        return None
    return Recurrence(
        anchor=grant.recurrence_anchor_at,
        time_zone="UTC",
        interval=Interval(grant.recurrence_interval),
        count=grant.recurrence_count,
    )


def recurs_at(grant: Grant, *, at: datetime) -> bool:
    """Tell whether the grant refills at this very instant."""
    recurrence = recurrence_of(grant)
    return recurrence is not None and periods.period_at(recurrence, at=at).starts_at == at


def next_change_at(grant: Grant, *, at: datetime) -> datetime | None:
    """Return the next instant after this one at which the grant begins, refills or ends."""
    end = ends_at(grant)
    changes = [grant.effective_at, end]
    recurrence = recurrence_of(grant)
    if recurrence is not None and (end is None or at < end):
        changes.append(periods.period_at(recurrence, at=at).ends_at)
    return min((each for each in changes if each is not None and each > at), default=None)


def ends_at(grant: Grant) -> datetime | None:
    """Return when the grant ends; None for one that does not."""
    ends = [each for each in (grant.expires_at, grant.voided_at) if each is not None]
    return min(ends, default=None)


def is_over(grant: Grant, *, at: datetime) -> bool:
    """Tell whether the grant has ended by the instant, and never gives units again."""
    end = ends_at(grant)
    return end is not None and end <= at
