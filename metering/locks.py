"""Lock balances, grants and holds, in the order of `core.db.LockRank`."""

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from core import db
from metering.decision import Place
from metering.models import Balance, Grant, Hold


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
    *, customer_id: UUID, feature_ids: Collection[int] | None, after: datetime
) -> list[Balance]:
    """Lock the rows that decide, those whose period ends after an instant, and those that hold.

    The caller holds the customer's lock; `after` is a reading of the clock before this waits.
    None for `feature_ids` means every feature.
    """
    rows = Balance.objects.filter(customer_id=customer_id).open_after(after)
    if feature_ids is not None:
        rows = rows.filter(feature_id__in=feature_ids)
    return _locked(rows)


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
    return list(
        rows.order_by("customer_id", "feature_id", "scope", "id").select_for_update(
            no_key=True, of=("self",)
        )
    )


def lock_grants(*, customer_id: UUID, feature_ids: Collection[int]) -> list[Grant]:
    """Lock the customer's grants of these features; the caller holds the balances' locks."""
    db.note_lock(rank=db.LockRank.GRANT, key="")
    return list(
        Grant.objects.filter(customer_id=customer_id, feature_id__in=feature_ids)
        .order_by("id")
        .select_for_update(no_key=True, of=("self",))
    )


def lock_due_holds(*, balance_ids: Collection[int], at: datetime) -> list[Hold]:
    """Lock the live holds of these balances that are dead by the instant."""
    return _locked_holds(
        Hold.objects.filter(balance_id__in=balance_ids, state=Hold.State.LIVE, expires_at__lte=at)
    )


def lock_moving_holds(
    *, customer_id: UUID, feature_ids: Collection[int], at: datetime
) -> list[Hold]:
    """Lock the live holds of these features that are dead by the instant or provisional."""
    return _locked_holds(
        Hold.objects.moving(customer_id=customer_id, feature_ids=feature_ids, at=at)
    )


def lock_live_holds(*, customer_id: UUID, feature_ids: Collection[int]) -> list[Hold]:
    """Lock all live holds of these features."""
    return _locked_holds(
        Hold.objects.filter(
            customer_id=customer_id, feature_id__in=feature_ids, state=Hold.State.LIVE
        )
    )


def lock_operation_holds(*, customer_id: UUID, operation_ids: Collection[UUID]) -> list[Hold]:
    """Lock the holds of these operations; the caller holds their balances' locks."""
    return _locked_holds(
        Hold.objects.filter(customer_id=customer_id, operation_id__in=operation_ids)
    )


def _locked_holds(rows: "QuerySet[Hold]") -> list[Hold]:
    db.note_lock(rank=db.LockRank.HOLD, key="")
    return list(rows.order_by("id").select_for_update(no_key=True, of=("self",)))
