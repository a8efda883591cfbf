"""Tell what the usage policies of past changes of plan did at one place; reads alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from core.models import Customer
from core.periods import Period
from metering import derivation
from metering.models import Balance, Hold, UsageEntry
from metering.services import prorating
from subscriptions import planning
from subscriptions.facts import FeatureFacts
from subscriptions.selectors import History, UsageChange

INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What one change did: it opened a generation, or moved the allowance by units of a period.

    `period` is the usage period in which it did; `carries` says that what was left was kept,
    `holds` are the open ones that moved to the new generation.
    """

    at: datetime
    period: Period
    opens: bool
    carries: bool = False
    moved_units: int = 0
    holds: Sequence[Hold] = ()

    def moved(self, hold: Hold) -> bool:
        """Tell whether a hold moved to the generation that this opened."""
        return self.opens and hold.lived_at(self.at) and self.period.contains(hold.usage_at)


@dataclass(frozen=True, kw_only=True)
class Policies:
    """All that was followed at the place, oldest first, and the generation of each balance."""

    followed: tuple[Followed, ...] = ()
    generations: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))

    def in_period(self, starts_at: datetime) -> list[Followed]:
        """Return what was followed in one usage period."""
        return [each for each in self.followed if each.period.starts_at == starts_at]

    def moving(self, holds: Sequence[Hold]) -> list[Followed]:
        """Return what was followed, with those of the holds that moved."""
        return [
            replace(each, holds=[hold for hold in holds if each.moved(hold)])
            for each in self.followed
        ]

    def counted_in(self, lines: Iterable[UsageEntry], *, starts_at: datetime) -> list[UsageEntry]:
        """Return the lines of the period's last generation."""
        opened = sum(each.opens for each in self.in_period(starts_at))
        return [
            line
            for line in lines
            if line.period_starts_at == starts_at
            and self.generations.get(line.balance_id or 0, 0) == opened
        ]

    def opened_at(self, starts_at: datetime) -> datetime | None:
        """Return when the period's last generation was opened; None where it is the first."""
        return max((each.at for each in self.in_period(starts_at) if each.opens), default=None)


NOTHING = Policies()


def list_policies(
    history: History, *, customer: Customer, feature: FeatureFacts, scope: str, until: datetime
) -> Policies:
    """Return what usage policies did at the place up to an instant, in one statement at most.

    A policy was followed where a balance stood at the place. One that stood stayed: the newest
    changes of a period made its generations.
    """
    changes = [
        each for each in history.usage_changes if each.after.plan_group_id == feature.plan_group_id
    ]
    if not changes:
        return NOTHING
    rows = list(
        Balance.objects.filter(customer=customer, feature=feature.id, scope=scope).order_by(
            "generation"
        )
    )
    found: list[Followed] = []
    left = {row.period_starts_at: row.generation for row in rows}
    withheld = {row.period_starts_at for row in rows if row.withheld_units}
    for each in reversed(changes):
        period = _period_at(history, feature, scope=scope, at=each.at)
        if period is None:
            continue
        starts_at = period.starts_at
        if each.policy == planning.PRORATE_LIMIT:
            if not feature.is_allocated and (not scope or starts_at in withheld):
                moved = _moved_units(history, feature, each)
                found.append(Followed(at=each.at, period=period, opens=False, moved_units=moved))
        elif left.get(starts_at):
            left[starts_at] -= 1
            carries = each.policy == planning.CARRY_BALANCE
            found.append(Followed(at=each.at, period=period, opens=True, carries=carries))
    return Policies(
        followed=tuple(each for each in reversed(found) if each.at <= until),
        generations={row.pk: row.generation for row in rows},
    )


def retraced_from(
    policies: Policies,
    *,
    history: History,
    feature: FeatureFacts,
    scope: str,
    starts_at: datetime,
) -> datetime | None:
    """Return from where a period must be retraced; None where nothing was followed in it.

    Where a change opened the period itself, what was left of the one before it counts.
    """
    since: datetime | None = None
    while followed := policies.in_period(starts_at):
        since = starts_at
        before = followed[0].at - INSTANT
        former = _period_at(history, feature, scope=scope, at=before)
        if former is None or former.starts_at >= starts_at:
            break
        since = starts_at = former.starts_at
    return since


def _period_at(
    history: History, feature: FeatureFacts, *, scope: str, at: datetime
) -> Period | None:
    return derivation.derive(
        history.facts_at(at), feature=feature, at=at, scope=scope, has_grants=True
    ).period


def _moved_units(history: History, feature: FeatureFacts, change: UsageChange) -> int:
    """Return by how many units of a whole period the change moved the allowance."""
    units = 0
    for row, sign in ((change.before, -1), (change.after, 1)):
        terms = history.facts.versions[row.plan_version_id].entitlements.get(feature.key)
        if terms is not None:
            units += sign * prorating.units_of(terms, quantity=row.quantity)
    return units
