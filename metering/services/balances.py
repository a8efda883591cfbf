"""Keep balance rows true to what is derived; counters move relatively, the rest absolutely."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import BigIntegerField, Case, F, Value, When

from core import clock as clocks
from core import db, events
from core import locks as core_locks
from core.models import Customer
from metering import derivation, locks
from metering.derivation import Derived
from metering.models import Balance
from subscriptions import locks as subscription_locks
from subscriptions import selectors as subscription_selectors
from subscriptions.selectors import FeatureFacts


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What decides about some features at an instant, derived under the customer's lock."""

    at: datetime
    balances: dict[int, Balance]
    derived: dict[int, Derived]


def lock_and_settle_step(
    *, customer_id: UUID, features: Collection[FeatureFacts], clock: clocks.Clock
) -> Settled:
    """Lock customer, subscriptions and balances, read the time, and open what the time demands.

    The slow path: it derives only from what is read after these locks.

    :raises Customer.DoesNotExist: where there is no such customer.
    """
    customer = core_locks.lock_customer(customer_id=customer_id)
    subscription_locks.lock_subscriptions(customer_id=customer_id)
    rows = locks.lock_open_balances(
        customer_id=customer_id,
        feature_ids=[feature.id for feature in features],
        after=clock.now(),
    )
    at = max([clock.now(), *(row.decided_at for row in rows)])
    return settle_step(customer=customer, features=features, rows=rows, at=at)


def settle_step(
    *,
    customer: Customer,
    features: Collection[FeatureFacts],
    rows: Sequence[Balance],
    at: datetime,
) -> Settled:
    """Derive each feature at the instant and write its row; a missing row is opened.

    The caller holds the locks of the customer, the subscriptions and the rows.
    A feature without a usage period keeps the row that it has, closed by a denial code.
    """
    db.transaction_required()
    facts = subscription_selectors.get_customer_facts(customer=customer)
    balances: dict[int, Balance] = {}
    derived: dict[int, Derived] = {}
    for feature in features:
        derived[feature.id] = derivation.derive(facts, feature=feature, at=at)
        own_rows = [row for row in rows if row.feature_id == feature.id]
        row = _settle_row(derived[feature.id], customer, feature, own_rows, at)
        if row is not None:
            balances[feature.id] = row
    return Settled(at=at, balances=balances, derived=derived)


def _settle_row(
    derived: Derived,
    customer: Customer,
    feature: FeatureFacts,
    rows: Sequence[Balance],
    at: datetime,
) -> Balance | None:
    current = next((row for row in rows if row.is_current), None)
    if derived.period is None:
        return current and _written(current, derived, at=at)
    target = max(
        (row for row in rows if row.period_starts_at == derived.period.starts_at),
        key=lambda row: row.generation,
        default=None,
    )
    if current is not None and current is not target:
        Balance.objects.filter(pk=current.pk).update(is_current=False, decided_at=at)
    if target is None:
        return _opened(derived, customer=customer, feature=feature, at=at)
    return _written(target, derived, at=at)


def _opened(
    derived: Derived, *, customer: Customer, feature: FeatureFacts, at: datetime
) -> Balance:
    if derived.period is None:
        msg = "a balance needs a usage period"
        raise AssertionError(msg)
    return Balance.objects.create(
        customer=customer,
        feature_id=feature.id,
        period_starts_at=derived.period.starts_at,
        period_ends_at=derived.period.ends_at,
        mode=derived.mode,
        limit_units=derived.limit_units,
        overage_cap_units=derived.overage_cap_units,
        ceiling_units=derived.ceiling_units(counted_units=0),
        denial_code=derived.denial_code,
        valid_until=derived.next_change_at,
        decided_at=at,
    )


def _written(row: Balance, derived: Derived, *, at: datetime) -> Balance:
    """Write what is derived, absolutely; the counters of the locked row stay as they are."""
    row.is_current = True
    row.denial_code = derived.denial_code
    row.valid_until = derived.next_change_at
    row.decided_at = at
    if derived.period is not None:
        row.period_ends_at = derived.period.ends_at
        row.mode = derived.mode
        row.limit_units = derived.limit_units
        row.overage_cap_units = derived.overage_cap_units
        counted = row.used_units + row.held_units
        row.ceiling_units = derived.ceiling_units(counted_units=counted)
    row.save(update_fields=DERIVED_COLUMNS)
    return row


DERIVED_COLUMNS = (
    "is_current",
    "denial_code",
    "valid_until",
    "decided_at",
    "period_ends_at",
    "mode",
    "limit_units",
    "overage_cap_units",
    "ceiling_units",
)


def add_used_step(*, units_by_balance: Mapping[int, int], at: datetime) -> None:
    """Add to the used units of locked rows, relatively, in one statement.

    The rows' check against their ceiling stands as the second guard.
    """
    db.transaction_required()
    moved = Balance.objects.filter(pk__in=units_by_balance).update(
        used_units=F("used_units")
        + Case(
            *(
                When(pk=pk, then=Value(units, BigIntegerField()))
                for pk, units in units_by_balance.items()
            ),
            output_field=BigIntegerField(),
        ),
        decided_at=at,
    )
    if moved != len(units_by_balance):
        msg = f"{moved} of {len(units_by_balance)} locked balances were there to write"
        raise AssertionError(msg)


def lock_rows_of_change(customer_id: UUID) -> None:
    """Lock every open balance of the customer, before the clock of a change is read."""
    locks.lock_open_balances(
        customer_id=customer_id, feature_ids=None, after=clocks.process_clock().now()
    )


def rederive_step(event: events.Event) -> None:
    """Re-derive the customer's current balances at the instant of a change by hand.

    The caller holds the customer's lock and took `lock_rows_of_change` before it read the time.
    """
    customer = Customer.objects.get(pk=event.customer_id)
    rows = list(
        Balance.objects.filter(customer=customer)
        .open_after(event.occurred_at)
        .select_related("feature")
        .order_by("feature_id", "id")
    )
    features = {
        row.feature_id: subscription_selectors.facts_of(row.feature)
        for row in rows
        if row.is_current
    }
    settle_step(customer=customer, features=features.values(), rows=rows, at=event.occurred_at)
