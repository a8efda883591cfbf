"""Keep a customer's balances true to what a change by hand makes of them."""

from collections.abc import Collection, Sequence
from copy import copy
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core import db, events
from core.models import Customer
from metering import burndown, errors, locks, position
from metering.decision import Place
from metering.models import Balance, Grant, Hold
from metering.position import ALLOWANCE
from metering.services import opening, prorating
from metering.services.books import Books, place_of
from metering.services.prorating import Moved
from subscriptions import selectors as subscription_selectors
from subscriptions.facts import FeatureFacts

NOTHING = Moved(units={})
KEEP, PRORATE, RESET, CARRY = "keep", "prorate_limit", "reset", "carry_balance"


def lock_rows_of_change(*, customer: Customer, clock: clocks.Clock) -> None:
    """Lock every open balance of the customer, its grants and holds, and settle it.

    What a balance came to by the time is settled by what was in force until now; only then may
    the change be written.
    """
    after = clocks.instant_of(customer, clock=clock)
    rows = locks.lock_open_balances(customer_id=customer.pk, feature_ids=None, after=after)
    if not rows:
        return
    feature_ids = {row.feature_id for row in rows}
    locks.lock_grants(customer_id=customer.pk, feature_ids=feature_ids)
    locks.lock_live_holds(customer_id=customer.pk, feature_ids=feature_ids)
    at = clocks.instant_of(customer, clock=clock)
    if not all(opening.is_valid(row, at=at) for row in rows if row.is_current):
        _carried(customer, rows, at=at).write_step()


def rederive_step(event: events.Event) -> None:
    """Re-derive the customer's current balances at the instant of a change by hand.

    The caller holds the customer's lock and took `lock_rows_of_change` before it read the time.
    The event's `usage_policy` says what becomes of the usage so far: `keep` it, `prorate_limit`
    by what is left of the period (which opens what was not open), `reset` it, or `carry_balance`
    that is left.

    :raises AllocatedUsageExceedsLimit: where fewer allocated units were left than are taken.
    """
    rows = _open_rows(event.customer_id, at=event.occurred_at)
    policy = str(event.payload.get("usage_policy") or KEEP)
    moved = prorating.moved_by(event) if policy == PRORATE else NOTHING
    places = moved.places
    if rows or places:
        customer = Customer.objects.get(pk=event.customer_id)
        at = event.occurred_at
        _rederive(customer, rows, at=at, policy=policy, places=places, moved=moved)


def rederive(*, customer: Customer, at: datetime, place: Place) -> None:
    """Do what `rederive_step` says at one place; the caller holds the locks."""
    db.transaction_required()
    rows = [row for row in _open_rows(customer.pk, at=at) if row.feature_id == place.feature_id]
    _rederive(customer, rows, at=at, places={place})


def _open_rows(customer_id: UUID, *, at: datetime) -> list[Balance]:
    return list(Balance.objects.filter(customer=customer_id).open_after(at))


def _rederive(
    customer: Customer,
    rows: Sequence[Balance],
    *,
    at: datetime,
    places: Collection[Place],
    policy: str = KEEP,
    moved: Moved = NOTHING,
) -> None:
    before = {place_of(row): copy(row) for row in rows if row.is_current}
    wanted = before.keys() | set(places)
    books = _carried(customer, rows, at=at, places=places)
    features = subscription_selectors.features_by_id(ids={each.feature_id for each in wanted})
    for each in sorted(wanted):
        row, former, feature = books.current.get(each), before.get(each), features[each.feature_id]
        if row is None:
            continue
        if former is not None:
            _follow_policy(books, row, former, feature, policy=policy)
        if not feature.is_allocated:
            prorating.prorate(books, row=row, units=moved.units.get(feature.id, 0))
    books.write_step()


def _carried(
    customer: Customer, rows: Sequence[Balance], *, at: datetime, places: Collection[Place] = ()
) -> Books:
    """Return books on the rows, carried to the instant by what is in force; not yet written."""
    wanted = {place_of(row) for row in rows if row.is_current} | set(places)
    features = subscription_selectors.features_by_id(ids={each.feature_id for each in wanted})
    latest = max([at, *(row.decided_at for row in rows)])
    books = Books(customer_id=customer.pk, at=latest, rows={row.pk: row for row in rows})
    given = list(Grant.objects.filter(customer=customer, feature_id__in=features).order_by("id"))
    holds = list(Hold.objects.moving(customer_id=customer.pk, feature_ids=features, at=latest))
    opening.carry_step(
        books, customer=customer, places=wanted, features=features, given=given, holds=holds
    )
    return books


def _follow_policy(
    books: Books, row: Balance, former: Balance, feature: FeatureFacts, *, policy: str
) -> None:
    if feature.is_allocated and row.limit_units is not None:
        _refuse_fewer(row, former, feature)
    elif policy in {RESET, CARRY}:
        _open_generation(books, row, left=_left(former) if policy == CARRY else 0)


def _refuse_fewer(row: Balance, former: Balance, feature: FeatureFacts) -> None:
    limit = row.limit_units or 0
    lowered = former.limit_units is None or limit < former.limit_units
    if lowered and row.used_units + row.held_units > limit:
        taken = row.used_units + row.held_units
        detail = f"{taken} {feature.key} are taken, the change leaves {limit}."
        facts = {"feature": feature.key, "used": taken, "limit": limit}
        raise errors.AllocatedUsageExceedsLimit(detail, facts=facts)


def _left(row: Balance) -> int:
    """Return what is left of a row's allowance."""
    if row.allowance_left_units is not None:
        return row.allowance_left_units
    return max((row.limit_units or 0) - row.counted_units, 0)


def _open_generation(books: Books, row: Balance, *, left: int) -> None:
    """Start the period's count anew on a row of its own, with what is left of the old one;
    open holds move there.
    """
    fresh = copy(row)
    fresh.pk, fresh.generation, fresh.epoch = None, row.generation + 1, row.epoch + 1
    fresh.used_units = fresh.carried_units = fresh.withheld_units = 0
    holds = list(Hold.objects.filter(balance=row, state=Hold.State.LIVE).order_by("id"))
    state = books.state_of(row)
    if state is not None:
        for hold in holds:
            position.give_back(state, hold=hold, at=books.at)
        allowance = state.sources[ALLOWANCE]
        allowance.balance = left
        kept = (allowance.rollover_min, allowance.rollover_max)
        allowance.rollover_min, allowance.rollover_max = 0, None
        burndown.reset(
            state, at=books.at, period_ends_at=row.period_ends_at, preserve_overage=False
        )
        allowance.rollover_min, allowance.rollover_max = kept
        for hold in holds:
            burndown.use(state, item_id=str(hold.entry_id), at=books.at, units=hold.units)
        fresh.epoch = allowance.epoch
    elif row.limit_units is not None:
        fresh.limit_units = (row.allowance_units or 0) + left
    books.replace_step(row, fresh, holds=holds)
