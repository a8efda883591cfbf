"""Let users register, log in, refresh, log out and keep their account."""

from axes.handlers.proxy import AxesProxyHandler
from django.contrib.auth import authenticate
from django.core.cache import caches
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import AnonRateThrottle
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, authentication, problems, schema, serializers, tokens
from core.api import account_serializers as shapes
from core.models import User
from core.services import accounts
from core.services import tokens as token_service

PAIR_EXAMPLE = {"access": "eyJhbGciOi…", "refresh": "eyJhbGciOi…"}
LOGIN_EXAMPLE = {"username": "alice", "password": "alice-demo-password"}
USER_EXAMPLE = {
    "id": 7,
    "username": "alice",
    "email": "alice@example.com",
    "customers": [{"id": "01936d3c-0000-7000-8000-000000000001", "name": "alice", "role": "owner"}],
}


class RegistrationThrottle(AnonRateThrottle):
    """Let one address register twenty accounts a minute, counted by each process on its own."""

    cache = caches["local"]
    rate = "20/min"
    scope = "registration"


class TokenView(APIView):
    """Exchange a password for tokens."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="createToken",
        tag="authentication",
        summary="Log in",
        description="Exchange a username or e-mail address and a password for an access token "
        "(ten minutes) and a refresh token, which is spent by its first use.",
        request=shapes.LoginSerializer,
        request_example=LOGIN_EXAMPLE,
        answers={200: shapes.PairSerializer},
        example=PAIR_EXAMPLE,
        refusals=(errors.Unauthenticated, errors.RateLimited),
        public=True,
    )
    def post(self, request: Request) -> Response:
        """Log in."""
        given = serializers.read(shapes.LoginSerializer, request)
        user = _authenticated(request, login=given["username"], password=given["password"])
        refresh = token_service.issue(user_id=user.pk, clock=clock.process_clock())
        return Response(tokens.pair(user=user, refresh=refresh))


def _authenticated(request: Request, *, login: str, password: str) -> User:
    credentials = {"username": login}
    http_request = request._request  # noqa: SLF001 - axes counts by Django's request
    if AxesProxyHandler.is_allowed(http_request, credentials):
        user = authenticate(http_request, username=login, password=password)
        if isinstance(user, User):
            return user
    if not AxesProxyHandler.is_allowed(http_request, credentials):
        raise problems.locked_out()
    raise errors.Unauthenticated("Username or password is wrong.")


class RefreshView(APIView):
    """Rotate tokens."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="refreshToken",
        tag="authentication",
        summary="Rotate the refresh token",
        description="Spend a refresh token for a new pair. Of parallel calls with one token one "
        "succeeds. A spent token presented again within ten seconds answers `token_spent`; later "
        "it revokes every token of that login.",
        request=shapes.RefreshSerializer,
        request_example={"refresh": "eyJhbGciOi…"},
        answers={200: shapes.PairSerializer},
        example=PAIR_EXAMPLE,
        refusals=(errors.Unauthenticated, errors.TokenSpent, errors.TokenRevoked),
        public=True,
    )
    def post(self, request: Request) -> Response:
        """Rotate the refresh token."""
        given = serializers.read(shapes.RefreshSerializer, request)
        claims = tokens.read_refresh(given["refresh"])
        refresh = token_service.rotate(
            user_id=claims.user_id,
            token_id=claims.token_id,
            token_version=claims.token_version,
            clock=clock.process_clock(),
        )
        return Response(tokens.pair(user=refresh.user, refresh=refresh))


class VerifyView(APIView):
    """Check a token."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="verifyToken",
        tag="authentication",
        summary="Check an access token",
        description="Answer 200 where the access token would be accepted now.",
        request=shapes.VerifySerializer,
        request_example={"token": "eyJhbGciOi…"},
        answers={200: shapes.VerifiedSerializer},
        example={"active": True},
        refusals=(errors.Unauthenticated, errors.TokenRevoked),
        public=True,
    )
    def post(self, request: Request) -> Response:
        """Check an access token."""
        given = serializers.read(shapes.VerifySerializer, request)
        authentication.authenticated_user(given["token"])
        return Response({"active": True})


class RevokeView(APIView):
    """Log out."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="revokeToken",
        tag="authentication",
        summary="Log out",
        description="Revoke the refresh token and every other one of the same login.",
        request=shapes.RefreshSerializer,
        request_example={"refresh": "eyJhbGciOi…"},
        answers={204: None},
        refusals=(errors.Unauthenticated,),
        public=True,
    )
    def post(self, request: Request) -> Response:
        """Log out."""
        given = serializers.read(shapes.RefreshSerializer, request)
        claims = tokens.read_refresh(given["refresh"])
        token_service.revoke(
            user_id=claims.user_id, token_id=claims.token_id, clock=clock.process_clock()
        )
        return Response(status=204)


class UsersView(APIView):
    """Register."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = (RegistrationThrottle,)

    @schema.operation(
        operation_id="registerUser",
        tag="users",
        summary="Register",
        description="Create a user with a customer of its own, on the default plan. The answer is "
        "the same where the username or the address is taken, so that nobody learns who has an "
        "account; logging in then fails.",
        request=shapes.RegistrationSerializer,
        request_example={
            "username": "alice",
            "email": "alice@example.com",
            "password": "correct horse battery",
        },
        answers={201: shapes.RegisteredSerializer},
        example={"username": "alice", "email": "alice@example.com"},
        refusals=(errors.RateLimited,),
        public=True,
    )
    def post(self, request: Request) -> Response:
        """Register."""
        given = serializers.read(shapes.RegistrationSerializer, request)
        accounts.register(accounts.Registration(**given), clock=clock.process_clock())
        return Response({"username": given["username"], "email": given["email"]}, status=201)


class OwnUserView(APIView):
    """Show the caller."""

    @schema.operation(
        operation_id="getOwnUser",
        tag="users",
        summary="Who am I",
        description="Show the user of the access token and the customers it belongs to.",
        answers={200: shapes.UserSerializer},
        example=USER_EXAMPLE,
        refusals=(errors.PermissionDenied,),
    )
    def get(self, request: Request) -> Response:
        """Show the caller."""
        user = access.access_user(request)
        memberships = access.identity_of(request).memberships
        return Response(shapes.user_body(user, memberships))


class OwnPasswordView(APIView):
    """Change the caller's password."""

    @schema.operation(
        operation_id="changePassword",
        tag="users",
        summary="Change the password",
        description="Set a new password. Every token issued so far is revoked, the caller's too.",
        request=shapes.PasswordChangeSerializer,
        request_example={"current_password": "old secret", "new_password": "correct horse"},
        answers={204: None},
        refusals=(errors.PermissionDenied,),
    )
    def post(self, request: Request) -> Response:
        """Change the password."""
        user = access.access_user(request)
        given = serializers.read(shapes.PasswordChangeSerializer, request)
        shapes.require_current_password(user, given["current_password"])
        accounts.change_password(
            user_id=user.pk, password=given["new_password"], clock=clock.process_clock()
        )
        return Response(status=204)
