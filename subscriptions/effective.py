"""Add up what a customer has of a feature: plan version, add-ons and overrides; pure.

Units add, unlimited absorbs, switches are on where any part is, and of static values the one
with the lowest priority number stands. Grants come on top, where units are counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from subscriptions.facts import AdditionFacts, EntitlementFacts, FeatureFacts
from subscriptions.models import PRIORITY_DEFAULT, Entitlement


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one source adds; `units` None means unlimited, or that the feature is not counted."""

    kind: str
    key: str
    units: int | None


@dataclass(frozen=True, kw_only=True)
class Effective:
    """What plan, add-ons and overrides give of one feature at an instant.

    `units` are the allowance of a usage period, None where it is unlimited. `next_change_at` is
    the next instant at which an add-on or override begins or ends.
    """

    feature: FeatureFacts
    is_granted: bool
    units: int | None
    value: object
    shares: tuple[Share, ...]
    terms: "Terms"
    next_change_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How the allowance of a metered feature behaves; the plan's, else the feature's own."""

    mode: str = Entitlement.Mode.HARD
    overage_cap_units: int | None = None
    reset_interval: str = "month"
    reset_count: int = 1
    scope_limit_units: int | None = None
    priority: int = PRIORITY_DEFAULT
    rollover_min_units: int = 0
    rollover_max_units: int | None = 0
    preserves_overage: bool = False
    alert_percents: tuple[int, ...] = ()


def effective(
    *,
    feature: FeatureFacts,
    entitlement: EntitlementFacts | None,
    plan_key: str,
    quantity: int,
    additions: Iterable[AdditionFacts],
    subscription_id: UUID | None,
    at: datetime,
) -> Effective:
    """Return the sum at the instant.

    `entitlement` is the plan version's own, `additions` the customer's; an add-on counts while
    its subscription is the one in force.
    """
    own = [
        each
        for each in additions
        if each.feature_id == feature.id
        and (each.subscription_id is None or each.subscription_id == subscription_id)
    ]
    active = [each for each in own if each.is_active(at=at)]
    granted = entitlement if entitlement is not None and entitlement.enabled else None
    shares = _shares(granted, plan_key=plan_key, quantity=quantity, active=active)
    units: int | None = 0
    for share in shares:
        units = None if units is None or share.units is None else units + share.units
    changes = [each.next_change_at(at=at) for each in own]
    return Effective(
        feature=feature,
        is_granted=bool(shares),
        units=units,
        value=_value(granted, active),
        shares=tuple(shares),
        terms=_terms(feature, entitlement),
        next_change_at=min((each for each in changes if each is not None), default=None),
    )


def _shares(
    granted: EntitlementFacts | None,
    *,
    plan_key: str,
    quantity: int,
    active: Iterable[AdditionFacts],
) -> list[Share]:
    shares = []
    if granted is not None:
        units = granted.limit_units
        if units is not None and granted.per_quantity:
            units *= quantity
        shares.append(Share(kind="plan", key=plan_key, units=units))
    for each in active:
        units = None if each.is_unlimited else (each.units or 0) * each.quantity
        shares.append(Share(kind=each.kind, key=each.key, units=units))
    return shares


def _value(granted: EntitlementFacts | None, active: Iterable[AdditionFacts]) -> object:
    """Return the static value with the lowest priority number; of equals the plan's."""
    stated = [(granted.priority, 0, granted.value)] if granted is not None else []
    stated += [(each.priority, 1, each.value) for each in active if each.value is not None]
    if not stated:
        return None
    return min(stated, key=lambda each: each[:2])[2]


def _terms(feature: FeatureFacts, entitlement: EntitlementFacts | None) -> Terms:
    if entitlement is None:
        return Terms(reset_interval=feature.reset_interval, reset_count=feature.reset_count)
    return Terms(
        mode=entitlement.mode,
        overage_cap_units=entitlement.overage_cap_units,
        reset_interval=entitlement.reset_interval,
        reset_count=entitlement.reset_count,
        scope_limit_units=entitlement.scope_limit_units,
        priority=entitlement.priority,
        rollover_min_units=entitlement.rollover_min_units,
        rollover_max_units=entitlement.rollover_max_units,
        preserves_overage=entitlement.preserves_overage,
        alert_percents=tuple(entitlement.alert_percents or ()),
    )
