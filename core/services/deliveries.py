"""Bring committed events to their consumers: at least once each, a leased one by nobody else."""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Exists, OuterRef, Q

from core import clock as clocks
from core import db, events, faults, locks
from core.models import OutboxDelivery, OutboxEvent

LEASE = timedelta(seconds=60)


class DeliveryJob:
    """Deliver the outbox."""

    name = "outbox"

    def list_due(self, *, at: datetime, limit: int, excluded: Collection[str]) -> list[str]:
        """Return the ids of deliveries that are open and not leased, oldest first."""
        due = OutboxDelivery.objects.filter(
            Q(leased_until__isnull=True) | Q(leased_until__lte=at), delivered_at__isnull=True
        ).exclude(pk__in=excluded)
        return [str(pk) for pk in due.order_by("id").values_list("pk", flat=True)[:limit]]

    def work(self, *, key: str, clock: clocks.Clock) -> bool:
        """Lease one delivery, hand its event over, and mark it; a failure gives the lease back."""
        delivery = _lease(UUID(key), clock=clock)
        if delivery is None:
            return False
        faults.point("delivery_leased")
        delivered_at: datetime | None = None
        try:
            consumer = events.find_consumer(name=delivery.consumer)
            if consumer is None:
                msg = f"there is no consumer {delivery.consumer!r} in this release"
                raise LookupError(msg)
            consumer.deliver(delivery.event)
            faults.point("delivery_handed_over")
            delivered_at = clock.now()
        finally:
            OutboxDelivery.objects.filter(pk=delivery.pk).update(
                leased_until=None, delivered_at=delivered_at
            )
        return True


def _lease(delivery_id: UUID, *, clock: clocks.Clock) -> OutboxDelivery | None:
    with db.transaction():
        row = locks.lock_free_delivery(delivery_id=delivery_id)
        at = clock.now()
        if row is None or row.delivered_at is not None:
            return None
        if row.leased_until is not None and row.leased_until > at:
            return None
        row.leased_until = at + LEASE
        row.save(update_fields=["leased_until"])
    return row


@db.operation
def prune(*, before: datetime, limit: int) -> int:
    """Delete at most so many events from before the instant that everybody has been told."""
    waiting = OutboxDelivery.objects.filter(event=OuterRef("pk"), delivered_at__isnull=True)
    told = OutboxEvent.objects.filter(~Exists(waiting), occurred_at__lt=before)
    with db.transaction():
        ids = list(told.order_by("occurred_at").values_list("pk", flat=True)[:limit])
        OutboxDelivery.objects.filter(event_id__in=ids).delete()
        deleted, _ = OutboxEvent.objects.filter(pk__in=ids).delete()
    return deleted
