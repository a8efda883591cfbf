"""Tell for whom a request calls, from Django's session or from the API's credentials."""

from collections.abc import Callable

from django.http import HttpRequest
from rest_framework.request import Request

from core import errors
from core.api import access, authentication
from core.api.authentication import Identity
from core.models import Customer, User
from metering.services.drawing import For

AnyRequest = HttpRequest | Request
FindCustomer = Callable[[AnyRequest], Customer]


def identity_of(request: AnyRequest) -> Identity:
    """Return who calls: as the API knows him, or the user of Django's session; else nobody."""
    known = getattr(request, "auth", None)
    if isinstance(known, Identity):
        return known
    user = getattr(request, "user", None)
    if not isinstance(user, User):
        return Identity()
    found, memberships = authentication.find_user(user_id=user.pk)
    return Identity(user=found, memberships=memberships)


def access_customer(request: AnyRequest, identity: Identity, *, scope: str) -> Customer:
    """Return the caller's own customer, or the one that `?customer=` names among his.

    :raises Unauthenticated: where nobody calls.
    :raises NotFound, InsufficientScope, Invalid: as `core.api.access` does.
    """
    if identity.user is None and identity.service_key is None:
        raise errors.Unauthenticated("Log in, or give a valid access token or service key.")
    return access.customer_of(identity, scope=scope, named=_named(request))


def find_customer(request: AnyRequest, identity: Identity) -> Customer | None:
    """Return the one customer for whom a user calls; None where that is not plain."""
    named = _named(request)
    found = [
        each.customer
        for each in identity.memberships
        if named is None or named in {str(each.customer.pk), each.customer.external_key}
    ]
    return found[0] if len(found) == 1 else None


def used_by(identity: Identity) -> For:
    """Return whose usage it is, where a feature is counted per member."""
    return For(member=str(identity.user.pk) if identity.user else "")


def _named(request: AnyRequest) -> str | None:
    return request.GET.get("customer")
