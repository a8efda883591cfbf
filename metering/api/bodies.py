"""Write what services and selectors return as the API shows it."""

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings

from core import clock, periods
from core.api import responses
from core.models import Customer
from metering import decision, derivation, selectors
from metering.derivation import InForce
from metering.models import UsageEntry
from metering.selectors import Overview, Standing
from metering.services.checking import Checked
from metering.services.explaining import Explanation
from subscriptions.models import Feature, Subscription
from subscriptions.selectors import EntitlementFacts, FeatureFacts

Body = dict[str, object]
PAYMENT_INSTRUCTIONS = "Pay the operator by the agreed way; access starts when it is marked paid."


def instant(at: datetime | None) -> str | None:
    """Return an instant as JSON shows it."""
    return None if at is None else clock.rfc3339(at)


def period(*, starts_at: datetime | None, ends_at: datetime | None) -> Body | None:
    """Return a period; None where there is none."""
    if starts_at is None:
        return None
    return {"starts_at": instant(starts_at), "ends_at": instant(ends_at)}


def consumed(entries: Sequence[UsageEntry]) -> Body:
    """Return the answer of a granted operation; the same from its record as at first."""
    first = entries[0]
    common: Body = {"consumed_at": instant(first.consumed_at), "metadata": first.metadata}
    if len(entries) == 1:
        return _consumed_item(first) | common
    items = [_consumed_item(entry) for entry in entries]
    return {"id": str(first.operation_id), "items": items} | common


def _consumed_item(entry: UsageEntry) -> Body:
    return {
        "id": str(entry.pk),
        "feature": entry.feature.key,
        "units": entry.units,
        "used": entry.used_units,
        "held": entry.held_units,
        "limit": entry.limit_units,
        "remaining": decision.remaining_units(
            limit_units=entry.limit_units,
            used_units=entry.used_units,
            held_units=entry.held_units,
        ),
        "period": period(starts_at=entry.period_starts_at, ends_at=entry.period_ends_at),
    }


def entry(line: UsageEntry) -> Body:
    """Return one line of the ledger."""
    body: Body = {
        "id": str(line.pk),
        "kind": line.kind,
        "feature": line.feature.key,
        "units": line.units,
        "consumed_at": instant(line.consumed_at),
        "period": period(starts_at=line.period_starts_at, ends_at=line.period_ends_at),
        "reverses": None,
        "metadata": line.metadata,
    }
    if line.denial is not None:
        body["code"] = line.denial["code"]
    return body


def overview(state: Overview) -> Body:
    """Return `GET subscriptions/me/`: plan, limits and usage, and what stands beside them."""
    primary = primary_group(state)
    row = primary.subscription if primary else None
    metered = state.standings
    body: Body = {
        "plan": primary.version.plan_name if primary and primary.version else None,
        "limits": {key: each.derived.limit_units for key, each in metered.items()},
        "usage": {key: each.used_units for key, each in metered.items()},
        "plan_key": primary.version.plan_key if primary and primary.version else None,
        "status": _status(primary),
        "subscription": str(row.pk) if row else None,
        "features": _features(state),
        "remaining": {key: each.remaining_units for key, each in metered.items()},
        "held": {key: each.held_units for key, each in metered.items()},
        "resets_at": {key: instant(each.resets_at) for key, each in metered.items()},
        "current_period": _current_period(primary, at=state.at),
        "trial_ends_at": instant(row.trial_ends_at) if row else None,
        "cancel_at": instant(row.cancel_at) if row else None,
        "scheduled_change": _scheduled_change(row),
        "add_ons": [],
        "over_limit": [key for key, each in metered.items() if each.is_over_limit],
    }
    if primary is not None and primary.pending is not None:
        body["payment"] = _payment(primary.pending)
    return body


def primary_group(state: Overview) -> InForce | None:
    """Return what is in force in the plan group that `me` names; None where nothing ever was."""
    key = settings.ENGINE.primary_plan_group_key
    groups = list(state.groups.values())
    named = [each for each in groups if each.version and each.version.plan_group_key == key]
    return next(iter(named or groups), None)


def _status(primary: InForce | None) -> str | None:
    if primary is None:
        return None
    if primary.subscription is None and primary.pending is not None:
        return Subscription.Status.INCOMPLETE.value
    return primary.status or None


def _features(state: Overview) -> Body:
    found: Body = {}
    for group in state.groups.values():
        granted = group.version.entitlements.values() if group.version else ()
        for each in sorted(granted, key=lambda entitlement: entitlement.feature_key):
            if each.feature_type != Feature.Type.METERED:
                found.setdefault(each.feature_key, _value(each, group))
    return found


def _value(entitlement: EntitlementFacts, group: InForce) -> object:
    enabled = entitlement.enabled and not group.denial_code
    if entitlement.feature_type == Feature.Type.BOOLEAN:
        return enabled
    return entitlement.value if enabled else None


def _current_period(primary: InForce | None, *, at: datetime) -> Body | None:
    """Return the billing period, inside the subscription's life; None on the default plan."""
    if primary is None or primary.subscription is None:
        return None
    row = primary.subscription
    life = periods.clipped(
        derivation.billing_period(primary, at=at),
        starts_at=row.start_at,
        ends_at=row.cancel_at or row.end_at,
    )
    return period(starts_at=life.starts_at, ends_at=life.ends_at)


