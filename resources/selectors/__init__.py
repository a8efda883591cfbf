"""Read what can be booked, on which terms, and what is booked; nothing here writes or locks."""

from resources.selectors.bookings import (
    SHOWN,
    get_shown,
    list_affected,
    list_bookings,
    list_due,
    list_owners,
    list_pending_closures,
    list_waitlist,
    shown,
)
from resources.selectors.places import find_places, list_resources, places_of
from resources.selectors.timetables import (
    GAP_MAX,
    Scene,
    get_public_timetable,
    get_scene,
    get_timetable,
    list_allocations,
    list_lapsed,
)

__all__ = [
    "GAP_MAX",
    "SHOWN",
    "Scene",
    "find_places",
    "get_public_timetable",
    "get_scene",
    "get_shown",
    "get_timetable",
    "list_affected",
    "list_allocations",
    "list_bookings",
    "list_due",
    "list_lapsed",
    "list_owners",
    "list_pending_closures",
    "list_resources",
    "list_waitlist",
    "places_of",
    "shown",
]
