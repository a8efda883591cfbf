"""Explain a decision: what is in force, what is counted, and the rule that decides."""

from dataclasses import dataclass
from datetime import datetime

from core import clock as clocks
from core import errors as core_errors
from core.clock import rfc3339
from core.models import Customer
from metering import decision, errors, selectors
from metering.decision import Denied, Item
from metering.models import Balance
from metering.selectors import Standing
from subscriptions import selectors as subscription_selectors
from subscriptions.models import Entitlement, Feature
from subscriptions.selectors import EntitlementFacts, FeatureFacts

RULES = {
    "": "used + held + units ≤ limit",
    errors.UsageLimitReached.code: "used + held + units > limit",
    errors.FeatureNotInPlan.code: "the plan in force does not grant the feature",
    errors.NoActiveSubscription.code: "neither a subscription nor a default plan is in force",
    errors.SubscriptionPaused.code: "a paused subscription gives no access",
    errors.PastDueBlocked.code: "an unpaid subscription gives no access once its grace is over",
    errors.PaymentRequired.code: "an incomplete subscription gives no access before it is paid",
}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a customer may or may not use so many units at an instant; `code` empty if he may."""

    feature: FeatureFacts
    units: int
    at: datetime
    code: str
    rule: str
    standing: Standing
    entitlement: EntitlementFacts | None
    steps: tuple[str, ...]


def explain(
    *,
    customer: Customer,
    feature: FeatureFacts,
    units: int,
    at: datetime | None,
    clock: clocks.Clock,
) -> Explanation:
    """Return the decision on the units and how it comes about, now or at a later instant.

    A later instant is explained by the facts of now: what is scheduled counts, and usage that
    is not there yet does not.

    :raises Invalid: for an instant in the past.
    """
    facts = subscription_selectors.get_customer_facts(customer=customer)
    now = clock.now()
    if at is not None and at < now:
        detail = "Only now and later instants are explained; leave `at` out for now."
        raise core_errors.Invalid.at("/at", code="past", detail=detail)
    instant = at or now
    rows = Balance.objects.filter(customer=customer, feature_id=feature.id).open_after(now)
    overview = selectors.overview_of(facts, rows=rows, at=instant)
    standing = selectors.standing_of(overview, feature=feature)
    group = standing.derived.in_force
    granted = group.version.entitlements.get(feature.key) if group.version else None
    code = _code(standing, feature=feature, granted=granted, units=units)
    return Explanation(
        feature=feature,
        units=units,
        at=instant,
        code=code,
        rule=_rule(standing, code=code),
        standing=standing,
        entitlement=granted,
        steps=tuple(_steps(standing, units=units, code=code)),
    )


def _code(
    standing: Standing, *, feature: FeatureFacts, granted: EntitlementFacts | None, units: int
) -> str:
    if feature.type != Feature.Type.METERED:
        group = standing.derived.in_force
        if group.denial_code:
            return group.denial_code
        return "" if granted and granted.enabled else errors.FeatureNotInPlan.code
    item = Item(feature_id=feature.id, feature_key=feature.key, units=units)
    outcome = decision.decide([item], balances={feature.id: standing.as_balance()}, codes={})
    return outcome.code if isinstance(outcome, Denied) else ""


def _rule(standing: Standing, *, code: str) -> str:
    derived = standing.derived
    if code == "" and standing.feature.type != Feature.Type.METERED:
        return "the plan in force grants the feature"
    if code == "" and derived.limit_units is None:
        return "the feature is unlimited"
    if code == "" and derived.mode == Entitlement.Mode.SOFT:
        return "a soft limit allows and records overage"
    if derived.mode == Entitlement.Mode.CAPPED:
        return RULES[code].replace("limit", "limit + overage cap")
    return RULES[code]


def _steps(standing: Standing, *, units: int, code: str) -> list[str]:
    derived, group = standing.derived, standing.derived.in_force
    steps = []
    if group.version is None:
        steps.append("No plan is in force for the customer.")
    elif group.subscription is None:
        steps.append(
            f"No subscription is live, so the default plan {group.version.plan_key} "
            f"(version {group.version.number}) is in force."
        )
    else:
        steps.append(
            f"The subscription to {group.version.plan_key} (version {group.version.number}) "
            f"is {group.status}."
        )
    if derived.period is not None:
        ends = rfc3339(derived.period.ends_at) if derived.period.ends_at else "never"
        limit = "unlimited" if derived.limit_units is None else f"{derived.limit_units} units"
        steps += [
            f"The plan grants {limit} of {standing.feature.key} ({derived.mode}).",
            f"The usage period began {rfc3339(derived.period.starts_at)} and ends {ends}.",
            f"{standing.used_units} units are used and {standing.held_units} held in it.",
        ]
    verdict = "allowed" if not code else f"denied: {code}"
    return [*steps, f"{units} units asked: {verdict}."]
