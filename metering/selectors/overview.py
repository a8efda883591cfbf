"""Read what a customer may use and has used; nothing here writes, locks or decides."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from core import clock as clocks
from core.models import Customer
from metering import decision, derivation, projection
from metering.decision import Place
from metering.derivation import Derived, InForce
from metering.models import Balance, Grant, Hold
from metering.position import ceiling_of
from metering.selectors import positions
from metering.selectors.reading import Reading
from subscriptions import selectors as subscription_selectors
from subscriptions.effective import Effective
from subscriptions.facts import CustomerFacts, FeatureFacts
from subscriptions.models import Feature


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One metered feature at an instant: what is derived, and the balance as it stands.

    `balance` is not stored where nothing was counted yet; None where the customer has none of
    the feature.
    """

    feature: FeatureFacts
    derived: Derived
    balance: Balance | None

    @property
    def used_units(self) -> int:
        """Return what is used in the period."""
        return self.balance.used_units if self.balance else 0

    @property
    def held_units(self) -> int:
        """Return what is held in the period."""
        return self.balance.held_units if self.balance else 0

    @property
    def limit_units(self) -> int | None:
        """Return what may be counted in the period; None where it is unlimited."""
        return self.balance.limit_units if self.balance else 0

    @property
    def denial_code(self) -> str:
        """Return why nothing may be used; empty where it may."""
        return self.derived.denial_code

    @property
    def remaining_units(self) -> int | None:
        """Return what may still be used below the limit; None where it is unlimited."""
        if self.denial_code or self.balance is None:
            return 0
        return decision.remaining_units(
            limit_units=self.limit_units, counted_units=self.balance.counted_units
        )

    @property
    def is_over_limit(self) -> bool:
        """Tell whether more is counted than the limit covers."""
        return self.balance is not None and self.balance.overage_units > 0

    @property
    def resets_at(self) -> datetime | None:
        """Return the end of the usage period; None where it never resets."""
        return self.derived.period.ends_at if self.derived.period else None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """All that is in force for a customer at an instant, by plan group and feature key."""

    facts: CustomerFacts
    at: datetime
    groups: Mapping[int, InForce]
    standings: Mapping[str, Standing]
    others: Mapping[str, Effective] = field(default_factory=dict)

    @property
    def customer(self) -> Customer:
        """Return the customer."""
        return self.facts.customer

    @property
    def moves_at(self) -> datetime | None:
        """Return the next instant at which anything shown may move: a change, a hold that dies."""
        rows = [each.balance for each in self.standings.values() if each.balance is not None]
        instants = [self.next_change_at, *(row.holds_due_at for row in rows)]
        return min((each for each in instants if each is not None), default=None)

    @property
    def next_change_at(self) -> datetime | None:
        """Return the next instant at which any of it may change by itself."""
        changes = [
            *(group.next_change_at for group in self.groups.values()),
            *(standing.derived.next_change_at for standing in self.standings.values()),
            *(other.next_change_at for other in self.others.values()),
        ]
        return min((change for change in changes if change is not None), default=None)


class _Source:
    """Read a customer's rows once, and what moves them only where a row is no longer valid."""

    def __init__(self, facts: CustomerFacts, *, rows: Iterable[Balance], at: datetime) -> None:
        self.facts = facts
        self.at = at
        self.rows = list(rows)
        self._moving: tuple[list[Grant], list[Hold]] | None = None

    def standing(self, governing: InForce, feature: FeatureFacts, *, scope: str = "") -> Standing:
        own = [row for row in self.rows if (row.feature_id, row.scope) == (feature.id, scope)]
        current = next((row for row in own if row.is_current), None)
        if current is not None and self._is_valid(current):
            derived = derivation.derive_within(
                self.facts,
                governing,
                feature=feature,
                at=self.at,
                scope=scope,
                has_grants=not current.is_plain,
            )
            return Standing(feature=feature, derived=derived, balance=current)
        # A grant and a hold always have a row: without one there is nothing to move.
        given, holds = self._read_moving() if own else ([], [])
        position, _ = positions.position_of(
            Place(feature.id, scope),
            feature=feature,
            rows=own,
            given=given,
            holds=holds,
            thresholds=(),
            at=self.at,
        )
        carried = projection.carry(position, facts=self.facts, at=self.at)
        return Standing(feature=feature, derived=carried.derived, balance=carried.row)

    def _is_valid(self, row: Balance) -> bool:
        is_due = row.holds_due_at is not None and row.holds_due_at <= self.at
        return not is_due and (row.valid_until is None or self.at < row.valid_until)

    def _read_moving(self) -> tuple[list[Grant], list[Hold]]:
        if self._moving is None:
            customer = self.facts.customer
            given = list(Grant.objects.filter(customer=customer).order_by("id"))
            holds = Hold.objects.moving(customer_id=customer.pk, feature_ids=None, at=self.at)
            self._moving = (given, list(holds))
        return self._moving


