"""Publish the thresholds that balances cross, each once a period."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from core import events
from core.clock import rfc3339
from metering import alerts
from metering.models import Balance
from subscriptions.facts import FeatureFacts

THRESHOLD_REACHED = "usage.threshold_reached"


def publish_step(
    rows: Iterable[Balance], *, features: Mapping[int, FeatureFacts], at: datetime
) -> set[int]:
    """Publish what is crossed by what the rows count now; return those whose alerts moved."""
    moved, found = set(), []
    for row in rows:
        counted = row.used_units + row.held_units
        if row.alert_units is None or counted < row.alert_units:
            continue
        moved.add(row.pk)
        feature = features.get(row.feature_id) or row.feature
        for each in alerts.crossed(row):
            payload: dict[str, object] = {
                "feature": feature.key,
                "scope": row.scope,
                "percent": each["percent"],
                "units": each["units"],
                "threshold_units": each["at_units"],
                "counted_units": counted,
                "limit_units": row.limit_units,
                "period_starts_at": rfc3339(row.period_starts_at),
            }
            found.append(
                events.Event(
                    event_type=THRESHOLD_REACHED,
                    customer_id=row.customer_id,
                    occurred_at=at,
                    payload=payload,
                )
            )
    if found:
        events.publish_all(found)
    return moved
