"""Let a customer's subscriptions follow him into another time zone, from their next boundary on."""

from datetime import datetime

from core import actors, db, events, periods
from core.clock import Clock
from core.models import Customer
from subscriptions import locks, renewals, status
from subscriptions.models import Subscription
from subscriptions.services import timeline

ZONE_CHANGED = "time_zone_changed"


def lock_rows(*, customer: Customer, clock: Clock) -> None:  # noqa: ARG001 - an events.Lock
    """Lock the subscriptions that may follow, before the clock is read."""
    locks.lock_subscriptions(customer_id=customer.pk)


def follow_step(event: events.Event) -> None:
    """Let every subscription that is not final count in the new zone once its period is over.

    Nothing that is stored of the running period moves: when it ends, what renews, what is
    scheduled. The caller holds the locks of the customer and of the rows.
    """
    db.transaction_required()
    to, at = str(event.payload["to"]), event.occurred_at
    by = actors.Actor(**event.payload["actor"])  # type: ignore[arg-type] # written by the publisher
    rows = Subscription.objects.filter(customer=event.customer_id).exclude(
        status__in=Subscription.FINAL_STATUSES
    )
    for row in rows.select_related("price", "change_price").order_by("id"):
        moved = row.zones.changed(to=to, at=at, renews_at=_renews_at(row, at=at))
        if moved != row.zones:
            row.time_zone, row.former_zones = moved.time_zone, moved.documents
            row.save(update_fields=["time_zone", "former_zones"])
            timeline.note_step(row, event=ZONE_CHANGED, actor=by, at=at)


def _renews_at(row: Subscription, *, at: datetime) -> datetime:
    """Return when the billing period (or trial) ends that runs, settled or not."""
    standing = status.standing(row, at=at)
    if standing.status == Subscription.Status.TRIALING and row.trial_ends_at is not None:
        return row.trial_ends_at
    recurrence = renewals.billing_recurrence(
        anchor_at=standing.anchor_at,
        zones=row.zones,
        price=row.price if standing.price_id == row.price_id else row.change_price,
    )
    return periods.period_at(recurrence, at=at).ends_at or at
