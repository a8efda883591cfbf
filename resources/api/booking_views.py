"""Book, show, move and leave bookings."""

from collections.abc import Callable
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import errors
from core.api import access, pagination, requests, responses, schema
from core.api import serializers as strict
from core.errors import DomainError
from metering import errors as metering_errors
from resources import errors as own_errors
from resources import selectors
from resources.api import bodies, calendars, callers
from resources.api import booking_serializers as shapes
from resources.services import booking, ending, moving, series
from subscriptions import errors as subscription_errors

BOOKING_ID = "01936d3c-7c00-7000-8000-0000000000c1"
TIME = {"starts_at": "2026-03-11T17:00:00Z", "ends_at": "2026-03-11T18:00:00Z"}
BOOK_EXAMPLE = {
    **TIME,
    "allocations": [{"type": "court"}, {"resource": "anna"}],
    "participants": [{"name": "Ben", "guest": True}],
}
BOOKING_EXAMPLE = {
    "id": BOOKING_ID,
    "state": "confirmed",
    "venue": "club",
    **TIME,
    "time_zone": "Europe/Berlin",
    "allocations": [{"resource": "court-1", "quantity": 1}],
    "units": {"feature": "court_minutes", "units": 60},
    "free_cancel_until": "2026-03-10T17:00:00Z",
    "expires_at": None,
    "checked_in_at": None,
    "series": None,
    "participants": [{"name": "Ben", "guest": True}],
}
MOVED_EXAMPLE = {
    **BOOKING_EXAMPLE,
    "balance": {
        "feature": "court_minutes",
        "used": 120,
        "held": 60,
        "limit": 600,
        "remaining": 420,
        "resets_at": "2026-04-01T00:00:00Z",
    },
}
LEAVING_EXAMPLE = {
    "late": True,
    "captured": [{"feature": "court_minutes", "units": 30}],
    "returned": [{"feature": "court_minutes", "units": 30}],
    "fee_minor": 500,
    "currency": "EUR",
    "free_cancel_until": "2026-03-10T17:00:00Z",
}
SERIES_EXAMPLE = {
    "id": "01936d3c-7c00-7000-8000-0000000000d1",
    "bookings": [MOVED_EXAMPLE],
    "skipped": [{"date": "2026-03-18", "code": "slot_taken"}],
}
REFUSALS: tuple[type[DomainError], ...] = (
    own_errors.SlotTaken,
    own_errors.BookingTooSoon,
    own_errors.BookingTooFar,
    own_errors.OffGrid,
    own_errors.DurationNotAllowed,
    own_errors.OutsideOpeningHours,
    own_errors.ResourceClosed,
    own_errors.CapacityExceeded,
    own_errors.BookingLimitReached,
    *metering_errors.DENIALS.values(),
    metering_errors.PaymentRequired,
    errors.NaiveDatetime,
    errors.PermissionDenied,
    *schema.CUSTOMER,
)
MOVES = (subscription_errors.InvalidTransition, *schema.CUSTOMER)


def act(
    operation_id: str, *, summary: str, description: str
) -> Callable[[schema.View], schema.View]:
    """Describe one of the moves of a booking that take no more than a reason."""
    return schema.operation(
        operation_id=operation_id,
        tag="bookings",
        summary=summary,
        description=description,
        request=shapes.BookingActSerializer,
        request_example={"reason": "Rain"},
        answers={200: shapes.MovedBookingSerializer},
        example=MOVED_EXAMPLE,
        refusals=MOVES,
        keyed=True,
    )


