"""Revise customers: create them, rename them, and note that something of theirs changed."""

from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Case, DateTimeField, F, Value, When

from core import db
from core.models import Customer


def revise_step(*, customer_id: UUID, at: datetime) -> None:
    """Raise the customer's revision, and note the instant of the operation that did it.

    Caches, ETags and previews made before are stale from here on: no two revisions share an
    instant. The caller holds the customer's lock.
    """
    db.transaction_required()
    later = F("revised_at") + timedelta(microseconds=1)
    Customer.objects.filter(pk=customer_id).update(
        revision=F("revision") + 1,
        revised_at=Case(
            When(revised_at__gte=at, then=later), default=Value(at), output_field=DateTimeField()
        ),
    )
