"""Store what can be booked, on which terms, and what is booked."""

from resources.models.bookings import (
    Allocation,
    Booking,
    BookingSeries,
    Participant,
    WaitlistEntry,
)
from resources.models.places import Closure, OpeningRule, Resource, ResourceType, Venue
from resources.models.policies import BookingPolicy, PeakWindow

__all__ = [
    "Allocation",
    "Booking",
    "BookingPolicy",
    "BookingSeries",
    "Closure",
    "OpeningRule",
    "Participant",
    "PeakWindow",
    "Resource",
    "ResourceType",
    "Venue",
    "WaitlistEntry",
]
