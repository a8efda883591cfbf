"""Persist what the clock brought about, customer by customer: renewals, ends, resumptions.

Nothing depends on it for being right, since status is derived; it makes facts timely.
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core import db, faults
from core import locks as core_locks
from subscriptions.models import Subscription
from subscriptions.services import moves, settling

BOUNDARIES_MAX = 100


class SweepJob:
    """Settle customers whose subscriptions the clock has moved; test clocks are passed by."""

    name = "subscriptions"

    def list_due(self, *, at: datetime, limit: int, excluded: Collection[str]) -> list[str]:
        """Return the ids of customers with something due, the longest due first."""
        due = (
            Subscription.objects.filter(due_at__lte=at, customer__test_clock_at__isnull=True)
            .exclude(customer__in=[UUID(key) for key in excluded])
            .order_by("due_at", "id")
            .values_list("customer_id", flat=True)[:limit]
        )
        return [str(customer_id) for customer_id in dict.fromkeys(due)]

    def work(self, *, key: str, clock: clocks.Clock) -> bool:
        """Settle one customer, where nobody else has him locked."""
        return settle_free(customer_id=UUID(key), clock=clock) > 0


@db.operation
def settle_free(*, customer_id: UUID, clock: clocks.Clock) -> int:
    """Write down what the clock brought to a customer's subscriptions; return how many moved.

    A customer whom somebody has locked is left to him, and a long absence to several turns of
    at most 100 boundaries.
    """
    faults.point("sweep_begun")
    with db.transaction():
        customer = core_locks.lock_free_customer(customer_id=customer_id)
        if customer is None:
            return 0
        locked = moves.lock_rows_step(customer=customer, clock=clock)
        faults.point("sweep_locked")
        moved = settling.settle_step(rows=locked.rows, at=locked.at, boundaries_max=BOUNDARIES_MAX)
        settling.tell_step(moved, at=locked.at)
        faults.point("sweep_told")
    faults.point("sweep_committed")
    return len(moved)
