"""Show what stood at an earlier instant, from the ledger, the holds and the grants alone."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from core import errors
from core.models import Customer
from metering import derivation, grants, position
from metering.decision import Place
from metering.derivation import Derived
from metering.models import Balance, Grant, Hold, UsageEntry
from metering.selectors import Standing
from metering.services import retracing
from metering.services.retracing import Happening, Retraced
from subscriptions.facts import FeatureFacts
from subscriptions.selectors import History

Kind = UsageEntry.Kind
State = Hold.State
LINES_MAX = 100_000
EXPIRED, DONE = 0, 1


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
    since = _since(history, feature, given, derived)
    place = Place(feature.id, scope)
    read = _read(customer, place, since=since or derived.period.starts_at, at=at)
    read.given = given
    retraced: Retraced | None = None
    if since is not None and derived.allowance_units is not None:
        retraced = retracing.retrace(
            history=history,
            feature=feature,
            scope=scope,
            given=given,
            happenings=[
                each for each in _happenings(read, at) if max(each.at, each.usage_at) >= since
            ],
            since=since,
            until=at,
        )
        for each in given:
            source = retraced.state.sources.get(str(each.pk)) if retraced.state else None
            each.remaining_units = int(source.balance) if source is not None else each.units
    row = _row(customer, place, derived, read=read, retraced=retraced, at=at)
    return Stood(
        standing=Standing(feature=feature, derived=derived, balance=row),
        grants=_active(given, at),
        holds=[_hold_as_of(hold, read) for hold in read.holds if _is_live(hold, at)],
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


def _happenings(read: _Read, at: datetime) -> Iterator[Happening]:
    """Yield what the lines and holds up to the instant did to the sources."""
    holds = {(hold.operation_id, hold.drawn_for): hold for hold in read.holds}
    for line in read.lines:
        started = line.period_starts_at or line.consumed_at
        if line.kind in {Kind.CONSUME, Kind.RECORD}:
            yield _used(line, str(line.pk), line.units, usage_at=started)
        elif line.kind == Kind.REVERSAL and line.reverses is not None:
            yield from _reversed(line, line.reverses, holds, usage_at=started)
        elif line.kind in {Kind.CAPTURE, Kind.RELEASE} and (hold := _hold_of(line, holds)):
            yield from _ended(line, hold)
    for hold in read.holds:
        yield Happening(
            at=hold.created_at,
            rank=DONE,
            line_id=hold.entry_id,
            item_id=str(hold.entry_id),
            used_units=hold.units,
            usage_at=hold.usage_at,
        )
        died_at = hold.expires_at
        if hold.state in {State.LIVE, State.EXPIRED} and died_at is not None and died_at <= at:
            yield Happening(
                at=died_at,
                rank=EXPIRED,
                line_id=hold.entry_id,
                item_id=str(hold.entry_id),
                returned_units=hold.units,
                usage_at=hold.usage_at,
            )


Holds = Mapping[tuple[UUID, int | None], Hold]


def _hold_of(line: UsageEntry, holds: Holds) -> Hold | None:
    return holds.get((line.hold_id, line.drawn_for)) if line.hold_id is not None else None


def _used(line: UsageEntry, item_id: str, units: int, *, usage_at: datetime) -> Happening:
    return Happening(
        at=line.consumed_at,
        rank=DONE,
        line_id=line.pk,
        item_id=item_id,
        used_units=units,
        usage_at=usage_at,
    )


def _returned(line: UsageEntry, item_id: str, units: int, *, usage_at: datetime) -> Happening:
    return Happening(
        at=line.consumed_at,
        rank=DONE,
        line_id=line.pk,
        item_id=item_id,
        returned_units=units,
        usage_at=usage_at,
    )


def _ended(line: UsageEntry, hold: Hold) -> Iterator[Happening]:
    """Yield what ended the hold; a line that found it ended did nothing."""
    if line.consumed_at != hold.ended_at:
        return
    captured = line.units if line.kind == Kind.CAPTURE else 0
    left = hold.units - min(captured, hold.units)
    if left:
        yield _returned(line, str(hold.entry_id), left, usage_at=hold.usage_at)
    if captured > hold.units:
        yield _used(line, str(line.pk), captured - hold.units, usage_at=hold.usage_at)


def _reversed(
    line: UsageEntry, original: UsageEntry, holds: Holds, *, usage_at: datetime
) -> Iterator[Happening]:
    hold = _hold_of(original, holds) if original.kind == Kind.CAPTURE else None
    held = min(hold.units, original.units) if hold is not None else 0
    if hold is not None and held:
        yield _returned(line, str(hold.entry_id), held, usage_at=usage_at)
    if original.units > held:
        yield _returned(line, str(original.pk), original.units - held, usage_at=usage_at)


def _row(
    customer: Customer,
    place: Place,
    derived: Derived,
    *,
    read: _Read,
    retraced: Retraced | None,
    at: datetime,
) -> Balance:
    """Return the balance of the period, unsaved, with the figures of the instant."""
    if derived.period is None:
        raise AssertionError
    starts_at, ends_at = derived.period.starts_at, derived.period.ends_at
    own = [line for line in read.lines if line.period_starts_at == starts_at]
    row = Balance(
        customer=customer,
        feature_id=place.feature_id,
        scope=place.scope,
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
            if _is_live(hold, at)
            and starts_at <= hold.usage_at
            and (ends_at is None or hold.usage_at < ends_at)
        ),
        carried_units=retraced.carried_units if retraced is not None else _late(read, starts_at),
        denial_code=derived.denial_code,
        decided_at=at,
    )
    if retraced is not None and retraced.state is not None:
        left = sum(
            int(each.balance) for each in retraced.state.sources.values() if each.is_active(at)
        )
        row.limit_units = row.counted_units - int(retraced.state.overage) + left
    row.ceiling_units = position.ceiling_of(row)
    return row


def _late(read: _Read, starts_at: datetime) -> int:
    """Return what came late for earlier periods, and counts in this one."""
    return sum(
        line.units
        for line in read.lines
        if line.kind == Kind.RECORD
        and line.period_starts_at is not None
        and line.period_starts_at < starts_at <= line.consumed_at
    )


def _is_live(hold: Hold, at: datetime) -> bool:
    """Tell whether the hold lived at the instant."""
    ends = [each for each in (hold.ended_at, hold.expires_at) if each is not None]
    return hold.created_at <= at and all(at < each for each in ends)


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
