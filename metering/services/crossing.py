"""Publish the thresholds that a balance crosses, each once a period."""

from datetime import datetime

from core import events
from core.clock import rfc3339
from metering import alerts
from metering.models import Balance

THRESHOLD_REACHED = "usage.threshold_reached"


def publish_step(row: Balance, *, at: datetime) -> bool:
    """Publish what is crossed by what the row counts now; tell whether its alerts moved."""
    counted = row.used_units + row.held_units
    if row.alert_units is None or counted < row.alert_units:
        return False
    for each in alerts.crossed(row):
        payload: dict[str, object] = {
            "feature": row.feature.key,
            "scope": row.scope,
            "percent": each["percent"],
            "units": each["units"],
            "threshold_units": each["at_units"],
            "counted_units": counted,
            "limit_units": row.limit_units,
            "period_starts_at": rfc3339(row.period_starts_at),
        }
        events.publish(
            events.Event(
                event_type=THRESHOLD_REACHED,
                customer_id=row.customer_id,
                occurred_at=at,
                payload=payload,
            )
        )
    return True
