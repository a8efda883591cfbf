"""Render every error as a problem document of RFC 9457, from one table.

Source: RFC 9457; docs/errors has a page for each code.
"""

import functools
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import Resolver404, resolve
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions as drf
from rest_framework.response import Response

from core import db, errors, metrics
from core.api import json
from core.errors import Category, DomainError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1
STATUS_BY_CATEGORY = {
    Category.MALFORMED: 400,
    Category.UNAUTHENTICATED: 401,
    Category.PAYMENT_REQUIRED: 402,
    Category.DENIED: 403,
    Category.NOT_FOUND: 404,
    Category.NOT_ALLOWED: 405,
    Category.CONFLICT: 409,
    Category.VERSION_CONFLICT: 412,
    Category.TOO_LARGE: 413,
    Category.UNSUPPORTED: 415,
    Category.UNPROCESSABLE: 422,
    Category.RATE_LIMITED: 429,
    Category.INTERNAL: 500,
    Category.UNAVAILABLE: 503,
}
CHALLENGE = 'Bearer realm="api", Api-Key realm="api"'
SAFE_METHODS = ("GET", "HEAD")
ADMIN = "/admin/"
View = TypeVar("View", bound=Callable[..., HttpResponse])
logger = logging.getLogger(__name__)


def document(error: DomainError, *, request_id: str) -> dict[str, object]:
    """Return the members of the problem; the error's facts stand beside the standard ones."""
    return {
        "type": f"/docs/errors/{error.code}",
        "title": error.title,
        "status": STATUS_BY_CATEGORY[error.category],
        "code": error.code,
        "detail": error.detail,
        "request_id": request_id,
        **error.facts(),
    }


def headers(error: DomainError) -> dict[str, str]:
    """Return the headers that the status demands."""
    found: dict[str, str] = {}
    if error.category is Category.UNAUTHENTICATED:
        found["WWW-Authenticate"] = CHALLENGE
    if error.category in {Category.UNAVAILABLE, Category.RATE_LIMITED} or isinstance(
        error, errors.IdempotencyInProgress
    ):
        found["Retry-After"] = str(error.facts().get("retry_after_seconds", RETRY_AFTER_SECONDS))
    if error.replayed:
        found["Idempotent-Replayed"] = "true"
    return found


def render_exception(error: Exception, context: Mapping[str, Any]) -> Response:
    """Return the problem of any exception in an API view; what is unknown is logged."""
    request = context["request"]
    known = translated(error)
    if known is None:
        known = internal(error, request_id=request_id(request))
    metrics.PROBLEMS.labels(known.code).inc()
    response = Response(
        document(known, request_id=request_id(request)),
        status=STATUS_BY_CATEGORY[known.category],
        headers=headers(known),
        content_type=MEDIA_TYPE,
    )
    if isinstance(error, drf.MethodNotAllowed):
        response["Allow"] = ", ".join(context["view"].allowed_methods)
    return response


def respond(error: DomainError, *, request: HttpRequest) -> HttpResponse:
    """Return the problem of an error outside API views; to people in the admin, as a page."""
    metrics.PROBLEMS.labels(error.code).inc()
    if request.path.startswith(ADMIN):
        return _page(error, request=request)
    body = json.JSONRenderer().render(document(error, request_id=request_id(request)))
    return HttpResponse(
        body,
        status=STATUS_BY_CATEGORY[error.category],
        content_type=MEDIA_TYPE,
        headers=headers(error),
    )


def _page(error: DomainError, *, request: HttpRequest) -> HttpResponse:
    status = STATUS_BY_CATEGORY[error.category]
    shown = {"error": error, "status": status, "request_id": request_id(request)}
    page = render_to_string("core/admin/refused.html", shown)
    return HttpResponse(page, status=status, headers=headers(error))


def translated(error: Exception) -> DomainError | None:
    """Return the domain's name of a framework's error; None for one that nobody expects."""
    if isinstance(error, DomainError):
        return error
    for kind, translate in TRANSLATIONS.items():
        if isinstance(error, kind):
            return translate(error)
    database_error = db.translated(error)
    return database_error if isinstance(database_error, DomainError) else None


