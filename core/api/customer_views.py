"""Let backends and staff create, read and change customers."""

import re

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, responses, schema
from core.api import customer_serializers as shapes
from core.api import serializers as strict
from core.models import Customer
from core.services import customers

TAG = re.compile(r'"([0-9]{1,19})"', re.ASCII)
CUSTOMER_EXAMPLE = {
    "id": "01936d3c-0000-7000-8000-000000000001",
    "external_key": "acme",
    "name": "Acme",
    "time_zone": "Europe/Berlin",
    "currency": "EUR",
    "revision": 3,
    "created_at": "2026-11-01T00:00:00Z",
    "test_clock_at": None,
}
CUSTOMER = OpenApiParameter(
    "customer", str, OpenApiParameter.PATH, description="Id or external key."
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The ETag that the customer had when he was read; another one is refused.",
)
MANAGED = (errors.PermissionDenied, errors.InsufficientScope)


class CustomersView(APIView):
    """Create customers."""

    @schema.operation(
        operation_id="createCustomer",
        tag="customers",
        summary="Create a customer",
        description="Create a customer under an external key of your own, which every other "
        "operation takes in place of his id. He is on the default plan at once. With "
        "`test_clock_at` he has a clock of his own, for tests.",
        request=shapes.NewCustomerSerializer,
        request_example={
            "external_key": "acme",
            "name": "Acme",
            "time_zone": "Europe/Berlin",
            "currency": "EUR",
        },
        answers={201: shapes.CustomerSerializer},
        example=CUSTOMER_EXAMPLE,
        refusals=(*MANAGED, errors.NaiveDatetime, errors.TestClockRefused),
    )
    def post(self, request: Request) -> Response:
        """Create a customer."""
        access.access_management(request, scope="customers:write", permission="core.add_customer")
        given = strict.read(shapes.NewCustomerSerializer, request)
        row = customers.create(
            shapes.new_customer(given), actor=access.actor(request), clock=clock.process_clock()
        )
        return _shown(row, status=201)


class CustomerView(APIView):
    """Read and change a customer."""

    @schema.operation(
        operation_id="getCustomer",
        tag="customers",
        summary="One customer",
        description="Show a customer, with the ETag to send as If-Match when you change him.",
        answers={200: shapes.CustomerSerializer},
        example=CUSTOMER_EXAMPLE,
        parameters=(CUSTOMER,),
        refusals=(*MANAGED, errors.NotFound),
    )
    def get(self, request: Request, customer: str) -> Response:
        """Show a customer."""
        row = access.access_managed_customer(
            request, scope="customers:read", permission="core.view_customer", named=customer
        )
        return responses.conditional(
            request, tag=f'"{row.revision}"', body=lambda: shapes.customer_body(row)
        )

    @schema.operation(
        operation_id="updateCustomer",
        tag="customers",
        summary="Change a customer's name or time zone",
        description="Change a customer's name, his time zone, or both. Another zone counts from "
        "the next boundary on: the billing period that runs ends as it was to end, and so does "
        "each day and week of usage. With If-Match, only where nothing of his changed since he "
        "was read.",
        request=shapes.CustomerChangeSerializer,
        request_example={"name": "Acme Ltd", "time_zone": "Europe/Berlin"},
        answers={200: shapes.CustomerSerializer},
        example=CUSTOMER_EXAMPLE,
        parameters=(CUSTOMER, IF_MATCH),
        refusals=(*MANAGED, errors.NotFound, errors.VersionConflict),
    )
    def patch(self, request: Request, customer: str) -> Response:
        """Change a customer."""
        row = access.access_managed_customer(
            request, scope="customers:write", permission="core.change_customer", named=customer
        )
        given = strict.read(shapes.CustomerChangeSerializer, request)
        changed = customers.update(
            customer_id=row.pk,
            change=shapes.customer_change(given),
            expected_revision=_expected_revision(request),
            actor=access.actor(request),
            clock=clock.process_clock(),
        )
        return _shown(changed, status=200)


def _expected_revision(request: Request) -> int | None:
    """Return the revision that If-Match names; None without the header, or for any.

    :raises VersionConflict: for a tag that no customer of ours has.
    """
    given = request.headers.get("If-Match")
    if given is None or given.strip() == "*":
        return None
    found = TAG.fullmatch(given.strip())
    if found is None:
        raise errors.VersionConflict("If-Match names no state that this customer was in.")
    return int(found[1])


def _shown(row: Customer, *, status: int) -> Response:
    response = Response(shapes.customer_body(row), status=status)
    response["ETag"] = f'"{row.revision}"'
    return response
