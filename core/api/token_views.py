"""Let users log in, refresh and log out."""

from axes.handlers.proxy import AxesProxyHandler
from django.contrib.auth import authenticate
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import (
    access,
    authentication,
    cookies,
    problems,
    schema,
    serializers,
    throttles,
    tokens,
)
from core.api import account_serializers as shapes
from core.models import User
from core.services import accounts
from core.services import tokens as token_service

PAIR_EXAMPLE = {"access": "eyJhbGciOi…", "refresh": "eyJhbGciOi…"}
LOGIN_EXAMPLE = {"username": "alice", "password": "alice-demo-password"}
COOKIE_HELP = (
    "In a browser leave the body empty: the refresh token comes from its cookie, and the login's "
    "`csrf_token` goes into the header X-CSRFToken; the new refresh token is in the cookie again."
)


class TokenView(APIView):
    """Exchange a password for tokens."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="createToken",
        tag="authentication",
        summary="Log in",
        description="Exchange a username or e-mail address and a password for an access token "
        "(ten minutes) and a refresh token, which is spent by its first use. With `cookie: true` "
        "the refresh token is not in the body but in an HttpOnly, SameSite=Strict cookie, and "
        "the body has a `csrf_token` for refreshing and revoking.",
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
        throttles.hold_back(
            request,
            address=throttles.LOGIN_ADDRESS,
            account=throttles.LOGIN_ACCOUNT,
            name=given["username"],
        )
        user = _authenticated(request, login=given["username"], password=given["password"])
        refresh = token_service.issue(user_id=user.pk, clock=clock.process_clock())
        pair = tokens.pair(user=user, refresh=refresh)
        return cookies.answer(request, pair) if given.get("cookie") else Response(pair)


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
        f"it revokes every token of that login. {COOKIE_HELP}",
        request=shapes.RefreshSerializer,
        request_example={"refresh": "eyJhbGciOi…"},
        answers={200: shapes.PairSerializer},
        example=PAIR_EXAMPLE,
        refusals=(
            errors.Unauthenticated,
            errors.TokenSpent,
            errors.TokenRevoked,
            errors.PermissionDenied,
        ),
        public=True,
    )
    def post(self, request: Request) -> Response:
        """Rotate the refresh token."""
        given = serializers.read(shapes.RefreshSerializer, request)
        in_body = given.get("refresh")
        claims = tokens.read_refresh(in_body or cookies.read(request))
        refresh = token_service.rotate(
            user_id=claims.user_id,
            token_id=claims.token_id,
            token_version=claims.token_version,
            clock=clock.process_clock(),
        )
        pair = tokens.pair(user=refresh.user, refresh=refresh)
        return Response(pair) if in_body else cookies.answer(request, pair)


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
        authentication.identified(given["token"])
        return Response({"active": True})


class RevokeView(APIView):
    """Log out."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="revokeToken",
        tag="authentication",
        summary="Log out",
        description="Revoke the refresh token and every other one of the same login. "
        f"{COOKIE_HELP}",
        request=shapes.RefreshSerializer,
        request_example={"refresh": "eyJhbGciOi…"},
        answers={204: None},
        refusals=(errors.Unauthenticated, errors.PermissionDenied),
        public=True,
    )
    def post(self, request: Request) -> Response:
        """Log out."""
        given = serializers.read(shapes.RefreshSerializer, request)
        claims = tokens.read_refresh(given.get("refresh") or cookies.read(request))
        token_service.revoke(
            user_id=claims.user_id, token_id=claims.token_id, clock=clock.process_clock()
        )
        return cookies.forget(Response(status=204))


class RevokeAllView(APIView):
    """Log out everywhere."""

    @schema.operation(
        operation_id="revokeAllTokens",
        tag="authentication",
        summary="Log out everywhere",
        description="Revoke every token of the caller issued so far, the one of this call too.",
        answers={204: None},
        refusals=(errors.PermissionDenied,),
    )
    def post(self, request: Request) -> Response:
        """Log out everywhere."""
        user = access.access_user(request)
        accounts.log_out_everywhere(
            user_id=user.pk, actor=access.actor(request), clock=clock.process_clock()
        )
        return cookies.forget(Response(status=204))
