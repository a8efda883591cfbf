"""Route the one view of `benchmarks._light`."""

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks._answer import ANSWER
from core.api import access, requests
from metering.api import serializers as shapes


class Light(APIView):
    """Read what consuming reads, decide nothing, and answer a constant."""

    knows_callers = True

    def post(self, request: Request) -> Response:
        """Answer."""
        given = shapes.read_usage(request)
        access.access_customer_id(request, scope="usage:write", named=given.get("customer"))
        requests.keyed(request)
        return Response(ANSWER)


urlpatterns = [path("api/usage/consume/", Light.as_view())]