def get_overview(*, customer: Customer, clock: clocks.Clock) -> Overview:
    """Return what is in force for the customer now; it decides nothing.

    Takes four statements where every balance is valid, else a constant number more.
    """
    clock = clocks.customer_clock(customer, clock=clock)
    facts = subscription_selectors.get_customer_facts(customer=customer)
    rows = list(Balance.objects.filter(customer=customer, scope="").open_after(clock.now()))
    return overview_of(facts, rows=rows, at=clock.now())


def overview_from(reading: Reading, *, clock: clocks.Clock) -> Overview:
    """Return what is in force for the customer of a reading now; his facts are read after it."""
    customer = reading.customer
    facts = subscription_selectors.get_customer_facts(customer=customer)
    at = clocks.customer_clock(customer, clock=clock).now()
    return overview_of(facts, rows=reading.balances, at=at)


def overview_of(facts: CustomerFacts, *, rows: Iterable[Balance], at: datetime) -> Overview:
    """Return what the facts and the rows say at the instant."""
    group_ids = {row.plan_group_id for row in facts.subscriptions}
    group_ids |= {version.plan_group_id for version in facts.default_versions}
    groups = {
        group_id: derivation.in_force(facts, plan_group_id=group_id, at=at)
        for group_id in sorted(group_ids)
    }
    source = _Source(facts, rows=rows, at=at)
    features = _features(facts, groups.values(), source.rows)
    standings: dict[str, Standing] = {}
    others: dict[str, Effective] = {}
    for key, feature in sorted(features.items()):
        governing = _governing(groups, feature, customer=facts.customer)
        if feature.type == Feature.Type.METERED:
            standing = source.standing(governing, feature)
            if standing.derived.period is not None:
                standings[key] = standing
        else:
            others[key] = derivation.effective_of(facts, governing, feature=feature, at=at)
    return Overview(facts=facts, at=at, groups=groups, standings=standings, others=others)


def _features(
    facts: CustomerFacts, groups: Iterable[InForce], rows: Iterable[Balance]
) -> dict[str, FeatureFacts]:
    """Return the features that plans in force, additions or balances speak of."""
    ids = {
        each.feature_id
        for group in groups
        if group.version is not None
        for each in group.version.entitlements.values()
    }
    ids |= {each.feature_id for each in facts.additions}
    ids |= {row.feature_id for row in rows if row.is_current and not row.is_plain}
    found = subscription_selectors.features_by_id(ids=ids)
    return {each.key: each for each in found.values()}


def _governing(
    groups: Mapping[int, InForce], feature: FeatureFacts, *, customer: Customer
) -> InForce:
    """Return the plan group that grants the feature, or that would have to."""
    for group in groups.values():
        if group.version is not None and feature.key in group.version.entitlements:
            return group
    own = groups.get(feature.plan_group_id or 0)
    if own is not None:
        return own
    if feature.plan_group_id is None and groups:
        return next(iter(groups.values()))
    return derivation.nothing_in_force(customer=customer, plan_group_id=feature.plan_group_id)


def standing_of(
    overview: Overview, *, feature: FeatureFacts, scope: str = "", rows: Iterable[Balance] = ()
) -> Standing:
    """Return the standing of a feature, also of one that nothing in force grants.

    `rows` are those of a member or entity where `scope` names one.
    """
    known = overview.standings.get(feature.key)
    if known is not None and not scope:
        return known
    governing = _governing(overview.groups, feature, customer=overview.customer)
    if feature.type != Feature.Type.METERED:
        derived = derivation.derive_within(
            overview.facts, governing, feature=feature, at=overview.at
        )
        return Standing(feature=feature, derived=derived, balance=None)
    source = _Source(overview.facts, rows=rows, at=overview.at)
    return source.standing(governing, feature, scope=scope)


def would_be(standing: Standing) -> Balance | None:
    """Return the balance that consuming would decide from, with its denial."""
    row = standing.balance
    if row is None:
        return None
    row.denial_code = standing.denial_code
    row.ceiling_units = ceiling_of(row)
    return row


def governing_of(overview: Overview, *, feature: FeatureFacts) -> InForce:
    """Return the state of the plan group that grants the feature, or would have to."""
    return _governing(overview.groups, feature, customer=overview.customer)
