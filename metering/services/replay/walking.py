"""Walk a timeline from its start to each of its queries.

Where no overage waits for units, a stretch without happenings is leapt over: the resets in it are
counted, not walked, and of a source's recurrences only the last one is applied. So a year of
minutes costs hardly more than a year of months.
"""

from datetime import datetime, timedelta
from heapq import heappop, heappush

from core import periods
from metering import burndown
from metering.burndown import State
from metering.services.replay.calendar import Calendar, NumberedPeriod
from metering.services.replay.moments import Moment, moments_of
from metering.services.replay.timelines import Snapshot, Timeline, Usage
from metering.sources import NEVER, Source, Units

INSTANT = timedelta(microseconds=1)
NOTHING = Moment()


def walked(timeline: Timeline) -> list[Snapshot]:
    """Return the state at each query, in order."""
    walk = _Walk(timeline)
    for at, moment in moments_of(timeline, resets=walk.calendar.by_hand):
        walk.go_to(at)
        walk.live(at, moment)
    return [walk.snapshots[number] for number in range(len(timeline.queries))]


class _Walk:
    """The state of one timeline at the instant that was reached."""

    def __init__(self, timeline: Timeline) -> None:
        self.calendar = Calendar(timeline)
        self.snapshots: dict[int, Snapshot] = {}
        self._timeline = timeline
        self._period = self.calendar.period_at(timeline.measure_from)
        self._state = State(period_ends_at=self._period.ends_at)
        self._usage: Units = 0
        self._recurring: list[tuple[datetime, str, int]] = []

    def go_to(self, at: datetime) -> None:
        """Apply the scheduled resets and the recurrences that lie before the instant."""
        while (scheduled_at := self._next_scheduled_at()) < at:
            if self._state.overage and self._has_inflow(at=scheduled_at):
                self.live(scheduled_at, NOTHING)
            else:
                self._leap(before=at)

    def live(self, at: datetime, moment: Moment) -> None:
        """Let happen at an instant what belongs there, from the returns to the usage."""
        for usage, units in moment.returns:
            self._give_back(usage, at=at, units=units)
        if at == self._period.ends_at or at in self.calendar.by_hand:
            self._open(self.calendar.period_at(at), at=at)
        for source, units in moment.amounts:
            self._set_amount(source, at=at, units=units)
        burndown.cover(self._state, at=at)
        self._recur(at=at)
        for source in moment.begins:
            self._begin(source, at=at)
        burndown.cover(self._state, at=at)
        for number in moment.queries:
            self.snapshots[number] = self._snapshot(at=at)
        for number, usage in moment.usage:
            self._use(usage, number=number)

    def _next_scheduled_at(self) -> datetime:
        recurs_at = self._recurring[0][0] if self._recurring else NEVER
        return min(recurs_at, self._period.ends_at or NEVER)

    def _has_inflow(self, *, at: datetime) -> bool:
        """Tell whether a reset or recurrence may bring units, which overage would burn at once."""
        return any(
            each.refills or each.recurrence or each.rollover_min
            for each in self._state.sources.values()
            if each.is_active(at)
        )

    def _leap(self, *, before: datetime) -> None:
        last = []
        while self._recurring and self._recurring[0][0] < before:
            _, source_id, _ = heappop(self._recurring)
            recurrence = self._state.sources[source_id].recurrence
            if recurrence and self._state.sources[source_id].is_active(before):
                index = periods.index_at(recurrence, at=before - INSTANT)
                last.append((periods.boundary(recurrence, index=index), source_id, index))
        for at, source_id, index in sorted(last):
            self._reset_through(at)
            burndown.recur(self._state, source_id=source_id, at=at)
            self._schedule(self._state.sources[source_id], index=index + 1)
        self._reset_through(before - INSTANT)

    def _reset_through(self, at: datetime) -> None:
        """Apply the scheduled resets up to an instant, itself included."""
        if self._period.ends_at is not None and self._period.ends_at <= at:
            period = self.calendar.period_at(at)
            self._open(period, at=period.starts_at, times=period.number - self._period.number)

    def _open(self, period: NumberedPeriod, *, at: datetime, times: int = 1) -> None:
        self._period = period
        self._usage = 0
        burndown.reset(
            self._state,
            at=at,
            period_ends_at=period.ends_at,
            preserve_overage=self.calendar.preserves_at(at),
            times=times,
        )

    def _set_amount(self, source: Source, *, at: datetime, units: Units) -> None:
        if source.id in self._state.sources:
            burndown.set_amount(self._state, source_id=source.id, at=at, amount=units)
        else:
            source.amount = units

    def _begin(self, source: Source, *, at: datetime) -> None:
        burndown.begin(self._state, source)
        if source.recurrence is not None:
            self._schedule(source, index=periods.index_at(source.recurrence, at=at) + 1)

    def _recur(self, *, at: datetime) -> None:
        while self._recurring and self._recurring[0][0] == at:
            _, source_id, index = heappop(self._recurring)
            source = self._state.sources[source_id]
            if source.is_active(at):
                burndown.recur(self._state, source_id=source_id, at=at)
                self._schedule(source, index=index + 1)

    def _schedule(self, source: Source, *, index: int) -> None:
        if source.recurrence is not None:
            at = periods.boundary(source.recurrence, index=index)
            heappush(self._recurring, (at, source.id, index))

    def _use(self, usage: Usage, *, number: int) -> None:
        units = usage.units_at(usage.at)
        self._usage += units
        burndown.use(self._state, item_id=usage.id, at=usage.at, units=units, order=number)

    def _give_back(self, usage: Usage, *, at: datetime, units: Units) -> None:
        if usage.at >= self._period.starts_at:
            self._usage -= units
        burndown.give_back(self._state, item_id=usage.id, at=at, units=units)

    def _snapshot(self, *, at: datetime) -> Snapshot:
        return Snapshot(
            at=at,
            balances=burndown.balances(self._state, at=at),
            overage=self._state.overage,
            usage_in_period=self._usage,
            grant_used_in_period=self._state.grant_used,
            period=self._period,
            is_soft_limit=self._timeline.is_soft_limit,
        )
