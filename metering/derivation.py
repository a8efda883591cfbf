"""Derive from facts what a customer may do at an instant: pure, and the same for everyone.

Consuming, checking, showing and explaining all ask here, so that they cannot disagree.
"""

from dataclasses import dataclass
from datetime import datetime

from core import periods
from core.models import Customer
from core.periods import Interval, Period, Recurrence
from core.zones import Zones
from metering import errors
from subscriptions import effective, renewals, status
from subscriptions.effective import Effective, Terms
from subscriptions.facts import CustomerFacts, FeatureFacts, VersionFacts
from subscriptions.models import Price, Subscription

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
    price: Price | None
    pending: Subscription | None
    status: str
    denial_code: str
    anchor_at: datetime
    zones: Zones
    quantity: int
    next_change_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Derived:
    """What one metered feature's balance must say at an instant, until `next_change_at`.

    `period` is None where the customer has nothing of the feature. `allowance_units` are what
    the allowance grants a period, None where it is unlimited.
    """

    in_force: InForce
    effective: Effective
    period: Period | None
    allowance_units: int | None
    denial_code: str
    next_change_at: datetime | None

    @property
    def terms(self) -> Terms:
        """Return how the allowance behaves."""
        return self.effective.terms


def in_force(facts: CustomerFacts, *, plan_group_id: int | None, at: datetime) -> InForce:
    """Return what governs, or governed, the plan group at the instant."""
    ended = _find_ended(facts, plan_group_id=plan_group_id, at=at)
    if ended is not None:
        return _by_ended(facts, ended)
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


def _find_ended(
    facts: CustomerFacts, *, plan_group_id: int | None, at: datetime
) -> Subscription | None:
    """Return the subscription that stood at the instant and has ended; None where none did."""
    for row in facts.ended:
        is_of_group = row.plan_group_id == plan_group_id and row.start_at <= at
        if is_of_group and row.ended_at is not None and at < row.ended_at:
            return row
    return None


def derive(
    facts: CustomerFacts,
    *,
    feature: FeatureFacts,
    at: datetime,
    scope: str = "",
    has_grants: bool = False,
) -> Derived:
    """Return window, allowance and access of one metered feature; constant to `next_change_at`.

    `scope` names a member or entity with a limit of its own; `has_grants` tells that units come
    from grants as well, which need a window also where the plan has none of the feature.
    """
    governing = in_force(facts, plan_group_id=feature.plan_group_id, at=at)
    return derive_within(
        facts, governing, feature=feature, at=at, scope=scope, has_grants=has_grants
    )


def derive_within(
    facts: CustomerFacts,
    governing: InForce,
    *,
    feature: FeatureFacts,
    at: datetime,
    scope: str = "",
    has_grants: bool = False,
) -> Derived:
    """Return what `derive` does, under a plan group's state that the caller already has."""
    summed = effective_of(facts, governing, feature=feature, at=at)
    code = governing.denial_code
    period: Period | None = None
    if summed.is_granted or has_grants:
        period = usage_period(governing, terms=summed.terms, at=at)
    elif not code:
        code = errors.FeatureNotInPlan.code
    ends_at = period.ends_at if period else None
    return Derived(
        in_force=governing,
        effective=summed,
        period=period,
        allowance_units=summed.terms.scope_limit_units if scope else summed.units,
        denial_code=code,
        next_change_at=_earliest([governing.next_change_at, summed.next_change_at, ends_at]),
    )


def effective_of(
    facts: CustomerFacts, governing: InForce, *, feature: FeatureFacts, at: datetime
) -> Effective:
    """Return what plan, add-ons and overrides give of a feature at the instant."""
    version, subscription = governing.version, governing.subscription
    return effective.effective(
        feature=feature,
        entitlement=version.entitlements.get(feature.key) if version else None,
        plan_key=version.plan_key if version else "",
        quantity=governing.quantity,
        additions=facts.additions,
        subscription_id=subscription.pk if subscription else None,
        at=at,
    )


def usage_period(governing: InForce, *, terms: Terms, at: datetime) -> Period:
    """Return the usage period around the instant, counted from the anchor in force."""
    if terms.reset_interval == "billing_period":
        return billing_period(governing, at=at)
    recurrence = Recurrence(
        anchor=governing.anchor_at,
        time_zone=governing.zones.time_zone,
        interval=Interval(terms.reset_interval),
        count=terms.reset_count,
        former_zones=governing.zones.former,
    )
    return periods.period_at(recurrence, at=at)


def billing_period(governing: InForce, *, at: datetime) -> Period:
    """Return the billing period around the instant: the price's interval, a month without one."""
    recurrence = renewals.billing_recurrence(
        anchor_at=governing.anchor_at, zones=governing.zones, price=governing.price
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
        price=row.price if standing.price_id == row.price_id else row.change_price,
        pending=pending,
        status=standing.status,
        denial_code=""
        if standing.access
        else DENIAL_BY_STATUS[Subscription.Status(standing.status)],
        anchor_at=standing.anchor_at,
        zones=row.zones,
        quantity=standing.quantity,
        next_change_at=next_change_at,
    )


def _by_ended(facts: CustomerFacts, row: Subscription) -> InForce:
    """Return what stood before the end, for usage that is told after it: never refused."""
    return InForce(
        plan_group_id=row.plan_group_id,
        version=facts.versions[row.plan_version_id],
        subscription=row,
        price=row.price,
        pending=None,
        status=row.status,
        denial_code="",
        anchor_at=row.anchor_at,
        zones=row.zones,
        quantity=row.quantity,
        next_change_at=row.ended_at,
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
    month = periods.period_at(customer.months, at=at)
    versions = [each for each in facts.default_versions if each.plan_group_id == plan_group_id]
    reached = [each for each in versions if _published_by(each, month.starts_at)]
    version = next(iter(reached or versions[-1:]), None)
    unserved = errors.PaymentRequired.code if pending else errors.NoActiveSubscription.code
    return InForce(
        plan_group_id=plan_group_id,
        version=version,
        subscription=None,
        price=None,
        pending=pending,
        status=Subscription.Status.ACTIVE if version else "",
        denial_code="" if version else unserved,
        anchor_at=customer.created_at,
        zones=customer.zones,
        quantity=1,
        next_change_at=_earliest([next_change_at, month.ends_at]),
    )


def nothing_in_force(*, customer: Customer, plan_group_id: int | None) -> InForce:
    """Return the state of a plan group in which the customer never had anything."""
    return InForce(
        plan_group_id=plan_group_id,
        version=None,
        subscription=None,
        price=None,
        pending=None,
        status="",
        denial_code=errors.NoActiveSubscription.code,
        anchor_at=customer.created_at,
        zones=customer.zones,
        quantity=1,
        next_change_at=None,
    )


def _published_by(version: VersionFacts, instant: datetime) -> bool:
    return version.published_at is not None and version.published_at <= instant


def _earliest(instants: list[datetime | None]) -> datetime | None:
    return min((instant for instant in instants if instant is not None), default=None)
