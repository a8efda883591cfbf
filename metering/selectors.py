"""Read what a customer may use and has used; nothing here writes or locks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from core import clock as clocks
from core.models import Customer
from metering import decision, derivation
from metering.derivation import Derived, InForce
from metering.models import Balance, UsageEntry
from subscriptions import selectors as subscription_selectors
from subscriptions.models import Feature
from subscriptions.selectors import CustomerFacts, FeatureFacts


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One metered feature at an instant: what is derived, and what is counted in its period."""

    feature: FeatureFacts
    derived: Derived
    used_units: int
    held_units: int

    def as_balance(self) -> Balance:
        """Return the figures that consuming would decide from; the row is not stored."""
        return Balance(
            feature_id=self.feature.id,
            mode=self.derived.mode,
            limit_units=self.derived.limit_units,
            overage_cap_units=self.derived.overage_cap_units,
            used_units=self.used_units,
            held_units=self.held_units,
            denial_code=self.derived.denial_code,
        )

    @property
    def remaining_units(self) -> int | None:
        """Return what may still be used below the limit; None where it is unlimited."""
        if self.derived.denial_code:
            return 0
        return decision.remaining_units(
            limit_units=self.derived.limit_units,
            used_units=self.used_units,
            held_units=self.held_units,
        )

    @property
    def is_over_limit(self) -> bool:
        """Tell whether more is counted than the limit covers."""
        limit = self.derived.limit_units
        return limit is not None and self.used_units + self.held_units > limit

    @property
    def resets_at(self) -> datetime | None:
        """Return the end of the usage period; None where it never resets."""
        return self.derived.period.ends_at if self.derived.period else None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """All that is in force for a customer at an instant, by plan group and feature key."""

    customer: Customer
    at: datetime
    groups: Mapping[int, InForce]
    standings: Mapping[str, Standing]

    @property
    def next_change_at(self) -> datetime | None:
        """Return the next instant at which any of it may change by itself."""
        changes = [
            *(group.next_change_at for group in self.groups.values()),
            *(standing.derived.next_change_at for standing in self.standings.values()),
        ]
        return min((change for change in changes if change is not None), default=None)


def get_overview(*, customer: Customer, clock: clocks.Clock) -> Overview:
    """Return what is in force for the customer now, in three statements; it decides nothing."""
    facts = subscription_selectors.get_customer_facts(customer=customer)
    rows = list(Balance.objects.filter(customer=customer).open_after(clock.now()))
    return overview_of(facts, rows=rows, at=clock.now())


def get_entitlements(*, customer: Customer, clock: clocks.Clock) -> Overview:
    """Return what is in force for the customer now, without counters, in two statements."""
    facts = subscription_selectors.get_customer_facts(customer=customer)
    return overview_of(facts, rows=(), at=clock.now())


def overview_of(facts: CustomerFacts, *, rows: Iterable[Balance], at: datetime) -> Overview:
    """Return what the facts and the rows say at the instant; pure."""
    group_ids = {row.plan_group_id for row in facts.subscriptions}
    group_ids |= {version.plan_group_id for version in facts.default_versions}
    groups = {
        group_id: derivation.in_force(facts, plan_group_id=group_id, at=at)
        for group_id in sorted(group_ids)
    }
    counted = {(row.feature_id, row.period_starts_at, row.generation): row for row in rows}
    standings: dict[str, Standing] = {}
    for group in groups.values():
        granted = group.version.entitlements.values() if group.version else ()
        for entitlement in sorted(granted, key=lambda each: each.feature_key):
            if entitlement.feature_type == Feature.Type.METERED:
                feature = FeatureFacts(
                    id=entitlement.feature_id,
                    key=entitlement.feature_key,
                    type=entitlement.feature_type,
                    plan_group_id=group.plan_group_id,
                )
                standings[feature.key] = _standing(group, feature, counted, at)
    return Overview(customer=facts.customer, at=at, groups=groups, standings=standings)


def _standing(
    group: InForce,
    feature: FeatureFacts,
    counted: Mapping[tuple[int, datetime, int], Balance],
    at: datetime,
) -> Standing:
    derived = derivation.derive_within(group, feature_key=feature.key, at=at)
    row: Balance | None = None
    if derived.period is not None:
        own = [
            each
            for (feature_id, starts_at, _), each in counted.items()
            if feature_id == feature.id and starts_at == derived.period.starts_at
        ]
        row = max(own, key=lambda each: each.generation, default=None)
    return Standing(
        feature=feature,
        derived=derived,
        used_units=row.used_units if row else 0,
        held_units=row.held_units if row else 0,
    )


def standing_of(overview: Overview, *, feature: FeatureFacts) -> Standing:
    """Return the standing of a feature, also of one that no plan in force grants."""
    known = overview.standings.get(feature.key)
    if known is not None:
        return known
    return _standing(_governing(overview, feature), feature, {}, overview.at)


def _governing(overview: Overview, feature: FeatureFacts) -> InForce:
    """Return the plan group that grants the feature, or that would have to."""
    for group in overview.groups.values():
        if group.version is not None and feature.key in group.version.entitlements:
            return group
    own = overview.groups.get(feature.plan_group_id or 0)
    if own is not None:
        return own
    if feature.plan_group_id is None and overview.groups:
        return next(iter(overview.groups.values()))
    return derivation.nothing_in_force(
        customer=overview.customer, plan_group_id=feature.plan_group_id
    )


def list_entries(*, customer: Customer, feature_key: str | None) -> QuerySet[UsageEntry]:
    """Return the customer's ledger, of one feature where its key is given."""
    entries = UsageEntry.objects.filter(customer=customer).select_related("feature")
    return entries.filter(feature__key=feature_key) if feature_key else entries
