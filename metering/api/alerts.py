"""Set, list and remove a customer's own alert thresholds."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, pagination, requests, responses, schema
from core.api import serializers as strict
from metering import errors as own_errors
from metering.api import hold_bodies
from metering.api import hold_serializers as shapes
from metering.api.customers import CUSTOMER, MANAGED, managed
from metering.models import AlertThreshold
from metering.services import alerting
from subscriptions import errors as subscription_errors
from subscriptions.api.serializers import PageQuery

ALERT_EXAMPLE = {
    "id": "01936d3c-7c00-7000-8000-0000000000f1",
    "feature": "api_calls",
    "units": None,
    "percent": 80,
}


class AlertsView(APIView):
    """Set alert thresholds, and list them."""

    @schema.operation(
        operation_id="createAlert",
        tag="customers",
        summary="Set an alert threshold",
        description="Publish `usage.threshold_reached` once a usage period, by the commit with "
        "which what is counted reaches so many units or such a share of the limit. Thresholds of "
        "the plan stand beside it.",
        request=shapes.AlertInput,
        request_example={"feature": "api_calls", "percent": 80},
        answers={201: shapes.AlertSerializer},
        example=ALERT_EXAMPLE,
        parameters=(CUSTOMER,),
        refusals=(own_errors.FeatureNotMetered, subscription_errors.FeatureUnknown, *MANAGED),
        keyed=True,
    )
    def post(self, request: Request, customer: str) -> Response:
        """Set an alert threshold."""
        owner = managed(request, customer, permission="metering.add_alertthreshold")
        given = strict.read(shapes.AlertInput, request)
        answer = alerting.create(
            customer_id=owner.pk,
            order=alerting.Order(
                feature_key=given["feature"],
                percent=given.get("percent"),
                units=given.get("units"),
            ),
            actor=access.actor(request),
            keyed=requests.keyed(request),
            render=hold_bodies.alert,
            clock=clock.process_clock(),
        )
        return responses.recorded(answer)

    @schema.operation(
        operation_id="listAlerts",
        tag="customers",
        summary="List alert thresholds",
        description="List the customer's own thresholds, newest first.",
        answers={200: schema.page_of(shapes.AlertSerializer)},
        example={"results": [ALERT_EXAMPLE], "next": None, "previous": None},
        parameters=(CUSTOMER, *schema.PAGE_PARAMETERS),
        refusals=(errors.UnknownField, errors.Invalid, *MANAGED),
    )
    def get(self, request: Request, customer: str) -> Response:
        """List alert thresholds."""
        owner = managed(request, customer, permission="metering.view_alertthreshold", scope="read")
        strict.read_query(PageQuery, request)
        pages = pagination.CursorPages()
        rows = AlertThreshold.objects.filter(customer=owner).select_related("feature")
        page = pages.paginate_queryset(rows, request, view=self) or []
        return pages.get_paginated_response([hold_bodies.alert(each) for each in page])


class AlertView(APIView):
    """Remove one threshold."""

    @schema.operation(
        operation_id="removeAlert",
        tag="customers",
        summary="Remove an alert threshold",
        description="Take the threshold away; what it alerted stays published.",
        answers={204: None},
        parameters=(CUSTOMER,),
        refusals=MANAGED,
    )
    def delete(self, request: Request, customer: str, alert_id: UUID) -> Response:
        """Remove an alert threshold."""
        owner = managed(request, customer, permission="metering.delete_alertthreshold")
        alerting.remove(
            customer_id=owner.pk,
            threshold_id=alert_id,
            actor=access.actor(request),
            clock=clock.process_clock(),
        )
        return Response(status=204)
