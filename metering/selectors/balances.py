"""Read the balances that count a given instant."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from metering.models import Balance


def get_balances_at(
    *, customer_id: UUID, feature_ids: Collection[int], at: datetime
) -> dict[int, Balance]:
    """Return the customer's own balance of each feature in the period of the instant, as stored.

    One statement. A feature is left out where nothing was counted in the period yet; where an
    anchor has moved, two periods hold the instant, and the one that decides is returned.
    """
    rows = Balance.objects.filter(
        Q(period_ends_at__isnull=True) | Q(period_ends_at__gt=at),
        customer=customer_id,
        feature__in=feature_ids,
        scope="",
        period_starts_at__lte=at,
    )
    ordered = rows.order_by("is_current", "period_starts_at", "generation")
    return {row.feature_id: row for row in ordered}
