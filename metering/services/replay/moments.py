"""Sort what a timeline gives by the instants at which it happens."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from metering.services.replay.timelines import Timeline, Usage
from metering.sources import Source, Units


@dataclass(kw_only=True, slots=True)
class Moment:
    """What the timeline gives for one instant, in the order in which it happens.

    A reset comes between returns and amounts, recurrences come with the sources that begin.
    `usage` carries the place of each item among all.
    """

    returns: list[tuple[Usage, Units]] = field(default_factory=list)
    amounts: list[tuple[Source, Units]] = field(default_factory=list)
    begins: list[Source] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)
    usage: list[tuple[int, Usage]] = field(default_factory=list)


def moments_of(timeline: Timeline, *, resets: Iterable[datetime]) -> list[tuple[datetime, Moment]]:
    """Return what happens from `measure_from` to the last query, by instant, the oldest first.

    The sources are copies; one of an instant comes where the burn order or its id puts it, so that
    the order of the timeline's lists does not matter.
    """
    found: defaultdict[datetime, Moment] = defaultdict(Moment)
    found.update((at, Moment()) for at in resets)
    for number, at in enumerate(timeline.queries):
        found[at].queries.append(number)
    _add_grants(found, timeline)
    _add_usage(found, timeline)
    start, end = timeline.measure_from, max(timeline.queries, default=timeline.measure_from)
    within = ((at, moment) for at, moment in found.items() if start <= at <= end)
    return sorted(within, key=lambda pair: pair[0])


def _add_grants(found: defaultdict[datetime, Moment], timeline: Timeline) -> None:
    grants = sorted(timeline.grants, key=lambda each: each.source.burn_key(period_ends_at=None))
    for grant in grants:
        source = replace(grant.source)
        begins_at = max(source.effective_at, timeline.measure_from)
        if source.is_active(begins_at):
            found[begins_at].begins.append(source)
        for amount in sorted(grant.amounts, key=lambda each: each.at):
            found[max(amount.at, timeline.measure_from)].amounts.append((source, amount.units))


def _add_usage(found: defaultdict[datetime, Moment], timeline: Timeline) -> None:
    counted = [each for each in timeline.usage if each.at >= timeline.measure_from]
    counted.sort(key=lambda each: (each.at, each.id))
    for number, usage in enumerate(counted):
        found[usage.at].usage.append((number, usage))
        for given_back in usage.returns:
            if given_back.at > usage.at:
                found[given_back.at].returns.append((usage, given_back.units))
