"""Open the books on some places: from valid current rows alone, or under the customer's lock."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from django.db.models import QuerySet

from core import clock as clocks
from core import db, events, statements
from core import errors as core_errors
from core import locks as core_locks
from core.models import Customer
from metering import derivation, grants, locks, projection
from metering import position as rows_of
from metering.decision import Place
from metering.derivation import Derived
from metering.models import AlertThreshold, Balance, Grant, Hold
from metering.selectors import positions
from metering.services import afterwards
from metering.services.books import Books, RowsMissing, place_of
from subscriptions import locks as subscription_locks
from subscriptions import selectors as subscription_selectors
from subscriptions.facts import FeatureFacts

Outcome = TypeVar("Outcome")
Features = Mapping[int, FeatureFacts]


def decided(
    *,
    customer_id: UUID,
    places: Collection[Place],
    features: Features,
    clock: clocks.Clock,
    act: Callable[[Books], Outcome],
) -> Outcome:
    """Run what decides in a transaction of its own: on the fast path, or else on the slow one.

    The fast path locks the current rows alone; where one is missing, no longer valid, or holds
    on other rows are due, it is rolled back and starts again under the customer's lock. `act`
    writes through the books it is given, and may run twice.

    :raises NotFound: where there is no such customer.
    """
    try:
        with db.transaction():
            books = open_fast_step(
                customer_id=customer_id, places=places, features=features, clock=clock
            )
            return act(books)
    except RowsMissing:
        pass
    with db.transaction():
        customer = lock_customer_step(customer_id=customer_id)
        return act(open_slow_step(customer=customer, places=places, features=features, clock=clock))


def decided_on_rows(
    *,
    customer_id: UUID,
    balance_ids: Collection[int],
    features: Features,
    clock: clocks.Clock,
    act: Callable[[Books], Outcome],
    since: datetime | None = None,
) -> Outcome:
    """Run what ends usage on given rows, whatever their period: their units come back now.

    The rows that decide at their places are locked with them; where one of these is no longer
    valid, or `act` says so, it starts again under the customer's lock. So it does where a
    subscription may have ended `since`: `act` tells of it, and the facts know it.
    """
    try:
        with db.transaction():
            rows = locks.lock_balances(customer_id=customer_id, balance_ids=balance_ids)
            at = max([clock.now(), *(row.decided_at for row in rows)])
            if not all(is_valid(row, at=at) for row in rows if row.is_current):
                raise RowsMissing  # noqa: TRY301 - leaving the block is what rolls it back
            if since is not None and afterwards.may_have_ended(
                rows, features=features.values(), since=since, at=at
            ):
                raise RowsMissing  # noqa: TRY301
            by_id = {row.pk: row for row in rows}
            books = Books(customer_id=customer_id, at=at, rows=by_id, features=features)
            books.expire_due_step()
            return act(books)
    except RowsMissing:
        pass
    with db.transaction():
        customer = lock_customer_step(customer_id=customer_id)
        events.lock_for(event_types=(afterwards.RECORDED_LATE,), customer=customer, clock=clock)
        books = open_slow_step(
            customer=customer,
            places=None,
            features=features,
            clock=clock,
            balance_ids=balance_ids,
            ended_after=since,
        )
        return act(books)


def lock_customer_step(*, customer_id: UUID) -> Customer:
    """Lock the customer and then his subscriptions, as every composed operation begins.

    :raises NotFound: where there is no such customer.
    """
    try:
        customer = core_locks.lock_customer(customer_id=customer_id)
    except Customer.DoesNotExist as error:
        raise core_errors.NotFound("There is no such customer.") from error
    subscription_locks.lock_subscriptions(customer_id=customer_id)
    return customer


def open_fast_step(
    *, customer_id: UUID, places: Collection[Place], features: Features, clock: clocks.Clock
) -> Books:
    """Lock the current rows of the places, read the time, and let dead holds go.

    :raises RowsMissing: where a row is not there, is no longer valid, or another is needed.
    """
    rows = locks.lock_current_balances(customer_id=customer_id, places=places)
    at = max([clock.now(), *(row.decided_at for row in rows)])
    if len(rows) < len(places) or not all(is_valid(row, at=at) for row in rows):
        raise RowsMissing
    by_id = {row.pk: row for row in rows}
    books = Books(customer_id=customer_id, at=at, rows=by_id, features=features)
    books.expire_due_step()
    return books


def is_valid(row: Balance, *, at: datetime) -> bool:
    """Tell whether what was derived on the row still holds at the instant."""
    return row.valid_until is None or at < row.valid_until


def open_slow_step(
    *,
    customer: Customer,
    places: Collection[Place] | None,
    features: Features,
    clock: clocks.Clock,
    after: datetime | None = None,
    balance_ids: Collection[int] = (),
    ended_after: datetime | None = None,
) -> Books:
    """Lock the features' balances, read the time, and carry every place to it.

    The caller holds the locks of the customer and his subscriptions. It derives only from what
    is read after these locks. Grants and holds are locked after the time is read: who writes
    them holds their balance's lock, so that these locks never wait. None for `places` means
    every place that has a current row; `after` widens the lock to periods, and the facts to
    subscriptions, that ended since; `ended_after` the facts alone; `balance_ids` the lock to
    these rows of the features, however long their periods are over.
    """
    ids = list(features)
    clock = clocks.customer_clock(customer, clock=clock)
    now = clock.now()
    rows = locks.lock_open_balances(
        customer_id=customer.pk,
        feature_ids=ids,
        after=min(now, after or now),
        balance_ids=balance_ids,
    )
    at = max([clock.now(), *(row.decided_at for row in rows)])
    given = locks.lock_grants(customer_id=customer.pk, feature_ids=ids)
    holds = locks.lock_moving_holds(customer_id=customer.pk, feature_ids=ids, at=at)
    books = Books(customer_id=customer.pk, at=at, rows={row.pk: row for row in rows})
    wanted = places if places is not None else {place_of(row) for row in rows if row.is_current}
    carry_step(
        books,
        customer=customer,
        places=wanted,
        features=features,
        given=given,
        holds=holds,
        ended_after=ended_after or after,
    )
    return books


def open_place_step(
    *, customer_id: UUID, feature: FeatureFacts, clock: clocks.Clock
) -> tuple[Customer, datetime]:
    """Lock the customer and all that the feature counts for him, and carry it to now.

    :raises NotFound: where there is no such customer.
    """
    customer = lock_customer_step(customer_id=customer_id)
    books = open_slow_step(
        customer=customer,
        places=[Place(feature.id, "")],
        features={feature.id: feature},
        clock=clock,
    )
    books.write_step()
    return customer, books.at


def row_at_step(
    books: Books, *, feature: FeatureFacts, at: datetime, scope: str = ""
) -> Balance | None:
    """Return the row of the period that holds an instant, past or to come; None without access.

    A row that is not there is opened without the mark: it counts, and decides nothing. One of a
    period to come is derived as the entitlement stands for that instant, without rollover. The
    caller holds the locks of the slow path.
    """
    place = Place(feature.id, scope)
    if books.facts is None:
        raise AssertionError
    given = [each for each in books.given if each.feature_id == feature.id and not scope]
    derived = derivation.derive(
        books.facts,
        feature=feature,
        at=at,
        scope=scope,
        has_grants=any(not grants.is_over(each, at=at) for each in given),
    )
    own = [row for row in books.rows.values() if place_of(row) == place]
    current = next((row for row in own if row.is_current), None)
    is_own = derived.in_force.subscription not in books.facts.ended
    if current is not None and is_own and _holds(current, at=at):
        return current
    if derived.period is None:
        return None
    starts_at = derived.period.starts_at
    if current is not None and current.period_starts_at == starts_at:
        return current
    found = [row for row in own if row.period_starts_at == starts_at]
    stored = max(found, key=lambda each: each.generation, default=None)
    row = rows_of.other_row(
        stored,
        derived=derived,
        granted_units=_granted_units(books, place, derived, stored=stored, at=at),
        facts=books.facts,
        feature=feature,
        scope=scope,
    )
    if row._state.adding:  # noqa: SLF001 - Django tells only here whether it is stored
        row.decided_at = books.at
        row.save(force_insert=True)
        books.rows[row.pk] = row
    else:
        books.settle(row)
    return row


def _granted_units(
    books: Books, place: Place, derived: Derived, *, stored: Balance | None, at: datetime
) -> int:
    """Return what grants give to the period of an instant, beside what is promised to others."""
    outlook = books.outlook(place)
    if outlook is None:
        return 0
    state = books.state_at(place)
    return outlook.granted_units(
        state.sources if state is not None else {},
        at=books.at,
        usage_at=at,
        own_units=(derived.allowance_units or 0) - (stored.counted_units if stored else 0),
    )


def _holds(row: Balance, *, at: datetime) -> bool:
    ends_at = row.period_ends_at
    return row.period_starts_at <= at and (ends_at is None or at < ends_at)


@statements.compiled
def _list_thresholds(
    *, customer_id: UUID, feature_ids: Collection[int]
) -> QuerySet[AlertThreshold]:
    return AlertThreshold.objects.filter(customer_id=customer_id, feature_id__in=feature_ids)


def carry_step(
    books: Books,
    *,
    customer: Customer,
    places: Iterable[Place],
    features: Features,
    given: Sequence[Grant],
    holds: Sequence[Hold],
    ended_after: datetime | None = None,
) -> None:
    """Carry the places to the books' instant, by facts read now; the caller holds all locks."""
    past = subscription_selectors.get_customer_facts(customer=customer, ended_after=ended_after)
    facts = replace(past, ended=())
    books.facts, books.features, books.given = past, features, given
    thresholds = _list_thresholds(customer_id=customer.pk, feature_ids=features)
    rows = list(books.rows.values())
    codes = {}
    for place in sorted(places):
        position, stored = positions.position_of(
            place,
            feature=features[place.feature_id],
            rows=rows,
            given=given,
            holds=holds,
            thresholds=thresholds,
            at=books.at,
        )
        carried = projection.carry(position, facts=facts, at=books.at)
        codes[place] = carried.derived.denial_code
        books.adopt_step(carried, stored=stored)
    books.codes = codes
    books.promised = {each.entry_id: each for each in holds if each.is_provisional}
    for hold in holds:
        if hold.is_provisional and hold.state == Hold.State.LIVE:
            feature = features[hold.feature_id]
            row = row_at_step(books, feature=feature, at=hold.usage_at, scope=hold.scope)
            if row is not None and row.pk != hold.balance_id:
                books.rehome_step(hold, row)