def _scheduled_change(row: Subscription | None) -> Body | None:
    if row is None or row.change_to is None:
        return None
    return {"plan": row.change_to.plan.key, "effective_at": instant(row.change_at)}


def _payment(pending: Subscription) -> Body:
    return {
        "gateway": "manual",
        "instructions": PAYMENT_INSTRUCTIONS,
        "expires_at": instant(pending.incomplete_expires_at),
    }


def entitlement_map(state: Overview) -> Body:
    """Return every entitlement by feature key: limits, not counters."""
    found: dict[str, Body] = {}
    for group in state.groups.values():
        granted = group.version.entitlements.values() if group.version else ()
        for each in granted:
            standing = state.standings.get(each.feature_key)
            found.setdefault(each.feature_key, entitlement(each, group, standing))
    return {
        "entitlements": dict(sorted(found.items())),
        "next_change_at": instant(state.next_change_at),
    }


def entitlement(granted: EntitlementFacts, group: InForce, standing: Standing | None) -> Body:
    """Return what a customer has of one feature, with its source."""
    plan_key = group.version.plan_key if group.version else ""
    limit = standing.derived.limit_units if standing else None
    return {
        "feature": granted.feature_key,
        "type": granted.feature_type,
        "enabled": granted.enabled and not group.denial_code,
        "value": granted.value,
        "limit": limit,
        "mode": granted.mode if standing else None,
        "resets_at": instant(standing.resets_at) if standing else None,
        "sources": [{"kind": "plan", "key": plan_key, "units": limit}],
    }


def no_entitlement(*, feature_key: str, feature_type: str) -> Body:
    """Return what a customer has of a feature that nothing in force grants."""
    is_metered = feature_type == Feature.Type.METERED
    return {
        "feature": feature_key,
        "type": feature_type,
        "enabled": False,
        "value": None,
        "limit": 0 if is_metered else None,
        "mode": None,
        "resets_at": None,
        "sources": [],
    }


def entitlement_of(state: Overview, *, feature: FeatureFacts) -> Body:
    """Return what a customer has of a feature, also where nothing in force grants it."""
    for group in state.groups.values():
        granted = group.version.entitlements.get(feature.key) if group.version else None
        if granted is not None:
            return entitlement(granted, group, state.standings.get(feature.key))
    return no_entitlement(feature_key=feature.key, feature_type=feature.type)


def overview_tag(state: Overview) -> str:
    """Return the entity tag of `overview`: it changes with all that is shown."""
    counted = [
        (key, each.derived.limit_units, each.used_units, each.held_units)
        for key, each in state.standings.items()
    ]
    names = [group.version.plan_name for group in state.groups.values() if group.version]
    return responses.etag(
        str(state.customer.pk),
        state.customer.revision,
        names,
        counted,
        instant(state.next_change_at),
    )


def overview_at(row: Subscription, at: datetime) -> Body:
    """Return the overview at the instant of a change, inside its transaction."""
    customer = Customer.objects.get(pk=row.customer_id)
    return overview(selectors.get_overview(customer=customer, clock=clock.FixedClock(at=at)))


def checked(answers: Sequence[Checked]) -> Body:
    """Return one answer, or several with the first refusal's code above them."""
    items = [_checked_item(answer) for answer in answers]
    if len(items) == 1:
        return items[0]
    refused = [each for each in items if not each["allowed"]]
    body: Body = {"allowed": not refused, "items": items}
    if refused:
        body |= {"code": refused[0]["code"], "feature": refused[0]["feature"]}
    return body


def _checked_item(answer: Checked) -> Body:
    standing = answer.standing
    body: Body = {
        "feature": answer.item.feature_key,
        "allowed": not answer.code,
        "requested": answer.item.units,
        "used": standing.used_units,
        "held": standing.held_units,
        "limit": standing.derived.limit_units,
        "remaining": standing.remaining_units,
        "resets_at": instant(standing.resets_at),
    }
    if answer.code:
        upgrades = [{"plan": each.plan_key, "limit": each.limit_units} for each in answer.upgrades]
        body |= {"code": answer.code, "upgrade": upgrades}
    return body


def explanation(explained: Explanation) -> Body:
    """Return an explanation."""
    standing, group = explained.standing, explained.standing.derived.in_force
    balance: Body | None = None
    if standing.derived.period is not None:
        balance = {
            "used": standing.used_units,
            "held": standing.held_units,
            "limit": standing.derived.limit_units,
            "remaining": standing.remaining_units,
            "period": period(
                starts_at=standing.derived.period.starts_at,
                ends_at=standing.derived.period.ends_at,
            ),
        }
    plan: Body | None = None
    if group.version is not None:
        plan = {
            "key": group.version.plan_key,
            "version": group.version.number,
            "status": group.status,
        }
    return {
        "allowed": not explained.code,
        "code": explained.code or None,
        "feature": explained.feature.key,
        "units": explained.units,
        "at": instant(explained.at),
        "rule": explained.rule,
        "plan": plan,
        "add_ons": [],
        "overrides": [],
        "grants": [],
        "holds": [],
        "balance": balance,
        "steps": list(explained.steps),
    }
