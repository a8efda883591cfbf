"""Limit how often a caller may ask: per address before anything else, then per user or key.

Off where no limit is configured. The address is counted by the middleware before it is known
who calls; user or key, with the customer's plan, by one verdict once that is known: a refusal
takes from none of them. Source: draft-ietf-httpapi-ratelimit-headers-10.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from core.api import access, addresses, problems, throttles
from core.api.authentication import Identity
from core.rates import Limit, Limited, Verdict
from core.services import rates

API_PREFIX = "/api/"
ATTRIBUTE = "rate_verdicts"
WINDOW = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,6})", re.ASCII)
Source = Callable[[Request, Identity], Iterable[Limited]]
_sources: list[Source] = []


def add_source(source: Source) -> None:
    """Let an app above name further limits of a caller, such as his plan's; twice is once."""
    if source not in _sources:
        _sources.append(source)


@lru_cache(maxsize=32)
def parsed(name: str, text: str) -> tuple[Limit, ...]:
    """Return the limits that a setting writes as `requests/seconds`, separated by spaces.

    :raises ValueError: for anything else.
    """
    limits = []
    for word in text.split():
        found = WINDOW.fullmatch(word)
        if found is None:
            msg = f"{word!r} is no rate limit; write requests/seconds, for example 100/60"
            raise ValueError(msg)
        requests, seconds = int(found[1]), int(found[2])
        limits.append(Limit(name=f"{name}-{seconds}s", requests=requests, seconds=seconds))
    return tuple(limits)


class RateLimitMiddleware:
    """Count the address, and tell every answer where its caller stands."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request, or refuse it with 429 before any work."""
        if not request.path.startswith(API_PREFIX):
            return self._get_response(request)
        verdict = _verdict(request, _of_address(request))
        if verdict is not None and not verdict.is_allowed:
            response = problems.respond(throttles.refusal(verdict), request=request)
        else:
            response = self._get_response(request)
        return _told(response, getattr(request, ATTRIBUTE, []))


class CallerThrottle(BaseThrottle):
    """Count the user or the service key, and what further sources name, by one verdict."""

    def allow_request(self, request: Request, view: object) -> bool:  # noqa: ARG002 - DRF's signature
        """Return whether the request is within its limits.

        :raises RateLimited: where it is not.
        """
        identity = access.identity_of(request)
        limited = _of_identity(identity)
        for source in _sources:
            limited.extend(source(request, identity))
        verdict = _verdict(request._request, limited)  # noqa: SLF001 - the middleware's request
        if verdict is not None and not verdict.is_allowed:
            raise throttles.refusal(verdict)
        return True


def _of_address(request: HttpRequest) -> list[Limited]:
    limits = parsed("address", settings.RATE_LIMIT_ADDRESS)
    if not limits:
        return []
    caller = addresses.limited_by(addresses.client_address(request))
    return [rates.limited(limit, caller=f"address {caller}") for limit in limits]


def _of_identity(identity: Identity) -> list[Limited]:
    if identity.service_key is not None:
        limits = parsed("key", settings.RATE_LIMIT_KEY)
        caller = f"key {identity.service_key.pk}"
    elif identity.user is not None:
        limits = parsed("user", settings.RATE_LIMIT_USER)
        caller = f"user {identity.user.pk}"
    else:
        return []
    return [rates.limited(limit, caller=caller) for limit in limits]


def _verdict(request: HttpRequest, limited: list[Limited]) -> Verdict | None:
    """Decide, and note the verdict for the answer's headers; None where nothing is limited."""
    if not limited:
        return None
    verdict = rates.shared_store().take(limited)
    noted = [*getattr(request, ATTRIBUTE, []), verdict]
    setattr(request, ATTRIBUTE, noted)
    return verdict


def _told(response: HttpResponse, verdicts: list[Verdict]) -> HttpResponse:
    standings = [standing for verdict in verdicts for standing in verdict.standings]
    if standings:
        response["RateLimit-Policy"] = ", ".join(
            f'"{each.limit.name}";q={each.limit.requests};w={each.limit.seconds}'
            for each in standings
        )
        response["RateLimit"] = ", ".join(
            f'"{each.limit.name}";r={each.remaining};t={each.seconds_to_full}' for each in standings
        )
    return response