class BookingsView(APIView):
    """List bookings, and book."""

    @schema.operation(
        operation_id="listBookings",
        tag="bookings",
        summary="Bookings of a customer",
        description="List the customer's bookings, newest first.",
        answers={200: schema.page_of(shapes.BookingSerializer)},
        example={"results": [BOOKING_EXAMPLE], "next": None, "previous": None},
        parameters=(schema.CUSTOMER_PARAMETER, *schema.PAGE_PARAMETERS),
        refusals=(errors.UnknownField, *schema.CUSTOMER),
    )
    def get(self, request: Request) -> Response:
        """List bookings."""
        asked = strict.read_query(shapes.BookingsQuery, request)
        customer = access.access_customer(
            request, scope="bookings:read", named=asked.get("customer")
        )
        pages = pagination.CursorPages()
        rows = selectors.list_bookings(customer=customer)
        page = pages.paginate_queryset(rows, request, view=self) or []
        at = callers.clock_of(customer).now()
        return pages.get_paginated_response([bodies.booking(row, at=at) for row in page])

    @schema.operation(
        operation_id="createBooking",
        tag="bookings",
        summary="Book",
        description="Book one resource or several for one time, all or nothing, in one commit "
        "with the units that they take: the usage period of the start pays. `type` takes any one "
        "that is free. With `confirm: false` the slot is held for some minutes and confirmed by "
        "a second call. A denial by the plan or its units is recorded under the key and replays; "
        "any other refusal is not. `balance` is what the customer has now in that period.",
        request=shapes.BookSerializer,
        request_example=BOOK_EXAMPLE,
        answers={201: shapes.MovedBookingSerializer},
        example=MOVED_EXAMPLE,
        refusals=REFUSALS,
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Book."""
        given = strict.read(shapes.BookSerializer, request)
        customer = callers.booking_customer(request, given)
        order = shapes.order_of(
            given,
            customer_id=customer.pk,
            actor=callers.actor_of(request),
            held_seconds=None if given["confirm"] else settings.ENGINE.booking_hold_seconds,
        )
        answer = booking.book(
            order,
            keyed=requests.keyed(request),
            render=bodies.recorded_booking,
            clock=callers.clock_of(customer),
        )
        return responses.recorded(answer)


class SeriesView(APIView):
    """Book week after week."""

    @schema.operation(
        operation_id="createBookingSeries",
        tag="bookings",
        summary="Book a series",
        description="Book every so many weeks at the same wall time, up to 52 times: all or "
        "nothing, or with `on_conflict: skip` what can be had. A day whose clocks leave the time "
        "out is reported in `skipped`, never shifted. `balance` of each booking is what the "
        "customer has after all of them, in the period that pays for it.",
        request=shapes.BookSeriesSerializer,
        request_example={**BOOK_EXAMPLE, "occurrences": 10, "on_conflict": "skip"},
        answers={201: shapes.SeriesBookedSerializer},
        example=SERIES_EXAMPLE,
        refusals=REFUSALS,
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Book a series."""
        given = strict.read(shapes.BookSeriesSerializer, request)
        customer = callers.booking_customer(request, given)
        repetition = series.Repetition(
            order=shapes.order_of(given, customer_id=customer.pk, actor=callers.actor_of(request)),
            occurrences=given["occurrences"],
            interval_weeks=given["interval_weeks"],
            skips_conflicts=given["on_conflict"] == "skip",
        )
        answer = series.book_series(
            repetition,
            keyed=requests.keyed(request),
            render=bodies.recorded_series,
            clock=callers.clock_of(customer),
        )
        return responses.recorded(answer)


class BookingView(APIView):
    """Show one booking."""

    @schema.operation(
        operation_id="getBooking",
        tag="bookings",
        summary="One booking",
        description="Show one booking of the customer.",
        answers={200: shapes.BookingSerializer},
        example=BOOKING_EXAMPLE,
        parameters=(schema.CUSTOMER_PARAMETER,),
        refusals=(errors.UnknownField, *schema.CUSTOMER),
    )
    def get(self, request: Request, booking_id: UUID) -> Response:
        """Show one booking."""
        asked = strict.read_query(shapes.CustomerQuery, request)
        row = callers.access_booking(
            request, booking_id, scope="bookings:read", named=asked.get("customer")
        )
        return Response(bodies.booking(row, at=callers.clock_of(row.customer).now()))


class CalendarView(APIView):
    """Show one booking to a calendar."""

    @schema.operation(
        operation_id="getBookingCalendar",
        tag="bookings",
        summary="One booking as iCalendar",
        description="Show one booking as a VEVENT of RFC 5545, in UTC, as text/calendar.",
        answers={(200, "text/calendar"): OpenApiTypes.STR},
        parameters=(schema.CUSTOMER_PARAMETER,),
        refusals=(errors.UnknownField, *schema.CUSTOMER),
    )
    def get(self, request: Request, booking_id: UUID) -> HttpResponse:
        """Show one booking to a calendar."""
        asked = strict.read_query(shapes.CustomerQuery, request)
        row = callers.access_booking(
            request, booking_id, scope="bookings:read", named=asked.get("customer")
        )
        text = calendars.event(row, at=callers.clock_of(row.customer).now())
        return HttpResponse(text, content_type="text/calendar; charset=utf-8")


class ConfirmView(APIView):
    """Confirm a held booking."""

    @act(
        "confirmBooking",
        summary="Confirm a held booking",
        description="Confirm a booking that is held, or take an offer from the waiting list.",
    )
    def post(self, request: Request, booking_id: UUID) -> Response:
        """Confirm."""
        given = strict.read(shapes.BookingActSerializer, request)
        row = callers.access_booking(
            request, booking_id, scope="bookings:write", named=given.get("customer")
        )
        answer = ending.confirm(
            row=row,
            actor=callers.actor_of(request, reason=given["reason"]),
            keyed=requests.keyed(request),
            render=bodies.recorded_booking,
            clock=callers.clock_of(row.customer),
        )
        return responses.recorded(answer)


class CancelView(APIView):
    """Give a booking up."""

    @act(
        "cancelBooking",
        summary="Cancel a booking",
        description="Give the booking up. Until `free_cancel_until` its units return; later they "
        "are captured by the policy under which it was made. What is cancelled stays so.",
    )
    def post(self, request: Request, booking_id: UUID) -> Response:
        """Cancel."""
        given = strict.read(shapes.BookingActSerializer, request)
        row = callers.access_booking(
            request, booking_id, scope="bookings:write", named=given.get("customer")
        )
        answer = ending.cancel(
            row=row,
            actor=callers.actor_of(request, reason=given["reason"]),
            keyed=requests.keyed(request),
            render=bodies.recorded_booking,
            clock=callers.clock_of(row.customer),
        )
        return responses.recorded(answer)


class CancelPreviewView(APIView):
    """Tell what giving a booking up would cost."""

    @schema.operation(
        operation_id="previewBookingCancel",
        tag="bookings",
        summary="What would a cancellation cost?",
        description="Tell what cancelling would capture, return and charge now; changes nothing.",
        request=shapes.BookingCustomerSerializer,
        request_example={},
        answers={200: shapes.BookingLeavingSerializer},
        example=LEAVING_EXAMPLE,
        refusals=MOVES,
    )
    def post(self, request: Request, booking_id: UUID) -> Response:
        """Preview."""
        given = strict.read(shapes.BookingCustomerSerializer, request)
        row = callers.access_booking(
            request, booking_id, scope="bookings:read", named=given.get("customer")
        )
        terms = ending.terms_of_leaving(row, at=callers.clock_of(row.customer).now())
        return Response(bodies.leaving(row, terms))


class CheckInView(APIView):
    """Note that somebody has come."""

    @act(
        "checkInBooking",
        summary="Check in",
        description="Note that the customer has come, from an hour before the start to the end: "
        "the units are captured.",
    )
    def post(self, request: Request, booking_id: UUID) -> Response:
        """Check in."""
        given = strict.read(shapes.BookingActSerializer, request)
        row = callers.access_booking(
            request, booking_id, scope="bookings:write", named=given.get("customer")
        )
        answer = ending.check_in(
            row=row,
            actor=callers.actor_of(request, reason=given["reason"]),
            keyed=requests.keyed(request),
            render=bodies.recorded_booking,
            clock=callers.clock_of(row.customer),
        )
        return responses.recorded(answer)


class MoveView(APIView):
    """Move a booking."""

    @schema.operation(
        operation_id="moveBooking",
        tag="bookings",
        summary="Move a booking",
        description="Exchange time and resources in one commit; without `allocations` the same "
        "resources at another time. Where the new cannot be had the booking stays as it is. Only "
        "while it can be cancelled free of charge.",
        request=shapes.MoveBookingSerializer,
        request_example=TIME,
        answers={200: shapes.MovedBookingSerializer},
        example=MOVED_EXAMPLE,
        refusals=(subscription_errors.InvalidTransition, *REFUSALS),
        keyed=True,
    )
    def post(self, request: Request, booking_id: UUID) -> Response:
        """Move."""
        given = strict.read(shapes.MoveBookingSerializer, request)
        customer = callers.booking_customer(request, given)
        row = callers.access_booking(
            request, booking_id, scope="bookings:write", named=given.get("customer")
        )
        answer = moving.move(
            booking_id=row.pk,
            order=shapes.moved_order(
                given, row, customer_id=customer.pk, actor=callers.actor_of(request)
            ),
            keyed=requests.keyed(request),
            render=bodies.recorded_booking,
            clock=callers.clock_of(customer),
        )
        return responses.recorded(answer)
