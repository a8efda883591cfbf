"""Give every request its `entitlements`, read at the first question and not before."""

from collections.abc import Callable
from functools import cached_property

from django.http import HttpRequest, HttpResponse

from core import clock
from core.api.authentication import Identity
from metering import selectors
from metering.enforcement import callers
from metering.selectors import Overview, Standing
from metering.services import checking
from subscriptions import selectors as subscription_selectors
from subscriptions import switches


class EntitlementsMiddleware:
    """Set `request.entitlements`; costs no query where nobody asks it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        request.entitlements = Entitlements(request)  # type: ignore[attr-defined] # set here alone
        return self._get_response(request)


class Entitlements:
    """What the caller's customer may use, as of the first question; it decides nothing.

    Nobody, and who belongs to no customer or names none of several, is entitled to nothing. A
    key that names no feature is an error, never a silent no. All questions together take one
    reading; only a feature counted per member takes another statement for each.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @cached_property
    def _identity(self) -> Identity:
        return callers.identity_of(self._request)

    @cached_property
    def overview(self) -> Overview | None:
        """Return all that is in force for the customer; None where there is none."""
        customer = callers.find_customer(self._request, self._identity)
        if customer is None:
            return None
        return selectors.get_overview(customer=customer, clock=clock.process_clock())

    def allows(self, feature_key: str, *, units: int = 1) -> bool:
        """Tell whether the feature may be used now: so many units of it, where it is metered.

        :raises FeatureUnknown: for a key that names no feature.
        :raises Invalid: for a feature that is counted per entity.
        """
        feature = subscription_selectors.get_feature(key=feature_key)
        if self.overview is None:
            return False
        switch = switches.state_of(feature.id)
        if switch is not None:
            return switch.state == switches.State.ALLOW
        return not checking.denial_of(
            self.overview, feature=feature, units=units, used_by=callers.used_by(self._identity)
        )

    def value(self, feature_key: str) -> object:
        """Return the value of a static feature; None where it is not granted.

        :raises FeatureUnknown: for a key that names no feature.
        """
        feature = subscription_selectors.get_feature(key=feature_key)
        has = self.overview.others.get(feature_key) if self.overview is not None else None
        is_granted = has is not None and has.is_granted
        is_on = switches.is_on(feature, otherwise=is_granted)
        return has.value if has is not None and is_on else None

    def standing(self, feature_key: str) -> Standing | None:
        """Return limit, use and reset of a metered feature; None where nothing is granted.

        :raises FeatureUnknown: for a key that names no feature.
        """
        subscription_selectors.get_feature(key=feature_key)
        return self.overview.standings.get(feature_key) if self.overview is not None else None
