"""Let a DRF view be called only by those whose plan includes it."""

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from core import clock
from metering.enforcement import callers
from metering.services import checking

SCOPE = "entitlements:read"


class HasEntitlement(BasePermission):
    """Let pass whose customer may use the feature now; reads, and never counts.

    Stand an instance in the view: `permission_classes = [HasEntitlement("reports_pdf")]`, or
    last in a composition: `IsAdminUser | HasEntitlement("reports_pdf")`. Of a metered feature
    one unit must be left.
    """

    def __init__(self, feature_key: str) -> None:
        self.feature_key = feature_key

    def __call__(self) -> "HasEntitlement":
        """Return itself: DRF calls what stands in `permission_classes`."""
        return self

    def has_permission(self, request: Request, view: APIView) -> bool:  # noqa: ARG002 - DRF's signature
        """Return True, or raise the problem that says why not.

        :raises UsageDenied, PaymentRequired: where what is in force does not allow it.
        :raises Unauthenticated, NotFound, InsufficientScope, Invalid: as `callers` does.
        :raises FeatureUnknown, FeatureSuspended: as consuming does.
        """
        identity = callers.identity_of(request)
        checking.require(
            customer=callers.access_customer(request, identity, scope=SCOPE),
            feature_key=self.feature_key,
            used_by=callers.used_by(identity),
            clock=clock.process_clock(),
        )
        return True
