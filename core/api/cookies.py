"""Carry the refresh token of a browser in a cookie that no script reads.

The cookie is HttpOnly and SameSite=Strict and sent to the token operations alone; what it
authenticates needs Django's CSRF token beside it, whose check also compares the Origin.
"""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware, get_token
from rest_framework.request import Request
from rest_framework.response import Response

from core import errors

NAME = "refresh_token"
PATH = "/api/token/"


def answer(request: Request, pair: dict[str, str]) -> Response:
    """Return the access token in the body and the refresh token in the cookie."""
    csrf_token = get_token(request._request)  # noqa: SLF001 - the CSRF cookie is Django's
    response = Response({"access": pair["access"], "csrf_token": csrf_token})
    response.set_cookie(
        NAME,
        pair["refresh"],
        max_age=settings.ENGINE.refresh_token_seconds,
        path=PATH,
        secure=settings.HTTPS_ONLY,
        httponly=True,
        samesite="Strict",
    )
    return response


def forget(response: Response) -> Response:
    """Return the answer with the cookie taken back."""
    response.delete_cookie(NAME, path=PATH, samesite="Strict")
    return response


def read(request: Request) -> str:
    """Return the refresh token of the cookie, where the request carries its CSRF token.

    :raises Unauthenticated: without the cookie.
    :raises PermissionDenied: without the CSRF token, or from a foreign origin.
    """
    token = request.COOKIES.get(NAME)
    if not token:
        detail = "Give the refresh token in the body or in its cookie."
        raise errors.Unauthenticated(detail)
    check = CsrfViewMiddleware(_unused)
    http_request = request._request  # noqa: SLF001 - the CSRF check is Django's
    check.process_request(http_request)
    http_request._dont_enforce_csrf_checks = False  # type: ignore[attr-defined]  # noqa: SLF001
    if check.process_view(http_request, _unused, (), {}) is not None:
        detail = "Send the login's csrf_token as X-CSRFToken, from an origin that is allowed."
        raise errors.PermissionDenied(detail)
    return token


def _unused(request: HttpRequest) -> HttpResponse:
    raise AssertionError(request)  # the check never calls on
