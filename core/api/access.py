"""Turn what a caller names into the customer he may act for; nothing else does."""

from collections.abc import Collection
from contextlib import suppress
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from rest_framework.request import Request

from core import errors
from core.actors import Actor
from core.api import problems
from core.api.authentication import Identity
from core.memory import Memory
from core.models import Customer, Member, ServiceKey, User

_ids: Memory[str, UUID] = Memory(entries_max=20_000)
ANY_ROLE = frozenset(Member.Role.values)
PAYING_ROLES = frozenset({Member.Role.OWNER.value, Member.Role.BILLING.value})


def access_customer(
    request: Request, *, scope: str, named: str | None = None, roles: frozenset[str] = ANY_ROLE
) -> Customer:
    """Return the customer that the caller acts for: a user's own, or the one that he names.

    A service key always names it, by id or external key.

    :raises NotFound: for a customer that is not there or not the caller's.
    :raises PermissionDenied: for a member whose role may not do this.
    :raises InsufficientScope: for a service key without the scope.
    :raises Invalid: where a customer must be named.
    """
    return customer_of(identity_of(request), scope=scope, named=named, roles=roles)


def access_customer_id(request: Request, *, scope: str, named: str | None = None) -> UUID:
    """Return the id of the customer that `access_customer` returns, some seconds old at most.

    Who bears a name never changes but where another customer takes another's id as his key.

    :raises NotFound, InsufficientScope, Invalid: as there.
    """
    identity = identity_of(request)
    if identity.service_key is None or named is None:
        return customer_of(identity, scope=scope, named=named).pk
    _access_scope(identity, scope=scope)
    known = _ids.find(named)
    if known is None:
        known = get_customer(named=named).pk
        _ids.keep(named, known, seconds=settings.ENGINE.identity_seconds)
    return known


def forget_ids() -> None:
    """Let every name be looked up again."""
    _ids.forget()


def customer_of(
    identity: Identity, *, scope: str, named: str | None = None, roles: frozenset[str] = ANY_ROLE
) -> Customer:
    """Return the customer that the identity acts for, as `access_customer` does for a request.

    :raises NotFound, PermissionDenied, InsufficientScope, Invalid: as there.
    """
    if identity.service_key is not None:
        _access_scope(identity, scope=scope)
        return _access_by_key(named=named)
    memberships = [each for each in identity.memberships if named is None or _is(each, named)]
    if not memberships:
        raise errors.NotFound("There is no such customer.")
    if len(memberships) > 1:
        raise _customer_required("You belong to several customers: name one.")
    if memberships[0].role not in roles:
        detail = f"A {memberships[0].role} may not do this; ask the owner."
        raise errors.PermissionDenied(detail)
    return memberships[0].customer


def access_customers(
    request: Request, *, scope: str, named: Collection[str | None]
) -> dict[str | None, UUID]:
    """Return the ids of those among the named customers that the caller acts for.

    None stands for nobody named: a user's own customer, where he has just one. Whom the answer
    lacks is not there, or not the caller's.

    :raises InsufficientScope: for a service key without the scope.
    """
    identity = identity_of(request)
    if identity.service_key is not None:
        access_scope(request, scope=scope)
        names = {name for name in named if name is not None}
        return {name: each.pk for name, each in find_customers(names=names).items()}
    found: dict[str | None, UUID] = {}
    for each in identity.memberships:
        found |= {str(each.customer_id): each.customer_id}
    found |= {each.customer.external_key: each.customer_id for each in identity.memberships}
    if len(identity.memberships) == 1:
        found[None] = identity.memberships[0].customer_id
    return found


def access_scope(request: Request, *, scope: str) -> ServiceKey:
    """Return the service key that calls, where it has the scope.

    :raises PermissionDenied: for a user.
    :raises InsufficientScope: for a service key without the scope.
    """
    return _access_scope(identity_of(request), scope=scope)


def _access_scope(identity: Identity, *, scope: str) -> ServiceKey:
    service_key = identity.service_key
    if service_key is None:
        raise errors.PermissionDenied("Only a service key may do this.")
    if scope not in service_key.scopes:
        detail = f"This service key lacks the scope {scope}."
        raise errors.InsufficientScope(detail, facts={"scope": scope})
    return service_key