def internal(error: BaseException, *, request_id: str) -> DomainError:
    """Log a fault under the request id, and return what the caller may know of it."""
    logger.error("request %s failed", request_id, exc_info=error)
    return errors.Internal("The service failed; the fault is logged under the request id.")


def request_id(request: object) -> str:
    """Return the id of the request, as the answer's X-Request-Id shows it."""
    return str(getattr(request, "request_id", ""))


def _unauthenticated(_: Exception) -> DomainError:
    return errors.Unauthenticated("Give a valid access token or service key.")


def _throttled(error: Exception) -> DomainError:
    wait = int(getattr(error, "wait", None) or RETRY_AFTER_SECONDS)
    return errors.RateLimited(f"Try again in {wait} seconds.", facts={"retry_after_seconds": wait})


TRANSLATIONS: dict[type[Exception], Callable[[Exception], DomainError]] = {
    drf.NotAuthenticated: _unauthenticated,
    drf.AuthenticationFailed: _unauthenticated,
    drf.PermissionDenied: lambda _: errors.PermissionDenied("You may not do this."),
    PermissionDenied: lambda _: errors.PermissionDenied("You may not do this."),
    drf.NotFound: lambda _: errors.NotFound("There is no such thing."),
    Http404: lambda _: errors.NotFound("There is no such thing."),
    drf.MethodNotAllowed: lambda error: errors.MethodNotAllowed(str(error)),
    drf.UnsupportedMediaType: lambda _: errors.UnsupportedMediaType(
        "Send the body as application/json."
    ),
    drf.ParseError: lambda error: errors.Malformed(str(error)),
    drf.Throttled: _throttled,
    RequestDataTooBig: lambda _: errors.PayloadTooLarge("The body is too large."),
    SuspiciousOperation: lambda _: errors.Malformed("The request cannot be read."),
}


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that Django itself refuses."""
    return respond(translated(exception) or errors.Malformed("Bad request."), request=request)


def handler403(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Answer what Django itself forbids."""
    return respond(errors.PermissionDenied("You may not do this."), request=request)


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Answer what a view did not find."""
    return unknown_address(request)


@csrf_exempt
def unknown_address(request: HttpRequest) -> HttpResponse:
    """Answer an unknown address; one that lacks its slash is told the right one."""
    detail = "There is nothing at this address."
    if not request.path.endswith("/") and _resolves(f"{request.path}/"):
        detail = f"There is nothing at this address; the right one is {request.path}/."
    return respond(errors.NotFound(detail), request=request)


def handler500(request: HttpRequest) -> HttpResponse:
    """Answer a fault outside API views; Django has logged it."""
    return respond(errors.Internal("The service failed."), request=request)


def safe_only(view: View) -> View:
    """Let a page be read alone; any other method is answered by its problem."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, **captured: str) -> HttpResponse:
        if request.method in SAFE_METHODS:
            return view(request, **captured)
        response = respond(errors.MethodNotAllowed("Read this page with GET."), request=request)
        response["Allow"] = ", ".join(SAFE_METHODS)
        return response

    return cast("View", csrf_exempt(guarded))


def locked_out() -> DomainError:
    """Return the refusal of a login after too many failures."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    detail = "Too many failed logins for this account from this address; wait."
    return errors.RateLimited(detail, facts={"retry_after_seconds": seconds})


def refuse_login(request: HttpRequest, *_: object) -> HttpResponse:
    """Answer a login, by form or by API, after too many failures."""
    return respond(locked_out(), request=request)


def refuse_csrf(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form without a valid CSRF token."""
    detail = f"The form's token is missing or wrong: {re.sub(r'[^ -~]', '', reason)}"
    return respond(errors.PermissionDenied(detail), request=request)


def _resolves(path: str) -> bool:
    try:
        return resolve(path).func is not unknown_address
    except Resolver404:
        return False
