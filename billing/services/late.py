"""Bill usage that came after its subscription had ended: the worker, once a day at most."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db.models import F, Q

from billing.models import UsageMark
from billing.services import following
from core import clock as clocks
from core import db
from subscriptions.services import moves


class LateUsageJob:
    """Draft what came late for subscriptions that have ended: a worker's kind of due work."""

    name = "late usage"

    def list_due(self, *, at: datetime, limit: int, excluded: Collection[str]) -> list[str]:
        """Return the ids of the subscriptions, the longest due first; by test clocks' own time."""
        own = F("subscription__customer__test_clock_at")
        due = Q(late_due_at__lte=at, subscription__customer__test_clock_at__isnull=True)
        marks = (
            UsageMark.objects.filter(due | Q(late_due_at__lte=own))
            .exclude(pk__in=[UUID(key) for key in excluded])
            .order_by("late_due_at", "pk")
        )
        return [str(mark_id) for mark_id in marks.values_list("pk", flat=True)[:limit]]

    def work(self, *, key: str, clock: clocks.Clock) -> bool:
        """Bill one subscription's, where it is due still."""
        return bill(subscription_id=UUID(key), clock=clock)


@db.operation
def bill(*, subscription_id: UUID, clock: clocks.Clock) -> bool:
    """Draft what came late for a subscription that has ended; tell whether that was due.

    :raises NotFound: where there is no such subscription.
    """
    customer_id = moves.customer_of(subscription_id)
    with db.transaction():
        locked = moves.lock_step(customer_id=customer_id, clock=clock)
        return following.bill_late_step(locked.get(subscription_id), at=locked.at)
