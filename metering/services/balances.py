"""Keep a customer's balances true to what a change by hand makes of them."""

from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core import db, events
from core.models import Customer
from metering import derivation, errors, locks, position
from metering.decision import Place
from metering.models import Balance, Grant, Hold
from metering.position import ALLOWANCE
from metering.services import opening, prorating
from metering.services.books import Books, place_of
from metering.services.prorating import Moved
from subscriptions import planning
from subscriptions import selectors as subscription_selectors
from subscriptions.facts import FeatureFacts
from subscriptions.models import Subscription

NOTHING = Moved(units={})


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What becomes of the usage so far of a plan group's features."""

    name: str
    plan_group_id: int | None = None

    @property
    def opens_generation(self) -> bool:
        """Tell whether the count begins anew."""
        return self.name in {planning.RESET, planning.CARRY_BALANCE}


KEEP = Policy(name=planning.KEEP)


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
    if not all(_is_settled(row, at=at) for row in rows if row.is_current):
        _carried(customer, rows, at=at).write_step()


def _is_settled(row: Balance, *, at: datetime) -> bool:
    """Tell whether the row shows what it has come to: also what dead holds have given back."""
    is_due = row.holds_due_at is not None and row.holds_due_at <= at
    return opening.is_valid(row, at=at) and not is_due


def rederive_step(event: events.Event) -> None:
    """Re-derive the customer's current balances at the instant of a change by hand.

    The caller holds the customer's lock and took `lock_rows_of_change` before it read the time.
    The event's `usage_policy` says what becomes of the usage so far of the plan group's features:
    `keep` it, `prorate_limit` by what is left of the period (which opens what was not open),
    `reset` it, or `carry_balance` that is left.

    :raises AllocatedUsageExceedsLimit: where fewer allocated units were left than are taken.
    """
    rows = _open_rows(event.customer_id, at=event.occurred_at)
    policy = _policy_of(event)
    moved = prorating.moved_by(event) if policy.name == planning.PRORATE_LIMIT else NOTHING
    places = moved.places
    if rows or places:
        customer = Customer.objects.get(pk=event.customer_id)
        at = event.occurred_at
        _rederive(customer, rows, at=at, policy=policy, places=places, moved=moved)


def _policy_of(event: events.Event) -> Policy:
    name = str(event.payload.get("usage_policy") or planning.KEEP)
    if name == planning.KEEP:
        return KEEP
    changed = Subscription.objects.get(pk=UUID(str(event.payload["subscription"])))
    return Policy(name=name, plan_group_id=changed.plan_group_id)


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
    policy: Policy = KEEP,
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
    books: Books, row: Balance, former: Balance, feature: FeatureFacts, *, policy: Policy
) -> None:
    if feature.is_allocated and row.limit_units is not None:
        _refuse_fewer(row, former, feature)
    elif policy.opens_generation and feature.plan_group_id == policy.plan_group_id:
        carries = policy.name == planning.CARRY_BALANCE
        _open_generation(books, row, feature, left=_left(former) if carries else 0)


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


def _open_generation(books: Books, row: Balance, feature: FeatureFacts, *, left: int) -> None:
    """Start the period's count anew on a row of its own, with what is left of the old one;
    open holds move there, and nothing is withheld any more.
    """
    if books.facts is None:
        raise AssertionError
    fresh = copy(row)
    fresh.pk, fresh.generation, fresh.epoch = None, row.generation + 1, row.epoch + 1
    fresh.used_units = fresh.carried_units = fresh.withheld_units = 0
    derived = derivation.derive(books.facts, feature=feature, at=books.at, scope=row.scope)
    fresh.allowance_units = derived.allowance_units
    holds = list(Hold.objects.filter(balance=row, state=Hold.State.LIVE).order_by("id"))
    state = books.state_of(row)
    if state is not None:
        amount = derived.allowance_units or 0
        position.begin_generation(state, amount=amount, left=left, holds=holds, at=books.at)
        fresh.epoch = state.sources[ALLOWANCE].epoch
    elif row.limit_units is not None:
        fresh.limit_units = (fresh.allowance_units or 0) + left
    books.replace_step(row, fresh, holds=holds)
