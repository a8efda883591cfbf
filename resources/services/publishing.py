"""Name the events of bookings, and publish them with what billing and mail need."""

from datetime import datetime

from core import clock as clocks
from core import events
from resources.models import Booking

HELD = "booking.held"
CONFIRMED = "booking.confirmed"
MOVED = "booking.moved"
CANCELLED = "booking.cancelled"
EXPIRED = "booking.expired"
STARTED = "booking.started"
COMPLETED = "booking.completed"
NO_SHOW = "booking.no_show"
ALL = (HELD, CONFIRMED, MOVED, CANCELLED, EXPIRED, STARTED, COMPLETED, NO_SHOW)


def publish_step(
    row: Booking, *, event_type: str, at: datetime, fee_minor: int = 0, guests: int = 0
) -> None:
    """Publish what happened to the booking; `fee_minor` is what billing charges for it.

    The caller holds the customer's lock.
    """
    payload: dict[str, object] = {
        "booking": str(row.pk),
        "state": row.state,
        "starts_at": clocks.rfc3339(row.starts_at),
        "ends_at": clocks.rfc3339(row.ends_at),
        "fee_minor": fee_minor,
        "currency": row.venue.currency,
    }
    if guests:
        payload["guests"] = guests
    events.publish(
        events.Event(
            event_type=event_type, customer_id=row.customer_id, occurred_at=at, payload=payload
        )
    )
