"""Show resources, and when they can be booked."""

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import errors
from core.api import access, responses, schema
from core.api import serializers as strict
from resources import selectors
from resources.api import bodies, callers
from resources.api import serializers as shapes
from resources.services import availability

RESOURCE_EXAMPLE = {
    "key": "court-1",
    "name": "Court 1",
    "type": "court",
    "venue": "club",
    "time_zone": "Europe/Berlin",
    "kind": "exclusive",
    "capacity": 1,
    "feature": "court_minutes",
    "unit": "minute",
    "minutes_min": 60,
    "minutes_max": 120,
    "grid_minutes": 30,
}
AVAILABILITY_EXAMPLE = {
    "time_zone": "Europe/Berlin",
    "slots": [
        {
            "resource": "court-1",
            "starts_at": "2026-03-11T17:00:00Z",
            "ends_at": "2026-03-11T18:00:00Z",
            "available": False,
            "reason": "slot_taken",
            "cost": {"feature": "court_minutes", "units": 60},
        }
    ],
    "remaining": 540,
}


class ResourcesView(APIView):
    """List what can be booked."""

    @schema.operation(
        operation_id="listResources",
        tag="resources",
        summary="Resources on offer",
        description="List every resource that can be booked. Not paged: a club is small.",
        answers={200: shapes.ResourceListSerializer},
        example={"results": [RESOURCE_EXAMPLE], "next": None, "previous": None},
        parameters=(
            OpenApiParameter("type", str, description="Key of one type."),
            OpenApiParameter("venue", str, description="Key of one venue."),
        ),
        refusals=(errors.UnknownField, errors.Invalid),
    )
    def get(self, request: Request) -> Response:
        """List resources."""
        asked = strict.read_query(shapes.ResourcesQuery, request)
        rows = selectors.list_resources(type_key=asked.get("type"), venue_key=asked.get("venue"))
        body = {"results": [bodies.resource(row) for row in rows], "next": None, "previous": None}
        return responses.conditional(request, tag=responses.etag(body), body=lambda: body)


class AvailabilityView(APIView):
    """Show free and taken slots."""

    @schema.operation(
        operation_id="getAvailability",
        tag="resources",
        summary="Slots of a type",
        description="Show every slot of the type within opening hours over 1 … 31 local days, "
        "with what it costs the customer and, where it cannot be booked, the code with which a "
        "booking would be refused. An available slot would be granted at this instant; only "
        "booking decides, under the locks.",
        answers={200: shapes.AvailabilitySerializer},
        example=AVAILABILITY_EXAMPLE,
        parameters=(
            schema.CUSTOMER_PARAMETER,
            OpenApiParameter("type", str, required=True, description="Key of the type."),
            OpenApiParameter("venue", str, description="Key of the venue, where it has several."),
            OpenApiParameter("date", str, required=True, description="First local day."),
            OpenApiParameter("days", int, description="Local days, 1 … 31 (1)."),
            OpenApiParameter("duration", int, description="Minutes (the type's least)."),
            OpenApiParameter("quantity", int, description="Places (1)."),
        ),
        refusals=(errors.UnknownField, *schema.CUSTOMER),
    )
    def get(self, request: Request) -> Response:
        """Show slots."""
        asked = strict.read_query(shapes.AvailabilityQuery, request)
        customer = access.access_customer(
            request, scope="bookings:read", named=asked.get("customer")
        )
        found = availability.find(
            customer=customer,
            query=shapes.query_of(asked),
            clock=callers.clock_of(customer),
        )
        body = bodies.availability(found)
        return responses.conditional(request, tag=responses.etag(body), body=lambda: body)
