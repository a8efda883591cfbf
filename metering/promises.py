"""Keep for periods to come what their holds will need of the grants; pure.

The allowance of a period to come is its own, but a grant lasts over many: units that a hold of a
later period needs of it must not be used before. What is used now, or held for any period, is
tried against all promises in the order of their usage, each in the period that will count it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from core import periods
from metering import burndown, derivation, grants
from metering.burndown import Source, State
from metering.derivation import Derived
from metering.models import Grant, Hold
from metering.position import ALLOWANCE, allowance_source
from subscriptions.facts import CustomerFacts, FeatureFacts

TRIED: Final = "tried"


@dataclass(frozen=True, order=True, kw_only=True)
class Promise:
    """Units that are held, or captured early, for an instant of a period to come."""

    usage_at: datetime
    units: int


def promises_of(holds: Iterable[Hold]) -> list[Promise]:
    """Return what the holds promise that wait for their period."""
    return [
        Promise(usage_at=each.usage_at, units=each.counted_units)
        for each in holds
        if each.is_provisional
    ]


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What will stand at a place by the facts of an instant: its grants, and what is promised."""

    facts: CustomerFacts
    feature: FeatureFacts
    grants: Sequence[Grant]
    promises: Sequence[Promise]

    def kept_now(self, state: State, *, at: datetime, starts_at: datetime) -> int:
        """Return how many of the units that are left now, from 0 on, are kept for later periods.

        `starts_at` is that of the period whose allowance the state has.
        """
        left = int(burndown.balance(state, at=at))
        if not self.promises:
            return 0
        now = _Stage(
            sources=state.sources, at=at, starts_at=starts_at, ends_at=state.period_ends_at
        )
        return self._kept(left, now=now, used_at=None)

    def granted_units(
        self, sources: Mapping[str, Source], *, at: datetime, usage_at: datetime, own_units: int
    ) -> int:
        """Return what grants give to the period of another instant, beside what is promised.

        `own_units` of that period's allowance are not counted yet, below 0 where grants cover some.
        """
        given = {each.pk: grants.source_of(each) for each in self.grants}
        known = {str(key): each for key, each in given.items()} | dict(sources)
        known.pop(ALLOWANCE, None)
        active = sum(int(each.balance) for each in known.values() if each.is_active(usage_at))
        left = max(own_units + active, 0)
        if not (self.promises and at < usage_at):
            return active
        return active - self._kept(left, now=_Stage(sources=known, at=at), used_at=usage_at)

    def _kept(self, left: int, *, now: "_Stage", used_at: datetime | None) -> int:
        """Return by how much all that is left is too much: a unit less frees one at most."""
        lost_anyway = self._missing(0, now=now, used_at=used_at)
        free = left
        while free > 0:
            short = self._missing(free, now=now, used_at=used_at) - lost_anyway
            if short <= 0:
                break
            free = max(free - short, 0)
        return max(left - free, 0)

    def _missing(self, units: int, *, now: "_Stage", used_at: datetime | None) -> int:
        """Return how many units nothing covers, where so many more are used now or then."""
        stage, missing, asked = now.copied(), 0, list(self.promises)
        if used_at is None:
            stage.use(units)
        else:
            asked.append(Promise(usage_at=used_at, units=units))
        for each in sorted(asked):
            derived = derivation.derive(
                self.facts,
                feature=self.feature,
                at=each.usage_at,
                has_grants=any(
                    not grants.is_over(grant, at=each.usage_at) for grant in self.grants
                ),
            )
            stage.move(derived, given=self.grants, at=each.usage_at)
            if derived.period is not None and derived.allowance_units is not None:
                missing += stage.use(each.units)
        return missing


@dataclass(kw_only=True)
class _Stage:
    """The sources at an instant on the way, and the period whose allowance is among them."""

    sources: Mapping[str, Source]
    at: datetime
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    def copied(self) -> "_Stage":
        return replace(self, sources={key: replace(each) for key, each in self.sources.items()})

    def use(self, units: int) -> int:
        """Use units now; return how many are not covered."""
        state = State(sources=dict(self.sources), period_ends_at=self.ends_at)
        return int(burndown.use(state, item_id=TRIED, at=self.at, units=units).overage)

    def move(self, derived: Derived, *, given: Sequence[Grant], at: datetime) -> None:
        """Go on to a later instant: grants begin and recur, and a new period has its allowance."""
        sources = dict(self.sources)
        for grant in given:
            source = sources.setdefault(str(grant.pk), grants.source_of(grant))
            recurrence = grants.recurrence_of(grant)
            if recurrence is not None and source.is_active(at):
                begun_at = periods.period_at(recurrence, at=at).starts_at
                if max(self.at, source.effective_at) < begun_at:
                    source.balance = source.amount
        if derived.period is not None and derived.period.starts_at != self.starts_at:
            for source in sources.values():
                if source.id != ALLOWANCE:
                    source.balance = source.balance_after(resets=1)
            sources[ALLOWANCE] = allowance_source(derived)
            self.starts_at, self.ends_at = derived.period.starts_at, derived.period.ends_at
        self.sources, self.at = sources, at
