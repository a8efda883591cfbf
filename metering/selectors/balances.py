"""Read the balances that count a given instant."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from core import statements
from metering.models import Balance


def get_balances_at(
    *, customer_id: UUID, feature_ids: Collection[int], at: datetime
) -> dict[int, Balance]:
    """Return the customer's own balance of each feature in the period of the instant, as stored.

    One statement. A feature is left out where nothing was counted in the period yet; where an
    anchor has moved, two periods hold the instant, and the one that decides is returned.
    """
    rows = _list_balances(customer_id=customer_id, feature_ids=feature_ids, at=at)
    return {row.feature_id: row for row in rows}


@statements.compiled
def _list_balances(
    *, customer_id: UUID, feature_ids: Collection[int], at: datetime
) -> QuerySet[Balance]:
    rows = Balance.objects.filter(
        Q(period_ends_at__isnull=True) | Q(period_ends_at__gt=at),
        customer_id=customer_id,
        feature_id__in=feature_ids,
        scope="",
        period_starts_at__lte=at,
    )
    return rows.order_by("is_current", "period_starts_at", "generation")