def access_reader(request: Request, *, scope: str) -> None:
    """Let any user pass, and a service key with the scope.

    :raises InsufficientScope: for a service key without the scope.
    """
    if identity_of(request).service_key is not None:
        access_scope(request, scope=scope)


def access_managed_customer(
    request: Request, *, scope: str, permission: str, named: str
) -> Customer:
    """Return the named customer to a service key with the scope or to staff with the permission.

    :raises PermissionDenied: for any other user.
    :raises InsufficientScope: for a service key without the scope.
    :raises NotFound: for a customer that is not there.
    """
    access_management(request, scope=scope, permission=permission)
    return _access_by_key(named=named)


def access_management(request: Request, *, scope: str, permission: str) -> None:
    """Let a service key with the scope pass, and staff with the permission.

    :raises PermissionDenied: for any other user.
    :raises InsufficientScope: for a service key without the scope.
    """
    identity = identity_of(request)
    if identity.service_key is not None:
        access_scope(request, scope=scope)
    elif identity.user is None or not (
        identity.user.is_staff and identity.user.has_perm(permission)
    ):
        detail = "Only a service key, or staff with the permission, may do this."
        raise errors.PermissionDenied(detail)


def access_user(request: Request) -> User:
    """Return the user that calls.

    :raises PermissionDenied: for a service key.
    """
    user = identity_of(request).user
    if user is None:
        raise errors.PermissionDenied("Only a user may do this, not a service key.")
    return user


def access_staff(request: Request, *, permission: str) -> User:
    """Return the staff member that calls, where he has the admin's permission for it.

    :raises PermissionDenied: for anybody else.
    """
    user = access_user(request)
    if not (user.is_staff and user.has_perm(permission)):
        detail = f"Only staff with the permission {permission} may do this."
        raise errors.PermissionDenied(detail)
    return user


def identity_of(request: Request) -> Identity:
    """Return who calls; nobody where the request carries no credential."""
    return request.auth if isinstance(request.auth, Identity) else Identity()


def actor_name(request: Request) -> str:
    """Return the caller as a timeline names him."""
    identity = identity_of(request)
    if identity.service_key is not None:
        return f"service key {identity.service_key.prefix}"
    return f"user {identity.user.pk}" if identity.user else ""


def actor(request: Request, *, reason: str = "") -> Actor:
    """Return the caller as timeline and audit log keep him; nobody is `anonymous`."""
    name = actor_name(request) or "anonymous"
    return Actor(name=name, reason=reason, request_id=problems.request_id(request))


def _access_by_key(*, named: str | None) -> Customer:
    if named is None:
        raise _customer_required("A service key names the customer, by id or external key.")
    return get_customer(named=named)


def get_customer(*, named: str) -> Customer:
    """Return the customer of an external key or else of an id.

    :raises NotFound: where there is none.
    """
    customer = find_customer(named=named)
    if customer is None:
        raise errors.NotFound("There is no such customer.")
    return customer


def find_customer(*, named: str) -> Customer | None:
    """Return the customer of an external key or else of an id."""
    found = {each.external_key: each for each in Customer.objects.named(named)}
    return found.get(named) or next(iter(found.values()), None)


def find_customers(*, names: Collection[str]) -> dict[str, Customer]:
    """Return the customers of external keys or else of ids, in one statement."""
    ids: dict[str, UUID] = {}
    for name in names:
        with suppress(ValueError):
            ids[name] = UUID(name)
    named = Q(external_key__in=names) | Q(pk__in=ids.values())
    rows = list(Customer.objects.filter(named)) if names else []
    by_id = {each.pk: each for each in rows}
    found = {name: by_id[pk] for name, pk in ids.items() if pk in by_id}
    return found | {each.external_key: each for each in rows if each.external_key in names}


def _is(membership: Member, named: str) -> bool:
    customer = membership.customer
    return named in {str(customer.pk), customer.external_key}


def _customer_required(detail: str) -> errors.Invalid:
    return errors.Invalid.at("/customer", code="required", detail=detail)
