"""Let holds die at their own instants, and know when the next one does."""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import DateTimeField, F, OuterRef, Subquery, Value
from django.db.models.functions import Coalesce, Least

from metering.models import Balance, Hold


def mark_step(holds: Iterable[Hold]) -> None:
    """Mark holds as dead at their own instants; the caller holds their locks."""
    expired = [hold.pk for hold in holds]
    if expired:
        Hold.objects.filter(pk__in=expired).update(
            state=Hold.State.EXPIRED, ended_at=F("expires_at")
        )


def next_due(row: Balance, *, at: datetime) -> Coalesce:
    """Return the earliest expiry at the row's place that is still ahead.

    Of what the database knows, on whichever period's row, and what this transaction adds.
    """
    ahead = Hold.objects.filter(
        customer_id=OuterRef("customer_id"),
        feature_id=OuterRef("feature_id"),
        scope=OuterRef("scope"),
        state=Hold.State.LIVE,
        expires_at__gt=at,
    ).order_by("expires_at")
    stored = Subquery(ahead.values("expires_at")[:1], output_field=DateTimeField())
    if row.holds_due_at is None or row.holds_due_at <= at:
        return Coalesce(stored, Value(None))
    added = Value(row.holds_due_at, DateTimeField())
    return Coalesce(Least(stored, added), added)
