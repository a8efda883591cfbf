"""Derive from facts what a customer may do at an instant: pure, and the same for everyone.

Consuming, checking, showing and explaining all ask here, so that they cannot disagree.
"""

from dataclasses import dataclass
from datetime import datetime

from core import periods
from core.models import Customer
from core.periods import Interval, Period, Recurrence
from metering import errors
from subscriptions import status
from subscriptions.models import Entitlement, Subscription
from subscriptions.selectors import (
    CustomerFacts,
    EntitlementFacts,
    FeatureFacts,
    VersionFacts,
)

DENIAL_BY_STATUS = {
    Subscription.Status.PAUSED: errors.SubscriptionPaused.code,
    Subscription.Status.UNPAID: errors.PastDueBlocked.code,
    Subscription.Status.PAST_DUE: errors.PastDueBlocked.code,
    Subscription.Status.INCOMPLETE: errors.PaymentRequired.code,
}


@dataclass(frozen=True, kw_only=True)
class InForce:
    """What governs one plan group at an instant, constant until `next_change_at`.

    `subscription` is None where the default plan serves; `version` is None where nothing does.
    `pending` is a subscription that waits for its first payment beside it.
    `denial_code` is empty where there is access.
    """

    plan_group_id: int | None
    version: VersionFacts | None
    subscription: Subscription | None
    pending: Subscription | None
    status: str
    denial_code: str
    anchor_at: datetime
    time_zone: str
    quantity: int
    next_change_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Derived:
    """What one metered feature's balance must say at an instant, until `next_change_at`.

    `period` is None where the plan in force grants none of the feature.
    """

    in_force: InForce
    entitlement: EntitlementFacts | None
    period: Period | None
    limit_units: int | None
    mode: str
    overage_cap_units: int | None
    denial_code: str
    next_change_at: datetime | None

    def ceiling_units(self, *, counted_units: int) -> int | None:
        """Return what used + held may never exceed, given what is counted already."""
        if self.limit_units is None or self.mode == Entitlement.Mode.SOFT:
            return None
        return max(self.limit_units + (self.overage_cap_units or 0), counted_units)


def in_force(facts: CustomerFacts, *, plan_group_id: int | None, at: datetime) -> InForce:
    """Return what governs the plan group at the instant."""
    rows = [row for row in facts.subscriptions if row.plan_group_id == plan_group_id]
    standings = [(row, status.standing(row, at=at)) for row in rows]
    live = [pair for pair in standings if pair[1].status in Subscription.SLOT_STATUSES]
    waiting = [pair for pair in standings if pair[1].status == Subscription.Status.INCOMPLETE]
    pending = waiting[-1][0] if waiting else None
    changes = [standing.next_change_at for _, standing in standings]
    if live:
        return _by_subscription(
            facts, *live[-1], pending=pending, next_change_at=_earliest(changes)
        )
    return _by_default(
        facts,
        plan_group_id=plan_group_id,
        pending=pending,
        next_change_at=_earliest(changes),
        at=at,
    )


def derive(facts: CustomerFacts, *, feature: FeatureFacts, at: datetime) -> Derived:
    """Return window, limit and access of one metered feature; constant until `next_change_at`."""
    governing = in_force(facts, plan_group_id=feature.plan_group_id, at=at)
    return derive_within(governing, feature_key=feature.key, at=at)


def derive_within(governing: InForce, *, feature_key: str, at: datetime) -> Derived:
    """Return what `derive` does, under a plan group's state that the caller already has."""
    entitlement = governing.version.entitlements.get(feature_key) if governing.version else None
    if entitlement is None or not entitlement.enabled:
        return Derived(
            in_force=governing,
            entitlement=None,
            period=None,
            limit_units=0,
            mode=Entitlement.Mode.HARD,
            overage_cap_units=None,
            denial_code=governing.denial_code or errors.FeatureNotInPlan.code,
            next_change_at=governing.next_change_at,
        )
    period = usage_period(governing, entitlement=entitlement, at=at)
    limit = entitlement.limit_units
    if limit is not None and entitlement.per_quantity:
        limit *= governing.quantity
    return Derived(
        in_force=governing,
        entitlement=entitlement,
        period=period,
        limit_units=limit,
        mode=entitlement.mode,
        overage_cap_units=entitlement.overage_cap_units,
        denial_code=governing.denial_code,
        next_change_at=_earliest([governing.next_change_at, period.ends_at]),
    )


