"""Keep the audit log of bookings: who made, moved or ended one, from what to what, and why.

What the clock brings by itself, a start or an end, is told by events and not here.
"""

from collections.abc import Mapping
from datetime import datetime

from core.actors import Actor
from core.services import audit
from resources.models import Booking


def standing_of(row: Booking) -> dict[str, object]:
    """Return how the booking stands, with its resources as `selectors.shown` has read them."""
    allocated = {each.resource.key: each.quantity for each in row.allocations.all()}
    return described(row, quantities=allocated)


def described(row: Booking, *, quantities: Mapping[str, int]) -> dict[str, object]:
    """Return how the booking stands on so many places of each resource."""
    return {**audit.snapshot(row), "resources": dict(quantities)}


def note_step(
    row: Booking, *, what: str, actor: Actor, at: datetime, before: Mapping[str, object]
) -> None:
    """Write what became of the booking on the same resources; nothing where it stands as before.

    The caller holds the customer's lock.
    """
    after = {**audit.snapshot(row), "resources": before["resources"]}
    audit.record_change_step(actor=actor, what=what, row=row, at=at, before=before, after=after)
