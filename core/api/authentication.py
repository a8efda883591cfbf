"""Authenticate users by access token and backends by service key."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from core import clock, errors
from core.api import problems, tokens
from core.memory import Memory
from core.models import Member, ServiceKey, User
from core.services import service_keys


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who calls: a user with its memberships, or a backend with its service key.

    `expires_at` is when the credential ends by itself; None where it does not.
    """

    user: User | None = None
    memberships: tuple[Member, ...] = ()
    service_key: ServiceKey | None = None
    expires_at: datetime | None = None


class ServiceUser:
    """Stand in for the user where a service key calls."""

    is_authenticated = True
    is_active = True
    is_staff = False
    pk = None


Caller = User | ServiceUser
_known: Memory[bytes, tuple[Caller, Identity]] = Memory(entries_max=10_000)


class _HeaderAuthentication(BaseAuthentication):
    """Read `Authorization: <keyword> <credential>`.

    A view with `knows_callers` is asked so often that asking who calls would cost most of it: who
    was accepted is known there for `ENGINE.identity_seconds` from then on, and never after his
    credential's own end. Nothing of it decides about units.
    """

    keyword = ""

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        """Return the challenge of a 401."""
        return problems.CHALLENGE

    def authenticate(self, request: Request) -> tuple[Caller, Identity] | None:
        """Return who calls; None where the header is another's.

        :raises Unauthenticated, TokenRevoked: as the credential is.
        """
        keyword, _, credential = get_authorization_header(request).partition(b" ")
        if keyword.lower() != self.keyword.lower().encode():
            return None
        if not getattr(request.parser_context["view"], "knows_callers", False):
            return self.identify(credential.strip().decode("latin-1"))
        found = _known.find(credential)
        if found is None:
            found = self.identify(credential.strip().decode("latin-1"))
            _known.keep(credential, found, seconds=_seconds_known(found[1]))
        return found

    def identify(self, credential: str) -> tuple[Caller, Identity]:
        """Return who bears the credential."""
        raise NotImplementedError


def _seconds_known(identity: Identity) -> float:
    seconds: float = settings.ENGINE.identity_seconds
    if identity.expires_at is not None:
        left = identity.expires_at - clock.host_now()
        seconds = min(seconds, left.total_seconds())
    return seconds


def forget_callers() -> None:
    """Let everybody be asked again who he is."""
    _known.forget()


class TokenAuthentication(_HeaderAuthentication):
    """Accept a valid access token of an active user whose token version it carries."""

    keyword = "Bearer"

    def identify(self, credential: str) -> tuple[Caller, Identity]:
        """Return the user and his identity.

        :raises Unauthenticated, TokenRevoked: as `identified` does.
        """
        return identified(credential)


def identified(encoded: str) -> tuple[User, Identity]:
    """Return the user of an access token and its identity, in one statement.

    :raises Unauthenticated: for a token that is not valid, or a user gone or deactivated.
    :raises TokenRevoked: for a token issued before the last revocation.
    """
    claims = tokens.read_access(encoded)
    user, memberships = find_user(user_id=claims.user_id)
    if user is None or not user.is_active:
        raise errors.Unauthenticated("The token is not valid or has expired.")
    if user.token_version != claims.token_version:
        raise errors.TokenRevoked("The token was revoked; log in again.")
    identity = Identity(user=user, memberships=memberships, expires_at=claims.expires_at)
    return user, identity


def find_user(*, user_id: int) -> tuple[User | None, tuple[Member, ...]]:
    """Return the user with its memberships; a second statement only for one without any."""
    members = tuple(
        Member.objects.filter(user_id=user_id)
        .select_related("user", "customer")
        .order_by("customer_id")
    )
    if members:
        return members[0].user, members
    return User.objects.filter(pk=user_id).first(), ()


class ServiceKeyAuthentication(_HeaderAuthentication):
    """Accept `Authorization: Api-Key <prefix>.<secret>`."""

    keyword = "Api-Key"

    def identify(self, credential: str) -> tuple[Caller, Identity]:
        """Return the service key's identity.

        :raises Unauthenticated: for a key that is not valid, expired or revoked.
        """
        service_key = service_keys.authenticate(credential=credential, clock=clock.process_clock())
        identity = Identity(service_key=service_key, expires_at=service_key.expires_at)
        return ServiceUser(), identity


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call] # the library is untyped
    """Describe access tokens in the schema."""

    target_class = TokenAuthentication
    name = "accessToken"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:  # noqa: ARG002 - the library's signature
        """Return the scheme."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class ServiceKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call] # as above
    """Describe service keys in the schema."""

    target_class = ServiceKeyAuthentication
    name = "serviceKey"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:  # noqa: ARG002 - the library's signature
        """Return the scheme."""
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Api-Key <prefix>.<secret>`, made in the admin.",
        }
