"""Serve the metrics to whoever holds METRICS_TOKEN; without that setting there are none."""

import hmac

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST

from core import errors, metrics
from core.api import problems


@problems.safe_only
def metrics_page(request: HttpRequest) -> HttpResponse:
    """Answer the metrics in Prometheus' text format."""
    if not settings.METRICS_TOKEN:
        return problems.unknown_address(request)
    given = request.headers.get("Authorization", "")
    expected = f"Bearer {settings.METRICS_TOKEN}"
    if not hmac.compare_digest(given.encode(errors="replace"), expected.encode()):
        return problems.respond(errors.Unauthenticated("Give METRICS_TOKEN."), request=request)
    return HttpResponse(metrics.exposition(), content_type=CONTENT_TYPE_LATEST)
