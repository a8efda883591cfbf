"""Put together what stands at one place: rows, grants, items and holds; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from core.models import Customer
from metering import burndown, grants
from metering.burndown import Item, Source, State
from metering.derivation import Derived
from metering.models import AlertThreshold, Balance, Grant, Hold
from subscriptions.facts import CustomerFacts, FeatureFacts
from subscriptions.models import Entitlement

ALLOWANCE: Final = "allowance"
EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(kw_only=True)
class Position:
    """All that stands at one place: its open rows, grants, and what may move by itself.

    `items` are those whose overage stands or whose holds are due; `holds` are the live ones
    that are due or provisional.
    """

    feature: FeatureFacts
    scope: str = ""
    rows: Sequence[Balance] = ()
    grants: Sequence[Grant] = ()
    items: Sequence[Item] = ()
    holds: Sequence[Hold] = ()
    thresholds: Sequence[AlertThreshold] = ()

    @property
    def current(self) -> Balance | None:
        """Return the row that decides."""
        return next((row for row in self.rows if row.is_current), None)

    def row_from(self, starts_at: datetime) -> Balance | None:
        """Return the row of a period, of its newest generation."""
        own = [row for row in self.rows if row.period_starts_at == starts_at]
        return max(own, key=lambda row: row.generation, default=None)


@dataclass(kw_only=True)
class Carried:
    """A place at an instant: what is derived, its row, and all that moved on the way.

    `row` may be a new one, `left` are the rows that lost the mark. `state` is None where the
    allowance alone covers. `rolled_units` were carried over into the row's period.
    """

    derived: Derived
    row: Balance | None
    state: State | None = None
    left: list[Balance] = field(default_factory=list)
    expired: list[Hold] = field(default_factory=list)
    opened: list[Hold] = field(default_factory=list)
    rolled_units: int = 0


def new_row(position: Position, derived: Derived, *, customer: Customer) -> Balance:
    """Return an unstored row of the derived period, current and without any use."""
    if derived.period is None:
        raise AssertionError
    return Balance(
        customer=customer,
        feature_id=position.feature.id,
        scope=position.scope,
        period_starts_at=derived.period.starts_at,
        period_ends_at=derived.period.ends_at,
        epoch=max((row.epoch for row in position.rows), default=0) + 1,
        allowance_units=derived.allowance_units,
        limit_units=derived.allowance_units,
    )


def other_row(
    found: Balance | None,
    *,
    derived: Derived,
    granted_units: int,
    facts: CustomerFacts,
    feature: FeatureFacts,
    scope: str,
) -> Balance:
    """Return the row of another period than the current one: it counts, and decides nothing.

    One of a period to come has what the entitlement is at that instant, without rollover, and
    `granted_units` more.
    """
    row = found
    if row is None:
        position = Position(feature=feature, scope=scope)
        row = new_row(position, derived, customer=facts.customer)
        row.epoch, row.is_current = 0, False
    if derived.allowance_units is None:
        row.limit_units = None
    else:
        row.limit_units = derived.allowance_units + granted_units
    row.denial_code = derived.denial_code
    row.mode, row.overage_cap_units = derived.terms.mode, derived.terms.overage_cap_units
    row.ceiling_units = ceiling_of(row)
    return row


def allowance_of(row: Balance, derived: Derived) -> int | None:
    """Return what the allowance grants in the row's period; None where it is unlimited."""
    if derived.allowance_units is None:
        return None
    return max(derived.allowance_units - row.withheld_units, 0)


def ceiling_of(row: Balance) -> int | None:
    """Return what used + held may never exceed, given what is counted already."""
    if row.limit_units is None or row.mode == Entitlement.Mode.SOFT:
        return None
    bound = row.limit_units + (row.overage_cap_units or 0) - row.carried_units
    return max(bound, row.used_units + row.held_units)


def allowance_source(derived: Derived, *, used: int = 0, epoch: int = 1) -> Source:
    """Return the derived allowance as the engine knows it, without what is used of it."""
    amount = derived.allowance_units or 0
    allowance = Source(
        id=ALLOWANCE,
        amount=amount,
        priority=derived.terms.priority,
        effective_at=EARLIEST,
        created_at=EARLIEST,
        refills=True,
        balance=max(amount - used, 0),
        epoch=epoch,
    )
    set_terms(allowance, derived)
    return allowance


def set_terms(allowance: Source, derived: Derived) -> None:
    """Let the allowance burn and roll over by the terms in force."""
    allowance.priority = derived.terms.priority
    allowance.rollover_min = derived.terms.rollover_min_units
    allowance.rollover_max = derived.terms.rollover_max_units


def state_of(
    row: Balance, *, given: Iterable[Grant], items: Iterable[Item], since: datetime
) -> State:
    """Return the engine's state of a limited row, whose sources have begun by the instant."""
    left = row.allowance_left_units
    if left is None:
        left = max((row.limit_units or 0) - row.counted_units, 0)
    allowance = Source(
        id=ALLOWANCE,
        amount=row.allowance_units or 0,
        priority=row.priority,
        effective_at=EARLIEST,
        created_at=EARLIEST,
        refills=True,
        balance=left,
        epoch=row.epoch,
    )
    begun = [each for each in given if each.effective_at <= since]
    return State(
        sources={ALLOWANCE: allowance} | {str(each.pk): grants.source_of(each) for each in begun},
        items={each.id: each for each in items},
        period_ends_at=row.period_ends_at,
    )


def begin_generation(
    state: State, *, amount: int, left: int, holds: Sequence[Hold], at: datetime
) -> None:
    """Begin the period's count anew: the whole allowance, what was left, and the open holds."""
    for hold in holds:
        give_back(state, hold=hold, at=at)
    allowance = state.sources[ALLOWANCE]
    allowance.amount, allowance.balance = amount, left
    kept = (allowance.rollover_min, allowance.rollover_max)
    allowance.rollover_min, allowance.rollover_max = 0, None
    burndown.reset(state, at=at, period_ends_at=state.period_ends_at, preserve_overage=False)
    allowance.rollover_min, allowance.rollover_max = kept
    for hold in holds:
        burndown.use(state, item_id=str(hold.entry_id), at=at, units=hold.units)


def give_back(state: State | None, *, hold: Hold, at: datetime) -> None:
    """Return the units of a hold to where they came from, as far as that stands."""
    item = state.items.get(str(hold.entry_id)) if state is not None else None
    if state is not None and item is not None:
        standing = item.overage + item.forgiven + sum(burn.units for burn in item.burns)
        units = min(hold.units, standing)
        burndown.give_back(state, item_id=item.id, at=at, units=units)
