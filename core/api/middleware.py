"""Give every request an id, and every answer of the API its caching rules."""

import re
from collections.abc import Callable
from uuid import uuid4

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class RequestIdMiddleware:
    """Take the caller's X-Request-Id where it is sane, else make one; answer with it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request with its id and caching rules."""
        given = request.headers.get("X-Request-Id", "")
        request_id = given if SANE_ID.fullmatch(given) else uuid4().hex
        request.request_id = request_id  # type: ignore[attr-defined] # the one place that sets it
        response = self._get_response(request)
        response["X-Request-Id"] = request_id
        if request.path.startswith("/api/"):
            response.setdefault("Cache-Control", "private, no-cache")
            patch_vary_headers(response, ["Authorization"])
        return response
