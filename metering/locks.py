"""Lock balances, grants and holds, in the order of `core.db.LockRank`."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from core import db, statements
from metering.decision import Place, Row, Spot
from metering.models import Balance, Grant, Hold

BRIEF_MS = 50
INSTANTS = 11  # where they begin among the columns of LOCK_ROWS
# Probes the index once for each spot; a join of the two lists may be planned as a scan. Instants
# come as text: the driver's loader is slower than all the rest of a row.
LOCK_ROWS = """
    SELECT spot.number, row.*
    FROM (SELECT * FROM unnest(%s::uuid[], %s::bigint[], %s::text[])
              WITH ORDINALITY AS spot (customer_id, feature_id, scope, number)
          ORDER BY customer_id, feature_id, scope) AS spot
    CROSS JOIN LATERAL
         (SELECT id, used_units, held_units, carried_units, limit_units, mode, overage_cap_units,
                 denial_code, is_plain, alert_units, valid_until::text, holds_due_at::text,
                 decided_at::text, period_starts_at::text, period_ends_at::text
          FROM metering_balance
          WHERE customer_id = spot.customer_id AND feature_id = spot.feature_id
            AND scope = spot.scope AND is_current
          FOR NO KEY UPDATE) AS row
"""
LOCK_FREE_ROWS = LOCK_ROWS.replace("FOR NO KEY UPDATE", "FOR NO KEY UPDATE SKIP LOCKED")


class Wait(StrEnum):
    """How long a group waits for rows that another transaction has locked."""

    PATIENTLY = "for each lock as long as any operation does"
    BRIEFLY = "50 ms for all of them"
    NOT_AT_ALL = "it leaves them out"


def lock_rows(*, spots: Sequence[Spot], wait: Wait) -> list[Row]:
    """Lock the rows that decide at the spots, in the lock order, and return those that came.

    A row that is not there does not come, nor does one that lost its mark while this waited,
    nor, where it does not wait, one that another transaction has locked.

    :raises OperationalError: where the wait was too long; the transaction is lost.
    """
    db.note_lock(rank=db.LockRank.BALANCE, key="")
    if not db.is_postgres():
        return _serialised_rows(spots)
    with connection.cursor() as cursor:
        if wait is Wait.BRIEFLY:
            cursor.execute(f"SET LOCAL statement_timeout = {BRIEF_MS}")
        cursor.execute(
            LOCK_FREE_ROWS if wait is Wait.NOT_AT_ALL else LOCK_ROWS,
            [
                db.array([spot.customer_id.hex for spot in spots]),
                db.array([spot.place.feature_id for spot in spots]),
                db.text_array([spot.place.scope for spot in spots]),
            ],
        )
        found = [
            Row(spots[columns[0] - 1], *columns[1:INSTANTS], *map(_instant, columns[INSTANTS:]))
            for columns in cursor.fetchall()
        ]
        if wait is Wait.BRIEFLY:
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
        return found


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _serialised_rows(spots: Sequence[Spot]) -> list[Row]:
    """Read the rows: on SQLite a transaction that may write is the only one."""
    wanted = set(spots)
    rows = Balance.objects.filter(
        customer_id__in={spot.customer_id for spot in spots},
        feature_id__in={spot.place.feature_id for spot in spots},
        is_current=True,
    )
    spotted = [(Spot(row.customer_id, Place(row.feature_id, row.scope)), row) for row in rows]
    return [
        Row(
            spot=spot,
            pk=row.pk,
            used_units=row.used_units,
            held_units=row.held_units,
            carried_units=row.carried_units,
            limit_units=row.limit_units,
            mode=row.mode,
            overage_cap_units=row.overage_cap_units,
            denial_code=row.denial_code,
            is_plain=row.is_plain,
            alert_units=row.alert_units,
            valid_until=row.valid_until,
            holds_due_at=row.holds_due_at,
            decided_at=row.decided_at,
            period_starts_at=row.period_starts_at,
            period_ends_at=row.period_ends_at,
        )
        for spot, row in spotted
        if spot in wanted
    ]


def lock_current_balances(*, customer_id: UUID, places: Collection[Place]) -> list[Balance]:
    """Lock the rows that decide about these places, without the customer's lock.

    A row that lost its mark while this waited does not come: the caller starts again on the
    slow path.
    """
    found = _locked(
        Balance.objects.filter(
            customer_id=customer_id,
            feature_id__in={place.feature_id for place in places},
            scope__in={place.scope for place in places},
            is_current=True,
        )
    )
    return [row for row in found if Place(row.feature_id, row.scope) in places]


def lock_open_balances(
    *,
    customer_id: UUID,
    feature_ids: Collection[int] | None,
    after: datetime,
    balance_ids: Collection[int] = (),
) -> list[Balance]:
    """Lock the rows that decide, those whose period ends after an instant, and those that hold.

    Named rows of the features come with them.

    The caller holds the customer's lock; `after` is a reading of the clock before this waits.
    None for `feature_ids` means every feature.
    """
    db.note_lock(rank=db.LockRank.BALANCE, key="")
    return _open_balances(
        customer_id=customer_id, feature_ids=feature_ids, after=after, also=balance_ids or None
    )


@statements.compiled
def _open_balances(
    *,
    customer_id: UUID,
    feature_ids: Collection[int] | None,
    after: datetime,
    also: Collection[int] | None,
) -> "QuerySet[Balance]":
    rows = Balance.objects.filter(customer_id=customer_id).open_after(after, also=also)
    if feature_ids is not None:
        rows = rows.filter(feature_id__in=feature_ids)
    return _in_order(rows)


def lock_balances(*, customer_id: UUID, balance_ids: Iterable[int]) -> list[Balance]:
    """Lock the named rows, and those that decide at their places now."""
    named = Balance.objects.filter(customer_id=customer_id, pk__in=list(balance_ids))
    places = named.values("feature_id", "scope").distinct()
    at_places = Q()
    for place in places:
        at_places |= Q(feature_id=place["feature_id"], scope=place["scope"], is_current=True)
    return _locked(
        Balance.objects.filter(Q(pk__in=named.values("pk")) | at_places, customer_id=customer_id)
    )


def _locked(rows: "QuerySet[Balance]") -> list[Balance]:
    """Evaluate the rows under their locks, after noting the lowest place they may take."""
    db.note_lock(rank=db.LockRank.BALANCE, key="")
    return list(_in_order(rows))


def _in_order(rows: "QuerySet[Balance]") -> "QuerySet[Balance]":
    ordered = rows.order_by("customer_id", "feature_id", "scope", "id")
    return ordered.select_for_update(no_key=True, of=("self",))


def lock_grants(*, customer_id: UUID, feature_ids: Collection[int]) -> list[Grant]:
    """Lock the customer's grants of these features; the caller holds the balances' locks."""
    db.note_lock(rank=db.LockRank.GRANT, key="")
    return _grants(customer_id=customer_id, feature_ids=feature_ids)


@statements.compiled
def _grants(*, customer_id: UUID, feature_ids: Collection[int]) -> "QuerySet[Grant]":
    rows = Grant.objects.filter(customer_id=customer_id, feature_id__in=feature_ids)
    return rows.order_by("id").select_for_update(no_key=True, of=("self",))


def lock_due_holds(*, customer_id: UUID, places: Collection[Place], at: datetime) -> list[Hold]:
    """Lock the live holds at these places that are dead by the instant, on whichever row.

    The caller holds the locks of the rows that decide there.
    """
    found = _locked_holds(
        Hold.objects.filter(
            customer_id=customer_id,
            feature_id__in={place.feature_id for place in places},
            state=Hold.State.LIVE,
            expires_at__lte=at,
        )
    )
    return [hold for hold in found if Place(hold.feature_id, hold.scope) in places]


def lock_moving_holds(
    *, customer_id: UUID, feature_ids: Collection[int], at: datetime
) -> list[Hold]:
    """Lock the live holds of these features that are dead by the instant or provisional."""
    db.note_lock(rank=db.LockRank.HOLD, key="")
    return _moving_holds(customer_id=customer_id, feature_ids=feature_ids, at=at)


@statements.compiled
def _moving_holds(
    *, customer_id: UUID, feature_ids: Collection[int], at: datetime
) -> "QuerySet[Hold]":
    return _by_id(Hold.objects.moving(customer_id=customer_id, feature_ids=feature_ids, at=at))


def lock_live_holds(*, customer_id: UUID, feature_ids: Collection[int]) -> list[Hold]:
    """Lock all live holds of these features."""
    return _locked_holds(
        Hold.objects.filter(
            customer_id=customer_id, feature_id__in=feature_ids, state=Hold.State.LIVE
        )
    )


def lock_operation_holds(*, customer_id: UUID, operation_ids: Collection[UUID]) -> list[Hold]:
    """Lock the holds of these operations; the caller holds their balances' locks."""
    db.note_lock(rank=db.LockRank.HOLD, key="")
    return _operation_holds(customer_id=customer_id, operation_ids=operation_ids)


@statements.compiled
def _operation_holds(*, customer_id: UUID, operation_ids: Collection[UUID]) -> "QuerySet[Hold]":
    return _by_id(Hold.objects.filter(customer_id=customer_id, operation_id__in=operation_ids))


def _locked_holds(rows: "QuerySet[Hold]") -> list[Hold]:
    db.note_lock(rank=db.LockRank.HOLD, key="")
    return list(_by_id(rows))


def _by_id(rows: "QuerySet[Hold]") -> "QuerySet[Hold]":
    return rows.order_by("id").select_for_update(no_key=True, of=("self",))