def usage_period(governing: InForce, *, entitlement: EntitlementFacts, at: datetime) -> Period:
    """Return the usage period around the instant, counted from the anchor in force."""
    if entitlement.reset_interval == "billing_period":
        return billing_period(governing, at=at)
    recurrence = Recurrence(
        anchor=governing.anchor_at,
        time_zone=governing.time_zone,
        interval=Interval(entitlement.reset_interval),
        count=entitlement.reset_count,
    )
    return periods.period_at(recurrence, at=at)


def billing_period(governing: InForce, *, at: datetime) -> Period:
    """Return the billing period around the instant: the price's interval, a month without one."""
    price = governing.subscription.price if governing.subscription else None
    recurrence = Recurrence(
        anchor=governing.anchor_at,
        time_zone=governing.time_zone,
        interval=Interval(price.interval) if price else Interval.MONTH,
        count=price.interval_count if price else 1,
    )
    return periods.period_at(recurrence, at=at)


def _by_subscription(
    facts: CustomerFacts,
    row: Subscription,
    standing: status.Standing,
    *,
    pending: Subscription | None,
    next_change_at: datetime | None,
) -> InForce:
    return InForce(
        plan_group_id=row.plan_group_id,
        version=facts.versions[standing.plan_version_id],
        subscription=row,
        pending=pending,
        status=standing.status,
        denial_code=""
        if standing.access
        else DENIAL_BY_STATUS[Subscription.Status(standing.status)],
        anchor_at=standing.anchor_at,
        time_zone=row.time_zone,
        quantity=standing.quantity,
        next_change_at=next_change_at,
    )


def _by_default(
    facts: CustomerFacts,
    *,
    plan_group_id: int | None,
    pending: Subscription | None,
    next_change_at: datetime | None,
    at: datetime,
) -> InForce:
    """Return the default plan, anchored at the customer's creation; a new version of it counts
    from the next period.
    """
    customer = facts.customer
    month = periods.period_at(
        Recurrence(
            anchor=customer.created_at, time_zone=customer.time_zone, interval=Interval.MONTH
        ),
        at=at,
    )
    versions = [each for each in facts.default_versions if each.plan_group_id == plan_group_id]
    reached = [each for each in versions if _published_by(each, month.starts_at)]
    version = next(iter(reached or versions[-1:]), None)
    unserved = errors.PaymentRequired.code if pending else errors.NoActiveSubscription.code
    return InForce(
        plan_group_id=plan_group_id,
        version=version,
        subscription=None,
        pending=pending,
        status=Subscription.Status.ACTIVE if version else "",
        denial_code="" if version else unserved,
        anchor_at=customer.created_at,
        time_zone=customer.time_zone,
        quantity=1,
        next_change_at=_earliest([next_change_at, month.ends_at]),
    )


def nothing_in_force(*, customer: Customer, plan_group_id: int | None) -> InForce:
    """Return the state of a plan group in which the customer never had anything."""
    return InForce(
        plan_group_id=plan_group_id,
        version=None,
        subscription=None,
        pending=None,
        status="",
        denial_code=errors.NoActiveSubscription.code,
        anchor_at=customer.created_at,
        time_zone=customer.time_zone,
        quantity=1,
        next_change_at=None,
    )


def _published_by(version: VersionFacts, instant: datetime) -> bool:
    return version.published_at is not None and version.published_at <= instant


def _earliest(instants: list[datetime | None]) -> datetime | None:
    return min((instant for instant in instants if instant is not None), default=None)
