"""Wait for a time, and close a time."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, pagination, requests, responses, schema
from core.api import serializers as strict
from resources import errors as own_errors
from resources import selectors
from resources.api import bodies, callers
from resources.api import booking_serializers as shapes
from resources.api.booking_views import REFUSALS, TIME
from resources.services import closures, waiting
from subscriptions import errors as subscription_errors

ENTRY_EXAMPLE = {
    "id": "01936d3c-7c00-7000-8000-0000000000e1",
    "state": "waiting",
    "type": "court",
    "venue": "club",
    "resource": None,
    "quantity": 1,
    **TIME,
    "booking": None,
}
CLOSURE_EXAMPLE = {
    "id": "01936d3c-7c00-7000-8000-0000000000f1",
    "venue": "club",
    "resource": None,
    **TIME,
    "reason": "rain",
    "cancelled": ["01936d3c-7c00-7000-8000-0000000000c1"],
}


class WaitlistView(APIView):
    """List what a customer waits for, and wait."""

    @schema.operation(
        operation_id="listWaitlist",
        tag="bookings",
        summary="What a customer waits for",
        description="List the customer's places in waiting lists, newest first. An offer is a "
        "held booking: confirm it in time, or it goes to the next.",
        answers={200: schema.page_of(shapes.WaitlistEntrySerializer)},
        example={"results": [ENTRY_EXAMPLE], "next": None, "previous": None},
        parameters=(schema.CUSTOMER_PARAMETER, *schema.PAGE_PARAMETERS),
        refusals=(errors.UnknownField, *schema.CUSTOMER),
    )
    def get(self, request: Request) -> Response:
        """List places."""
        asked = strict.read_query(shapes.BookingsQuery, request)
        customer = access.access_customer(
            request, scope="bookings:read", named=asked.get("customer")
        )
        pages = pagination.CursorPages()
        rows = selectors.list_waitlist(customer=customer)
        page = pages.paginate_queryset(rows, request, view=self) or []
        return pages.get_paginated_response([bodies.waitlist_entry(row) for row in page])

    @schema.operation(
        operation_id="joinWaitlist",
        tag="bookings",
        summary="Wait for a time",
        description="Wait for a resource, or any one of a type. When the time falls free the "
        "first who may book it is offered it as a held booking.",
        request=shapes.WaitForSerializer,
        request_example={**TIME, "type": "court"},
        answers={201: shapes.WaitlistEntrySerializer},
        example=ENTRY_EXAMPLE,
        refusals=REFUSALS,
        keyed=True,
    )
    def post(self, request: Request) -> Response:
        """Wait."""
        given = strict.read(shapes.WaitForSerializer, request)
        customer = access.access_customer(
            request, scope="bookings:write", named=given.get("customer")
        )
        answer = waiting.join(
            shapes.wait_order_of(given, customer_id=customer.pk, actor=callers.actor_of(request)),
            keyed=requests.keyed(request),
            render=bodies.recorded_entry,
            clock=callers.clock_of(customer),
        )
        return responses.recorded(answer)


class LeaveWaitlistView(APIView):
    """Wait no longer."""

    @schema.operation(
        operation_id="leaveWaitlist",
        tag="bookings",
        summary="Wait no longer",
        description="Give up a place in a waiting list. An offer is answered by confirming or "
        "cancelling its booking instead.",
        request=shapes.BookingCustomerSerializer,
        request_example={},
        answers={200: shapes.WaitlistEntrySerializer},
        example={**ENTRY_EXAMPLE, "state": "ended"},
        refusals=(subscription_errors.InvalidTransition, *schema.CUSTOMER),
        keyed=True,
    )
    def post(self, request: Request, entry_id: UUID) -> Response:
        """Leave."""
        given = strict.read(shapes.BookingCustomerSerializer, request)
        customer = access.access_customer(
            request, scope="bookings:write", named=given.get("customer")
        )
        entry = selectors.list_waitlist(customer=customer).filter(pk=entry_id).first()
        if entry is None:
            raise errors.NotFound("There is no such place in a waiting list.")
        answer = waiting.leave(
            entry=entry,
            actor=callers.actor_of(request),
            keyed=requests.keyed(request),
            render=bodies.recorded_entry,
            clock=callers.clock_of(customer),
        )
        return responses.recorded(answer)


class ClosuresView(APIView):
    """Close a time."""

    @schema.operation(
        operation_id="createClosure",
        tag="resources",
        summary="Close for a time",
        description="Close a resource, or the whole venue, for a time: rain, repair, a holiday. "
        "Bookings within it refuse the closure unless `cancel_bookings` says that each is to be "
        "cancelled free of charge, and its units return to where they came from, also where it has "
        "begun or is over and they are captured. For service keys; staff have the admin.",
        request=shapes.ClosureSerializer,
        request_example={**TIME, "venue": "club", "reason": "rain", "cancel_bookings": True},
        answers={201: shapes.ClosureMadeSerializer},
        example=CLOSURE_EXAMPLE,
        refusals=(
            own_errors.ClosureConflict,
            errors.NaiveDatetime,
            errors.PermissionDenied,
            errors.InsufficientScope,
            errors.NotFound,
        ),
    )
    def post(self, request: Request) -> Response:
        """Close."""
        access.access_scope(request, scope="bookings:write")
        given = strict.read(shapes.ClosureSerializer, request)
        done = closures.close(
            shapes.planned_closure(given),
            actor=callers.actor_of(request, reason=given["reason"]),
            clock=clock.process_clock(),
        )
        return Response(bodies.closed(done), status=201)
