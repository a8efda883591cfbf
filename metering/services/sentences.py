"""Say in sentences why a decision is as it is."""

from core.clock import rfc3339
from metering import errors
from metering.selectors import Standing
from subscriptions.models import Entitlement, Feature

RULES = {
    "": "used + held + units ≤ limit",
    errors.UsageLimitReached.code: "used + held + units > limit",
    errors.FeatureNotInPlan.code: "the plan in force does not grant the feature",
    errors.NoActiveSubscription.code: "neither a subscription nor a default plan is in force",
    errors.SubscriptionPaused.code: "a paused subscription gives no access",
    errors.PastDueBlocked.code: "an unpaid subscription gives no access once its grace is over",
    errors.PaymentRequired.code: "an incomplete subscription gives no access before it is paid",
}


def rule_of(standing: Standing, *, code: str) -> str:
    """Return the rule that decides."""
    row = standing.balance
    if code == "" and standing.feature.type != Feature.Type.METERED:
        return "the plan in force grants the feature"
    if code == "" and standing.limit_units is None:
        return "the feature is unlimited"
    if code == "" and row is not None and row.mode == Entitlement.Mode.SOFT:
        return "a soft limit allows and records overage"
    if row is not None and row.mode == Entitlement.Mode.CAPPED:
        return RULES[code].replace("limit", "limit + overage cap")
    return RULES[code]


def steps_of(standing: Standing, *, units: int, code: str) -> list[str]:
    """Return how the decision comes about, a sentence for each step."""
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
    for share in derived.effective.shares:
        amount = "unlimited" if share.units is None else f"{share.units} units"
        if standing.feature.type == Feature.Type.METERED:
            steps.append(
                f"The {share.kind.replace('_', '-')} {share.key} grants {amount} of "
                f"{standing.feature.key} ({derived.terms.mode})."
            )
    if derived.period is not None and standing.balance is not None:
        ends = rfc3339(derived.period.ends_at) if derived.period.ends_at else "never"
        limit = "no limit" if standing.limit_units is None else f"a limit of {standing.limit_units}"
        counted = f"{standing.used_units} units are used and {standing.held_units} held in it"
        steps += [
            f"The usage period began {rfc3339(derived.period.starts_at)} and ends {ends}.",
            f"{counted}, under {limit}.",
        ]
    verdict = "allowed" if not code else f"denied: {code}"
    return [*steps, f"{units} units asked: {verdict}."]
