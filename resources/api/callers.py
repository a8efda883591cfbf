"""Turn a caller into what booking needs: the customer, his booking, his clock, and who acts."""

from typing import Any
from uuid import UUID

from rest_framework.request import Request

from core import clock, errors
from core.actors import Actor
from core.api import access, requests
from core.models import Customer
from resources import selectors
from resources.models import Booking


def clock_of(customer: Customer) -> clock.Clock:
    """Return the clock by which the customer is answered."""
    return clock.customer_clock(customer, clock=clock.process_clock())


def access_booking(request: Request, booking_id: UUID, *, scope: str, named: str | None) -> Booking:
    """Return the booking of a customer for whom the caller may act, with all that is shown.

    :raises NotFound: for one that is not there or not his.
    """
    customer = access.access_customer(request, scope=scope, named=named)
    row = selectors.list_bookings(customer=customer).filter(pk=booking_id).first()
    if row is None:
        raise errors.NotFound("There is no such booking.")
    return row


def actor_of(request: Request, *, reason: str = "") -> Actor:
    """Return the caller as the timeline names him."""
    return Actor(
        name=access.actor_name(request), reason=reason, request_id=requests.request_id(request)
    )


def booking_customer(request: Request, given: dict[str, Any]) -> Customer:
    """Return the customer who books; only a service key may waive his policy.

    :raises PermissionDenied: for a user who would.
    """
    if given.get("waive_policy") and access.identity_of(request).service_key is None:
        raise errors.PermissionDenied("Only a service key may book beyond the policy.")
    return access.access_customer(request, scope="bookings:write", named=given.get("customer"))
