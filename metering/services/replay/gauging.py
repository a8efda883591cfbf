"""Tell the states of a gauge: its newest value burns the amounts in force, at every instant anew.

Nothing is carried: neither a recurrence nor a reset changes what a gauge leaves of its grants.
"""

from bisect import bisect_left
from dataclasses import replace
from datetime import datetime

from metering import burndown
from metering.burndown import State
from metering.services.replay.calendar import Calendar
from metering.services.replay.timelines import Grant, Snapshot, Timeline
from metering.sources import Source, Units


def gauged(timeline: Timeline) -> list[Snapshot]:
    """Return the state at each query, in order."""
    calendar = Calendar(timeline)
    values = [each for each in timeline.usage if each.at >= timeline.measure_from]
    values.sort(key=lambda each: (each.at, each.id))
    instants = [each.at for each in values]
    found = []
    for at in timeline.queries:
        place = bisect_left(instants, at)
        units = values[place - 1].units_at(at) if place else 0
        found.append(_snapshot(timeline, calendar, at=at, units=units))
    return found


def _snapshot(timeline: Timeline, calendar: Calendar, *, at: datetime, units: Units) -> Snapshot:
    period = calendar.period_at(at)
    state = State(period_ends_at=period.ends_at)
    for source in sorted(
        (_in_force(grant, at=at) for grant in timeline.grants if grant.source.is_active(at)),
        key=lambda each: each.burn_key(period_ends_at=period.ends_at),
    ):
        burndown.begin(state, source)
    burndown.use(state, item_id="gauge", at=at, units=units)
    return Snapshot(
        at=at,
        balances=burndown.balances(state, at=at),
        overage=state.overage,
        usage_in_period=units,
        grant_used_in_period=state.grant_used,
        period=period,
        is_soft_limit=timeline.is_soft_limit,
    )


def _in_force(grant: Grant, *, at: datetime) -> Source:
    past = [each for each in grant.amounts if each.at <= at]
    latest = max(past, key=lambda each: each.at, default=None)
    return replace(grant.source, amount=latest.units if latest else grant.source.amount)
