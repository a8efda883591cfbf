"""Limit how often by plan: a static feature holds the requests a minute."""

from collections.abc import Iterable

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from core import clock
from core.api import access, throttles
from core.api.authentication import Identity
from core.models import Customer
from core.rates import Limit, Limited
from core.services import rates
from metering import selectors
from metering.enforcement import callers

WINDOW_SECONDS = 60


class EntitlementThrottle(BaseThrottle):
    """Let the caller's customer ask a view as often a minute as his plan says.

    The plan's static feature holds the number; a plan without it does not limit. Stand an
    instance in the view: `throttle_classes = [EntitlementThrottle("search_per_minute")]`.
    """

    def __init__(self, feature_key: str) -> None:
        self.feature_key = feature_key

    def __call__(self) -> "EntitlementThrottle":
        """Return itself: DRF calls what stands in `throttle_classes`."""
        return self

    def allow_request(self, request: Request, view: APIView) -> bool:  # noqa: ARG002 - DRF's signature
        """Return whether the request is within the plan's rate.

        :raises RateLimited: where it is not.
        """
        limited = list(_limited(request, access.identity_of(request), self.feature_key))
        if limited:
            verdict = rates.shared_store().take(limited)
            if not verdict.is_allowed:
                raise throttles.refusal(verdict)
        return True


def limits_of_plan(request: Request, identity: Identity) -> Iterable[Limited]:
    """Yield the limit of the whole API that the caller's plan sets; none where it is off."""
    feature_key = settings.RATE_LIMIT_PLAN_FEATURE
    if feature_key:
        yield from _limited(request, identity, feature_key)


def _limited(request: Request, identity: Identity, feature_key: str) -> Iterable[Limited]:
    customer = callers.find_customer(request, identity)
    requests = _requests_a_minute(customer, feature_key) if customer else None
    if customer is not None and requests is not None:
        limit = Limit(name=feature_key[:20], requests=requests, seconds=WINDOW_SECONDS)
        yield rates.limited(limit, caller=f"customer {customer.pk}")


def _requests_a_minute(customer: Customer, feature_key: str) -> int | None:
    overview = selectors.get_overview(customer=customer, clock=clock.process_clock())
    has = overview.others.get(feature_key)
    if has is None or not isinstance(has.value, int):
        return None
    return has.value if has.value > 0 else None
