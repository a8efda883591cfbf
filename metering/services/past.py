"""Show what stood at an earlier instant, from the ledger, the holds and the grants alone."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Q

from core import errors
from core.models import Customer
from metering import burndown, derivation, grants, position
from metering.decision import Place
from metering.derivation import Derived
from metering.models import Balance, Grant, Hold, UsageEntry
from metering.promises import Outlook, Promise
from metering.selectors import Standing
from metering.services import happenings, policies, retracing
from metering.services.policies import Policies
from metering.services.retracing import Retraced
from subscriptions.facts import CustomerFacts, FeatureFacts
from subscriptions.selectors import History

Kind = UsageEntry.Kind
LINES_MAX = 100_000


@dataclass(frozen=True, kw_only=True)
class Stood:
    """One feature as it stood: what was derived and counted, its grants and its live holds."""

    standing: Standing
    grants: Sequence[Grant]
    holds: Sequence[Hold]


@dataclass(kw_only=True)
class _Read:
    """What is kept of one place up to an instant."""

    lines: Sequence[UsageEntry] = ()
    holds: Sequence[Hold] = ()
    given: Sequence[Grant] = field(default_factory=list)
    policies: Policies = policies.NOTHING


def stood_at(
    history: History, *, customer: Customer, feature: FeatureFacts, scope: str, at: datetime
) -> Stood:
    """Return a place as it stood at an instant, in a constant number of statements.

    Where units came from grants, rolled over or were kept as overage, the burn-down is retraced
    from the first of them on.

    :raises Invalid: where more than 100,000 lines or 50,000 boundaries would have to be read.
    """
    known = Grant.objects.filter(customer=customer, feature=feature.id, created_at__lte=at)
    given = [] if scope else [_as_of(each, at) for each in known.order_by("id")]
    derived = derivation.derive(
        history.facts_at(at),
        feature=feature,
        at=at,
        scope=scope,
        has_grants=any(not grants.is_over(each, at=at) for each in given),
    )
    if derived.period is None:
        standing = Standing(feature=feature, derived=derived, balance=None)
        return Stood(standing=standing, grants=_active(given, at), holds=())
    followed = policies.list_policies(
        history, customer=customer, feature=feature, scope=scope, until=at
    )
    starts_at = derived.period.starts_at
    changed = policies.retraced_from(
        followed, history=history, feature=feature, scope=scope, starts_at=starts_at
    )
    since = min(filter(None, (_since(history, feature, given, derived), changed)), default=None)
    place = Place(feature.id, scope)
    read = _read(customer, place, since=since or starts_at, at=at)
    read.given, read.policies = given, followed
    retraced: Retraced | None = None
    if since is not None and derived.allowance_units is not None:
        told = happenings.list_happenings(lines=read.lines, holds=read.holds, at=at)
        retraced = retracing.retrace(
            history=history,
            feature=feature,
            scope=scope,
            given=given,
            happenings=[each for each in told if max(each.at, each.usage_at) >= since],
            followed=followed.moving(read.holds),
            since=since,
            until=at,
        )
        for each in given:
            source = retraced.state.sources.get(str(each.pk)) if retraced.state else None
            each.remaining_units = int(source.balance) if source is not None else each.units
    facts = history.facts_at(at)
    row = _row(facts, feature, derived, scope=scope, read=read, retraced=retraced, at=at)
    return Stood(
        standing=Standing(feature=feature, derived=derived, balance=row),
        grants=_active(given, at),
        holds=[_hold_as_of(hold, read) for hold in read.holds if hold.lived_at(at)],
    )


def _as_of(grant: Grant, at: datetime) -> Grant:
    """Return the grant as it was known: a void that came later is not known yet."""
    known = copy(grant)
    known.remaining_units, known.epoch = known.units, 0
    if known.voided_at is not None and known.voided_at > at:
        known.voided_at = None
    return known


def _active(given: Sequence[Grant], at: datetime) -> list[Grant]:
    return [each for each in given if grants.source_of(each).is_active(at)]


def _since(
    history: History, feature: FeatureFacts, given: Sequence[Grant], derived: Derived
) -> datetime | None:
    """Return from where the burn-down must be retraced; None where the allowance alone covers."""
    versions = [*history.facts.versions.values(), *history.facts.default_versions]
    terms = [each.entitlements.get(feature.key) for each in versions]
    if any(each and (each.rollover_max_units != 0 or each.preserves_overage) for each in terms):
        return history.facts.customer.created_at
    if not given or derived.period is None:
        return None
    first = min(each.created_at for each in given)
    before = derivation.derive(
        history.facts_at(first), feature=feature, at=first, has_grants=True
    ).period
    return before.starts_at if before is not None else first


def _read(customer: Customer, place: Place, *, since: datetime, at: datetime) -> _Read:
    rows = Balance.objects.filter(customer=customer, feature=place.feature_id, scope=place.scope)
    lines = UsageEntry.objects.filter(
        Q(consumed_at__gte=since) | Q(period_ends_at__isnull=True) | Q(period_ends_at__gt=since),
        balance__in=rows.values("pk"),
        consumed_at__lte=at,
    )
    found = list(lines.select_related("reverses").order_by("consumed_at", "id")[: LINES_MAX + 1])
    if len(found) > LINES_MAX:
        detail = f"More than {LINES_MAX} lines would have to be read."
        raise errors.Invalid.at("/at", code="too_far", detail=detail)
    made = [line.pk for line in found if line.kind == Kind.HOLD]
    holds = Hold.objects.filter(entry__in=made).order_by("created_at", "id")
    return _Read(lines=found, holds=list(holds))


def _row(
    facts: CustomerFacts,
    feature: FeatureFacts,
    derived: Derived,
    *,
    scope: str,
    read: _Read,
    retraced: Retraced | None,
    at: datetime,
) -> Balance:
    """Return the balance of the period, unsaved, with the figures of the instant."""
    if derived.period is None:
        raise AssertionError
    starts_at, ends_at = derived.period.starts_at, derived.period.ends_at
    own = read.policies.counted_in(read.lines, starts_at=starts_at)
    row = Balance(
        customer=facts.customer,
        feature_id=feature.id,
        scope=scope,
        period_starts_at=starts_at,
        period_ends_at=ends_at,
        mode=derived.terms.mode,
        overage_cap_units=derived.terms.overage_cap_units,
        limit_units=derived.allowance_units,
        allowance_units=derived.allowance_units,
        used_units=own[-1].used_units if own else 0,
        held_units=sum(
            hold.units
            for hold in read.holds
            if hold.lived_at(at) and derived.period.contains(hold.usage_at)
        ),
        carried_units=retraced.carried_units if retraced is not None else _late(read, starts_at),
        denial_code=derived.denial_code,
        decided_at=at,
    )
    state = retraced.state if retraced is not None else None
    if state is not None:
        later = _promised(read, since=ends_at, at=at) if ends_at is not None else ()
        outlook = Outlook(facts=facts, feature=feature, grants=read.given, promises=later)
        left = int(burndown.balance(state, at=at))
        left -= outlook.kept_now(state, at=at, starts_at=starts_at)
        row.limit_units = row.counted_units - int(state.overage) + left
    row.ceiling_units = position.ceiling_of(row)
    return row


def _promised(read: _Read, *, since: datetime, at: datetime) -> list[Promise]:
    """Return what was held then, or captured early, for periods that begin at `since` or later."""
    undone = {
        line.reverses.hold_id
        for line in read.lines
        if line.kind == Kind.REVERSAL and line.reverses is not None
    }
    promises = []
    for hold in read.holds:
        units = hold.units if hold.lived_at(at) else hold.captured_units
        if hold.usage_at >= since and units and hold.operation_id not in undone:
            promises.append(Promise(usage_at=hold.usage_at, units=units))
    return promises


def _late(read: _Read, starts_at: datetime) -> int:
    """Return what came late for earlier periods, and counts in this one."""
    since = read.policies.opened_at(starts_at) or starts_at
    return sum(
        line.units
        for line in read.lines
        if line.kind == Kind.RECORD
        and line.period_starts_at is not None
        and line.period_starts_at < starts_at
        and since <= line.consumed_at
    )


def _hold_as_of(hold: Hold, read: _Read) -> Hold:
    """Return the hold with the expiry that it had, which may have been extended later."""
    known = copy(hold)
    told = [
        line.expires_at
        for line in read.lines
        if line.hold_id == hold.operation_id and line.kind in {Kind.HOLD, Kind.EXTENSION}
    ]
    known.expires_at = told[-1] if told else hold.expires_at
    return known


def row_before(line: UsageEntry) -> Balance | None:
    """Return the balance as the decision of a line found it; None where it found none."""
    if line.balance is None:
        return None
    shown = copy(line.balance)
    is_held = line.kind == UsageEntry.Kind.HOLD
    is_used = line.kind == UsageEntry.Kind.CONSUME
    shown.used_units = line.used_units - (line.units if is_used else 0)
    shown.held_units = line.held_units - (line.units if is_held else 0)
    shown.carried_units, shown.limit_units = line.carried_units, line.limit_units
    shown.denial_code, shown.is_current = "", True
    shown.valid_until = shown.holds_due_at = None
    return shown
