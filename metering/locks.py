"""Lock balances, in the order of `core.db.LockRank`: by customer, feature, scope."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from core import db
from metering.models import Balance


def lock_current_balances(*, customer_id: UUID, feature_ids: Collection[int]) -> list[Balance]:
    """Lock the rows that decide about these features, without the customer's lock.

    A row that lost its mark while this waited does not come: the caller starts again on the
    slow path.
    """
    return _locked(
        Balance.objects.filter(customer_id=customer_id, feature_id__in=feature_ids, is_current=True)
    )


def lock_open_balances(
    *, customer_id: UUID, feature_ids: Collection[int] | None, after: datetime
) -> list[Balance]:
    """Lock the rows that decide, and those whose period ends after an instant.

    The caller holds the customer's lock; `after` is a reading of the clock before this waits.
    None for `feature_ids` means every feature.
    """
    rows = Balance.objects.filter(customer_id=customer_id).open_after(after)
    if feature_ids is not None:
        rows = rows.filter(feature_id__in=feature_ids)
    return _locked(rows)


def _locked(rows: "QuerySet[Balance]") -> list[Balance]:
    """Evaluate the rows under their locks, after noting the lowest place they may take."""
    db.note_lock(rank=db.LockRank.BALANCE, key="")
    return list(
        rows.order_by("customer_id", "feature_id", "scope", "id").select_for_update(
            no_key=True, of=("self",)
        )
    )
