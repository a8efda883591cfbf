"""Let integrators advance the clock of a customer of their tests."""

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import errors
from core.api import access, customer_serializers, schema
from core.api import serializers as strict
from core.api.customer_views import CUSTOMER, CUSTOMER_EXAMPLE, MANAGED
from subscriptions.api import serializers as shapes
from subscriptions.services import advancing


class AdvanceClockView(APIView):
    """Advance a test clock."""

    @schema.operation(
        operation_id="advanceTestClock",
        tag="customers",
        summary="Advance a test clock",
        description="Let time pass for a customer created with `test_clock_at`, up to `to`: "
        "trials end, periods renew, scheduled changes come, each at its own instant; usage "
        "periods and holds follow. Repeating a call changes nothing more.",
        request=shapes.AdvanceSerializer,
        request_example={"to": "2027-01-01T00:00:00Z"},
        answers={200: customer_serializers.CustomerSerializer},
        example=CUSTOMER_EXAMPLE | {"test_clock_at": "2027-01-01T00:00:00Z"},
        parameters=(CUSTOMER,),
        refusals=(
            *MANAGED,
            errors.NotFound,
            errors.NaiveDatetime,
            errors.TestClockRefused,
        ),
    )
    def post(self, request: Request, customer: str) -> Response:
        """Advance a test clock."""
        row = access.access_managed_customer(
            request, scope="customers:write", permission="core.change_customer", named=customer
        )
        given = strict.read(shapes.AdvanceSerializer, request)
        advanced = advancing.advance(
            customer_id=row.pk, to=given["to"], actor=access.actor(request)
        )
        return Response(customer_serializers.customer_body(advanced))
