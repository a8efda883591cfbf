"""Show instants by the reader's clock, and read what he enters by it."""

from collections.abc import Callable
from contextlib import nullcontext
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from core import zones

COOKIE = "time_zone"
PREFIX = "/admin/"


class ReaderZoneMiddleware:
    """Answer the admin's pages in the zone that the reader's browser told; UTC where it told none.

    The browser writes the zone's name into a cookie (core/zone.js), on the login page already.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        name = request.COOKIES.get(COOKIE, "") if request.path.startswith(PREFIX) else ""
        known = zones.is_known(name)
        with timezone.override(ZoneInfo(name)) if known else nullcontext():
            return self._get_response(request)


def zone_name() -> str:
    """Return the name of the zone in which the reader's times are: `Europe/Berlin`."""
    return str(timezone.get_current_timezone())
