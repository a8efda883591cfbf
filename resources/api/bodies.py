"""Write resources, slots and bookings as the API shows them."""

from core import clock
from resources.models import Resource
from resources.services.availability import Availability, Slot

Body = dict[str, object]


def resource(row: Resource) -> Body:
    """Return one resource on offer."""
    return {
        "key": row.key,
        "name": row.name,
        "type": row.type.key,
        "venue": row.venue.key,
        "time_zone": row.venue.time_zone,
        "kind": row.kind,
        "capacity": row.capacity,
        "feature": row.type.feature.key,
        "unit": row.type.unit,
        "minutes_min": row.type.minutes_min,
        "minutes_max": row.type.minutes_max,
        "grid_minutes": row.type.grid_minutes,
    }


def availability(found: Availability) -> Body:
    """Return the slots."""
    return {
        "time_zone": found.time_zone,
        "slots": [slot(each) for each in found.slots],
        "remaining": found.remaining_units,
    }


def slot(each: Slot) -> Body:
    """Return one slot."""
    return {
        "resource": each.place.key,
        "starts_at": clock.rfc3339(each.span.starts_at),
        "ends_at": clock.rfc3339(each.span.ends_at),
        "available": not each.code,
        "reason": each.code or None,
        "cost": {"feature": each.place.terms.feature.key, "units": each.units},
    }
