"""Read bookings, waiting lists and closures."""

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from django.db.models import Prefetch, QuerySet, prefetch_related_objects

from core import statements
from core.models import Customer
from resources.models import (
    Allocation,
    Booking,
    Closure,
    Participant,
    WaitlistEntry,
)
from resources.opening import Span
from resources.selectors.timetables import occupying


def list_bookings(*, customer: Customer) -> "QuerySet[Booking]":
    """Return the customer's bookings with all that is shown of them."""
    return shown(Booking.objects.filter(customer=customer))


SHOWN = (
    Prefetch(
        "allocations", Allocation.objects.select_related("resource", "feature").order_by("id")
    ),
    Prefetch("participants", Participant.objects.order_by("id")),
)


def shown(bookings: "QuerySet[Booking]") -> "QuerySet[Booking]":
    """Add what is shown of a booking, in a constant number of statements."""
    return bookings.select_related("venue", "customer").prefetch_related(*SHOWN)


def get_shown(*, booking_id: UUID) -> Booking:
    """Return the booking, which is there, with all that is shown of it, in three statements."""
    (row,) = _list_booking(booking_id=booking_id)
    prefetch_related_objects([row], *SHOWN)
    return row


@statements.compiled
def _list_booking(*, booking_id: UUID) -> "QuerySet[Booking]":
    return Booking.objects.filter(pk=booking_id).select_related("venue", "customer")


@statements.compiled
def list_owners(*, booking_id: UUID) -> "QuerySet[Booking, UUID]":
    """Return whose the booking is, if it is there."""
    return Booking.objects.filter(pk=booking_id).values_list("customer_id", flat=True)


def list_waitlist(*, customer: Customer) -> "QuerySet[WaitlistEntry]":
    """Return the customer's places in waiting lists."""
    return WaitlistEntry.objects.filter(customer=customer).select_related(
        "type", "venue", "resource"
    )


def list_due(*, at: datetime) -> "QuerySet[Booking]":
    """Return the bookings that the clock has moved, oldest first; test clocks are passed by."""
    return Booking.objects.due(at=at).filter(customer__test_clock_at__isnull=True)


def list_pending_closures() -> "QuerySet[Closure]":
    """Return the closures that still have bookings to cancel, oldest first."""
    return Closure.objects.filter(is_pending=True).order_by("id")


def list_affected(
    *,
    resource_ids: Iterable[int],
    span: Span,
    at: datetime,
    states: Collection[str] = Booking.OPEN_STATES,
) -> list[Booking]:
    """Return the bookings of the resources that the span touches, oldest first.

    Those that are open as stored, or in the states that are named.
    """
    rows = occupying(at=at).filter(
        resource__in=resource_ids,
        booking__state__in=states,
        starts_at__lt=span.ends_at,
        ends_at__gt=span.starts_at,
    )
    found = Booking.objects.filter(pk__in=rows.values("booking")).select_related("customer")
    return list(found.order_by("starts_at", "id"))
