"""Give every request an id and a line in the log, and every answer its headers."""

import re
import time
from collections.abc import Callable
from typing import ClassVar
from uuid import uuid4

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from core import clock, logs, metrics, waiting

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
LIGHT_PREFIXES = ("/api/usage/", "/api/entitlements/", "/api/subscriptions/me/")
QUIET_PATHS = {"/livez", "/readyz", "/metrics"}
HTML = "text/html"
CLOSED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGES = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
ADMIN = PAGES.replace(
    "script-src 'self'", "script-src 'self' 'unsafe-inline' 'unsafe-eval'"
)  # the admin's widgets bring scripts in their markup
Answer = Callable[[HttpRequest], HttpResponse]


class RequestIdMiddleware:
    """Take the caller's X-Request-Id where it is sane, else make one; answer with it."""

    def __init__(self, get_response: Answer) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request with its id and caching rules."""
        given = request.headers.get("X-Request-Id", "")
        request_id = given if SANE_ID.fullmatch(given) else uuid4().hex
        request.request_id = request_id  # type: ignore[attr-defined] # the one place that sets it
        with structlog.contextvars.bound_contextvars(request_id=request_id), waiting.request():
            response = self._get_response(request)
        response["X-Request-Id"] = request_id
        if request.path.startswith("/api/"):
            response.setdefault("Cache-Control", "private, no-cache")
            patch_vary_headers(response, ["Authorization"])
        return response


class ObservationMiddleware:
    """Count each request and log one line about it; its query and body stay out of both."""

    def __init__(self, get_response: Answer) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request and note how that went."""
        started = time.perf_counter()
        response = self._get_response(request)
        seconds = time.perf_counter() - started
        match = request.resolver_match
        route = match.route if match else ""
        method = request.method if request.method in HTTP_METHODS else "OTHER"
        metrics.REQUESTS.labels(method, route, response.status_code).inc()
        metrics.SECONDS.labels(route).observe(seconds)
        if request.path not in QUIET_PATHS:
            logs.tell_request(
                at=clock.host_now(),
                path=request.path,
                method=method,
                route=route,
                status=response.status_code,
                milliseconds=round(seconds * 1000, 1),
            )
        return response


class LightEntrance:
    """Let light requests pass by all that stands between this and `LightExit`.

    What stands there serves browsers' pages and logins: sessions, forms' tokens, messages. An
    operation that is asked often, by token or key alone, needs none of it.
    """

    def __init__(self, get_response: Answer) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        if not request.path.startswith(LIGHT_PREFIXES):
            return self._get_response(request)
        response = LightExit.inner(request)
        if not response.streaming:
            response.setdefault("Content-Length", str(len(response.content)))
        return response


class LightExit:
    """Stand last, where light requests come out; Django makes the last first."""

    inner: ClassVar[Answer]

    def __init__(self, get_response: Answer) -> None:
        LightExit.inner = staticmethod(get_response)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        return LightExit.inner(request)


class SecurityHeadersMiddleware:
    """Tell browsers what an answer may do: JSON nothing, a page its own host's files."""

    def __init__(self, get_response: Answer) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request with the headers; a view's own policy stands."""
        response = self._get_response(request)
        policy = CLOSED
        if response.get("Content-Type", "").startswith(HTML):
            policy = ADMIN if request.path.startswith("/admin/") else PAGES
        response.setdefault("Content-Security-Policy", policy)
        response.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        response.setdefault("X-Frame-Options", settings.X_FRAME_OPTIONS)
        response.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
        return response


HTTP_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
