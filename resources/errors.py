"""Define what booking may refuse."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from core.errors import Category, DomainError


class SlotTaken(DomainError):
    """Refuse a time that another booking occupies; names the nearest that are free."""

    code = "slot_taken"
    title = "The slot is taken"
    category = Category.CONFLICT
    example_detail = "court-1 is not free from 2026-03-11T17:00:00Z to 2026-03-11T18:00:00Z."
    example_facts: ClassVar[Mapping[str, object]] = {
        "resource": "court-1",
        "alternatives": [
            {
                "resource": "court-2",
                "starts_at": "2026-03-11T17:00:00Z",
                "ends_at": "2026-03-11T18:00:00Z",
            }
        ],
    }

    def with_alternatives(self, alternatives: Sequence[Mapping[str, object]]) -> "SlotTaken":
        """Return the same refusal that also names free slots."""
        facts = self.facts() | {"alternatives": [dict(each) for each in alternatives]}
        return SlotTaken(self.detail, facts=facts)


class BookingTooSoon(DomainError):
    """Refuse a start that has passed or lies within the notice."""

    code = "booking_too_soon"
    title = "The start is too soon"
    category = Category.UNPROCESSABLE
    example_facts: ClassVar[Mapping[str, object]] = {"earliest_at": "2026-03-10T13:00:00Z"}


class BookingTooFar(DomainError):
    """Refuse a day that is not yet open for booking."""

    code = "booking_too_far"
    title = "The day is not yet open for booking"
    category = Category.UNPROCESSABLE
    example_facts: ClassVar[Mapping[str, object]] = {"last_day": "2026-03-24"}


class OffGrid(DomainError):
    """Refuse a start between the starts that are offered."""

    code = "off_grid"
    title = "No booking starts at this minute"
    category = Category.UNPROCESSABLE
    example_facts: ClassVar[Mapping[str, object]] = {"grid_minutes": 30}


class DurationNotAllowed(DomainError):
    """Refuse a duration that is too short, too long or off the grid."""

    code = "duration_not_allowed"
    title = "The duration is not allowed"
    category = Category.UNPROCESSABLE
    example_facts: ClassVar[Mapping[str, object]] = {
        "minutes_min": 30,
        "minutes_max": 120,
        "grid_minutes": 30,
    }


class OutsideOpeningHours(DomainError):
    """Refuse a time at which the resource does not open."""

    code = "outside_opening_hours"
    title = "The resource is not open then"
    category = Category.UNPROCESSABLE
    example_facts: ClassVar[Mapping[str, object]] = {"resource": "court-1"}


class ResourceClosed(DomainError):
    """Refuse a time within a closure."""

    code = "resource_closed"
    title = "The resource is closed then"
    category = Category.UNPROCESSABLE
    example_facts: ClassVar[Mapping[str, object]] = {"resource": "court-1", "reason": "rain"}


class CapacityExceeded(DomainError):
    """Refuse more places than the resource has at all."""

    code = "capacity_exceeded"
    title = "The resource has fewer places"
    category = Category.UNPROCESSABLE
    example_facts: ClassVar[Mapping[str, object]] = {
        "resource": "rackets",
        "requested": 9,
        "capacity": 8,
    }


class BookingLimitReached(DomainError):
    """Refuse a booking beyond what the policy of the plan allows at a time."""

    code = "booking_limit_reached"
    title = "The booking limit is reached"
    category = Category.DENIED
    example_facts: ClassVar[Mapping[str, object]] = {"rule": "active_max", "limit": 3}


class ClosureConflict(DomainError):
    """Refuse a closure over bookings, unless told to cancel them."""

    code = "closure_conflict"
    title = "Bookings stand within the closure"
    category = Category.CONFLICT
    example_facts: ClassVar[Mapping[str, object]] = {"bookings": 2}
