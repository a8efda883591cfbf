"""Consume units: lock, read the time, decide, count and record in one transaction."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7

from core import clock as clocks
from core import db
from core import errors as core_errors
from core.models import Customer
from core.services import idempotency
from core.services.idempotency import KeyedRequest
from metering import decision, errors, locks
from metering.decision import Denied, Granted
from metering.models import Balance, UsageEntry
from metering.services import balances, denials, ledger
from subscriptions import errors as subscription_errors
from subscriptions import selectors as subscription_selectors
from subscriptions import switches
from subscriptions.models import Feature
from subscriptions.selectors import FeatureFacts

ITEMS_MAX = 20


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """So many units of one feature, by its key; 1 … 10^12."""

    feature_key: str
    units: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one caller asks to consume: 1 … 20 items, all or nothing, under one key."""

    customer_id: UUID
    wanted: Sequence[Wanted]
    keyed: KeyedRequest
    metadata: Mapping[str, object] = field(default_factory=dict)
    request_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Consumed:
    """The ledger entries of a granted operation, by item, and whether they are a replay."""

    entries: Sequence[UsageEntry]
    replayed: bool


@db.operation
def consume(request: Request, *, clock: clocks.Clock) -> Consumed:
    """Count the units, all or none, exactly once under the request's key.

    On return the units are committed: `used + held ≤ limit` held under the row's lock at the
    instant read after it. A denial is committed too, and replayed under its key.

    :raises UsageDenied: with the failing item's feature; recorded under the key.
    :raises PaymentRequired: until the first payment; not recorded.
    :raises FeatureUnknown, FeatureNotMetered: for a key that names no metered feature.
    :raises IdempotencyKeyReused: where the key stands for another request.
    :raises IdempotencyInProgress: where the key's first request has not ended in time.
    """
    recorded = _find_recorded(request)
    if recorded:
        return _answer(recorded, replayed=True)
    features = get_metered_features(keys=[each.feature_key for each in request.wanted])
    try:
        entries = _consume_fast(request, features, clock)
        if entries is None:
            entries = _consume_slow(request, features, clock)
    except (idempotency.KeyTaken, errors.PaymentRequired):
        recorded = _find_recorded(request)
        if not recorded:
            raise
        return _answer(recorded, replayed=True)
    return _answer(entries, replayed=False)


def get_metered_features(*, keys: Collection[str]) -> dict[str, FeatureFacts]:
    """Return the features by key.

    :raises FeatureUnknown: where a key names none: a typo is never a silent denial.
    :raises FeatureNotMetered: where a feature is a switch or a value.
    :raises FeatureSuspended: where an operator has switched a feature off.
    """
    features = subscription_selectors.find_features(keys=set(keys))
    for key in keys:
        if key not in features:
            raise subscription_errors.FeatureUnknown.named(key)
        if features[key].type != Feature.Type.METERED:
            detail = f"{key} is a {features[key].type} feature; it is not counted."
            raise errors.FeatureNotMetered(detail, facts={"feature": key})
        switches.refuse_suspended(feature_id=features[key].id, feature_key=key)
    return features


def _find_recorded(request: Request) -> list[UsageEntry]:
    return ledger.find_operation(
        customer_id=request.customer_id,
        key=request.keyed.key,
        fingerprint=request.keyed.fingerprint,
    )


class _RowsMissing(Exception):
    """Roll the fast path back: a row is not there, or no longer valid."""


def _consume_fast(
    request: Request, features: Mapping[str, FeatureFacts], clock: clocks.Clock
) -> list[UsageEntry] | None:
    """Decide on the current rows alone; None where one is missing or must be derived again."""
    feature_ids = {feature.id for feature in features.values()}
    try:
        with db.transaction():
            rows = locks.lock_current_balances(
                customer_id=request.customer_id, feature_ids=feature_ids
            )
            at = max([clock.now(), *(row.decided_at for row in rows)])
            if len(rows) < len(feature_ids) or not all(is_valid(row, at=at) for row in rows):
                raise _RowsMissing  # noqa: TRY301 - leaving the block is what rolls it back
            return _decide_and_record(
                request, features, {row.feature_id: row for row in rows}, {}, at
            )
    except _RowsMissing:
        return None


