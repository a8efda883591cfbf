"""Write what services and selectors return as the API shows it."""

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings

from core import clock, periods
from core.api import responses
from core.models import Customer
from metering import decision, derivation, selectors
from metering.derivation import InForce
from metering.lines import LedgerLine
from metering.models import UsageEntry
from metering.selectors import Overview, Standing
from metering.services.checking import Checked
from subscriptions import switches
from subscriptions.effective import Effective, Share
from subscriptions.facts import FeatureFacts
from subscriptions.models import Feature, Subscription

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


def consumed(entries: Sequence[LedgerLine]) -> Body:
    """Return the answer of a granted operation; the same from its record as at first."""
    first = entries[0]
    common: Body = {"consumed_at": instant(first.consumed_at), "metadata": first.metadata}
    items = [_consumed_item(each, entries) for each in entries if each.drawn_for is None]
    if len(items) == 1:
        return items[0] | common
    return {"id": str(first.operation_id), "items": items} | common


def _consumed_item(line: LedgerLine, entries: Sequence[LedgerLine]) -> Body:
    body: Body = {"id": str(line.pk), **figures(line)}
    body["period"] = period(starts_at=line.period_starts_at, ends_at=line.period_ends_at)
    if line.scope:
        body["entity"] = line.scope.partition(":")[2]
    drawn = [each for each in entries if each.drawn_for == line.item]
    if drawn:
        body["draws"] = [figures(each) for each in drawn]
    return body


def figures(line: LedgerLine) -> Body:
    """Return what a line counted, and its balance after it."""
    return {
        "feature": line.feature.key,
        "units": line.units,
        "used": line.used_units,
        "held": line.held_units,
        "limit": line.limit_units,
        "remaining": decision.remaining_units(
            limit_units=line.limit_units,
            counted_units=line.used_units + line.held_units + line.carried_units,
        ),
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
        "reverses": str(line.reverses_id) if line.reverses_id else None,
        "metadata": line.metadata,
    }
    if line.scope:
        body["entity"] = line.scope.partition(":")[2]
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
        "limits": {key: each.limit_units for key, each in metered.items()},
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
        "collection_paused": row is not None and row.collection_paused_at is not None,
        "scheduled_change": _scheduled_change(row),
        "add_ons": _add_ons(state),
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
    return {
        key: _value(each, selectors.governing_of(state, feature=each.feature))
        for key, each in state.others.items()
    }


def _value(has: Effective, group: InForce) -> object:
    enabled = _is_on(has, group)
    if has.feature.type == Feature.Type.BOOLEAN:
        return enabled
    return has.value if enabled else None


def _is_on(has: Effective, group: InForce) -> bool:
    granted = has.is_granted and not group.denial_code
    return switches.is_on(has.feature, otherwise=granted)


def _add_ons(state: Overview) -> list[Body]:
    found = {
        (each.key, each.quantity): None
        for each in state.facts.additions
        if each.kind == "add_on" and each.is_active(at=state.at)
    }
    return [{"key": key, "quantity": quantity} for key, quantity in sorted(found)]


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
    found = {key: _metered(each) for key, each in state.standings.items()}
    found |= {
        key: _switch(each, selectors.governing_of(state, feature=each.feature))
        for key, each in state.others.items()
    }
    return {
        "entitlements": dict(sorted(found.items())),
        "next_change_at": instant(state.next_change_at),
    }


def entitlement_of(state: Overview, *, feature: FeatureFacts) -> Body:
    """Return what a customer has of a feature, also where nothing in force grants it."""
    if feature.key in state.others:
        group = selectors.governing_of(state, feature=feature)
        return _switch(state.others[feature.key], group)
    if feature.type == Feature.Type.METERED:
        return _metered(selectors.standing_of(state, feature=feature))
    return _entitlement(feature, enabled=switches.is_on(feature, otherwise=False), shares=())


def _metered(standing: Standing) -> Body:
    derived = standing.derived
    has_any = derived.period is not None
    body = _entitlement(
        standing.feature,
        enabled=switches.is_on(standing.feature, otherwise=has_any and not derived.denial_code),
        shares=derived.effective.shares,
    )
    body["limit"] = standing.limit_units
    body["mode"] = derived.terms.mode if has_any else None
    body["resets_at"] = instant(standing.resets_at)
    from_grants = _from_grants(standing)
    if from_grants:
        source: Body = {"kind": "grant", "key": standing.feature.key, "units": from_grants}
        body["sources"] = [*sources(derived.effective.shares), source]
    return body


def _from_grants(standing: Standing) -> int:
    """Return the units of the limit that come from beside the allowance."""
    row = standing.balance
    if row is None or row.limit_units is None or row.allowance_units is None:
        return 0
    return max(row.limit_units - row.allowance_units, 0)


def _switch(has: Effective, group: InForce) -> Body:
    body = _entitlement(has.feature, enabled=_is_on(has, group), shares=has.shares)
    body["value"] = has.value
    return body


def _entitlement(feature: FeatureFacts, *, enabled: bool, shares: Sequence[Share]) -> Body:
    return {
        "feature": feature.key,
        "type": feature.type,
        "enabled": enabled,
        "value": None,
        "limit": None,
        "mode": None,
        "resets_at": None,
        "sources": sources(shares),
    }


def sources(shares: Sequence[Share]) -> list[Body]:
    """Return where units come from."""
    return [{"kind": each.kind, "key": each.key, "units": each.units} for each in shares]


def overview_tag(state: Overview) -> str:
    """Return the entity tag of `overview`: it changes with all that is shown."""
    counted = [
        (key, each.limit_units, each.used_units, each.held_units)
        for key, each in state.standings.items()
    ]
    names = [group.version.plan_name for group in state.groups.values() if group.version]
    return responses.etag(
        str(state.customer.pk),
        state.customer.revision,
        names,
        counted,
        instant(state.next_change_at),
        switches.fingerprint(),
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
        "limit": standing.limit_units,
        "remaining": standing.remaining_units,
        "resets_at": instant(standing.resets_at),
    }
    if answer.code:
        upgrades = [{"plan": each.plan_key, "limit": each.limit_units} for each in answer.upgrades]
        body |= {"code": answer.code, "upgrade": upgrades}
    return body