def is_valid(row: Balance, *, at: datetime) -> bool:
    """Tell whether what was derived on the row still holds at the instant."""
    return row.valid_until is None or at < row.valid_until


def _consume_slow(
    request: Request, features: Mapping[str, FeatureFacts], clock: clocks.Clock
) -> list[UsageEntry]:
    """Decide after deriving the rows anew under the customer's lock."""
    try:
        with db.transaction():
            settled = balances.lock_and_settle_step(
                customer_id=request.customer_id, features=features.values(), clock=clock
            )
            codes = {key: each.denial_code for key, each in settled.derived.items()}
            return _decide_and_record(request, features, settled.balances, codes, settled.at)
    except Customer.DoesNotExist as error:
        detail = "There is no such customer."
        raise core_errors.NotFound(detail) from error


def _decide_and_record(
    request: Request,
    features: Mapping[str, FeatureFacts],
    rows: Mapping[int, Balance],
    codes: Mapping[int, str],
    at: datetime,
) -> list[UsageEntry]:
    """Decide all items, then write counters and entries: a denial writes its entry alone.

    The caller holds the locks of the rows.
    """
    items = [
        decision.Item(
            feature_id=features[each.feature_key].id,
            feature_key=each.feature_key,
            units=each.units,
        )
        for each in request.wanted
    ]
    outcome = decision.decide(items, balances=rows, codes=codes)
    if isinstance(outcome, Denied):
        entries = [_denied_entry(request, outcome, at)]
    else:
        added: Counter[int] = Counter()
        for granted in outcome:
            added[granted.balance.pk] += granted.item.units
        balances.add_used_step(units_by_balance=added, at=at)
        entries = _granted_entries(request, outcome, at)
    ledger.append_step(entries=entries)
    return entries


def _granted_entries(
    request: Request, granted: Sequence[Granted], at: datetime
) -> list[UsageEntry]:
    operation_id = uuid7()
    entries = [
        _entry(request, operation_id, each.item, each.balance, at, used_units=each.used_units)
        for each in granted
    ]
    for item, entry in enumerate(entries):
        entry.item = item
        entry.fingerprint = "" if item else request.keyed.fingerprint
    if len(entries) == 1:
        entries[0].id = operation_id
    return entries


def _denied_entry(request: Request, denied: Denied, at: datetime) -> UsageEntry:
    """Return the record of a denial.

    :raises PaymentRequired: instead, since it is not recorded.
    """
    denial = denials.describe(denied, request_id=request.request_id)
    operation_id = uuid7()
    used_units = denied.balance.used_units if denied.balance else 0
    entry = _entry(request, operation_id, denied.item, denied.balance, at, used_units=used_units)
    entry.id = operation_id
    entry.kind = UsageEntry.Kind.DENIED
    entry.fingerprint = request.keyed.fingerprint
    entry.denial = denial
    return entry


def _entry(
    request: Request,
    operation_id: UUID,
    item: decision.Item,
    balance: Balance | None,
    at: datetime,
    *,
    used_units: int,
) -> UsageEntry:
    return UsageEntry(
        operation_id=operation_id,
        customer_id=request.customer_id,
        key=request.keyed.key,
        kind=UsageEntry.Kind.CONSUME,
        feature=Feature(pk=item.feature_id, key=item.feature_key),
        balance=balance,
        units=item.units,
        used_units=used_units,
        held_units=balance.held_units if balance else 0,
        limit_units=balance.limit_units if balance else 0,
        period_starts_at=balance.period_starts_at if balance else None,
        period_ends_at=balance.period_ends_at if balance else None,
        consumed_at=at,
        metadata=dict(request.metadata),
    )


def _answer(entries: Sequence[UsageEntry], *, replayed: bool) -> Consumed:
    """Return the granted entries, or raise the recorded denial."""
    if entries[0].kind == UsageEntry.Kind.DENIED:
        raise denials.recorded(entries[0], replayed=replayed)
    return Consumed(entries=entries, replayed=replayed)
