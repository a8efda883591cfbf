"""Let people register, prove their address, and keep their account."""

from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, schema, serializers, throttles
from core.api import account_serializers as shapes
from core.services import accounts

USER_EXAMPLE = {
    "id": 7,
    "username": "alice",
    "email": "alice@example.com",
    "email_verified": True,
    "customers": [{"id": "01936d3c-0000-7000-8000-000000000001", "name": "alice", "role": "owner"}],
}
LINK_EXAMPLE = "WzcsImFsaWNlQGV4YW1wbGUuY29tIl0:1t…"


class UsersView(APIView):
    """Register."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="registerUser",
        tag="users",
        summary="Register",
        description="Create a user with a customer of its own, on the default plan, and mail a "
        "link that proves the address. The answer is the same where the username or the address "
        "is taken, so that nobody learns who has an account; the mail tells the address's owner.",
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
        throttles.hold_back(request, address=throttles.REGISTRATION_ADDRESS)
        given = serializers.read(shapes.RegistrationSerializer, request)
        accounts.register(
            accounts.Registration(**given),
            actor=access.actor(request),
            clock=clock.process_clock(),
        )
        return Response({"username": given["username"], "email": given["email"]}, status=201)


class VerifyAddressView(APIView):
    """Prove an address."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="verifyAddress",
        tag="users",
        summary="Prove an e-mail address",
        description="Open the link that was mailed: its address becomes the user's, proved. A "
        "link works once and for three days.",
        request=shapes.LinkSerializer,
        request_example={"token": LINK_EXAMPLE},
        answers={204: None},
        refusals=(errors.RateLimited,),
        public=True,
    )
    def post(self, request: Request) -> Response:
        """Prove an address."""
        throttles.hold_back(request, address=throttles.LINK_ADDRESS)
        given = serializers.read(shapes.LinkSerializer, request)
        accounts.verify_address(
            token=given["token"], actor=access.actor(request), clock=clock.process_clock()
        )
        return Response(status=204)


class OwnUserView(APIView):
    """Show and change the caller."""

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

    @schema.operation(
        operation_id="changeOwnUser",
        tag="users",
        summary="Change my e-mail address",
        description="Mail a link to the new address, which becomes the user's once the link is "
        "opened; giving the present address again sends a fresh link. The answer shows the user "
        "as it still is, and is the same where the address is another account's.",
        request=shapes.UserChangeSerializer,
        request_example={"email": "alice@example.org", "current_password": "old secret"},
        answers={200: shapes.UserSerializer},
        example=USER_EXAMPLE,
        refusals=(errors.PermissionDenied, errors.RateLimited),
    )
    def patch(self, request: Request) -> Response:
        """Change the caller's address."""
        user = access.access_user(request)
        given = serializers.read(shapes.UserChangeSerializer, request)
        name = f"user {user.pk}"
        throttles.hold_back(request, account=throttles.PASSWORD_ACCOUNT, name=name)
        shapes.require_current_password(user, given["current_password"])
        throttles.hold_back(request, account=throttles.MAIL_ACCOUNT, name=name)
        accounts.ask_for_verification(
            user_id=user.pk,
            address=given["email"],
            actor=access.actor(request),
            clock=clock.process_clock(),
        )
        return Response(shapes.user_body(user, access.identity_of(request).memberships))


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
        refusals=(errors.PermissionDenied, errors.RateLimited),
    )
    def post(self, request: Request) -> Response:
        """Change the password."""
        user = access.access_user(request)
        given = serializers.read(shapes.PasswordChangeSerializer, request)
        throttles.hold_back(request, account=throttles.PASSWORD_ACCOUNT, name=f"user {user.pk}")
        shapes.require_current_password(user, given["current_password"])
        accounts.change_password(
            user_id=user.pk,
            password=given["new_password"],
            actor=access.actor(request),
            clock=clock.process_clock(),
        )
        return Response(status=204)


class ResetView(APIView):
    """Ask for a new password."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="askForPasswordReset",
        tag="users",
        summary="Ask for a new password",
        description="Mail a link that sets a new password, where the address is a user's. The "
        "answer is always the same.",
        request=shapes.AddressSerializer,
        request_example={"email": "alice@example.com"},
        answers={202: None},
        refusals=(errors.RateLimited,),
        public=True,
    )
    def post(self, request: Request) -> Response:
        """Ask for a new password."""
        given = serializers.read(shapes.AddressSerializer, request)
        throttles.hold_back(
            request,
            address=throttles.MAIL_ADDRESS,
            account=throttles.MAIL_ACCOUNT,
            name=given["email"],
        )
        accounts.ask_for_reset(address=given["email"], clock=clock.process_clock())
        return Response(status=202)


class ResetConfirmView(APIView):
    """Set a new password by a link."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @schema.operation(
        operation_id="resetPassword",
        tag="users",
        summary="Set a new password by a mailed link",
        description="Set the password of the link's user and revoke every token issued so far. A "
        "link works once and for an hour.",
        request=shapes.PasswordResetSerializer,
        request_example={"token": LINK_EXAMPLE, "new_password": "correct horse"},
        answers={204: None},
        refusals=(errors.RateLimited,),
        public=True,
    )
    def post(self, request: Request) -> Response:
        """Set a new password by a link."""
        throttles.hold_back(request, address=throttles.LINK_ADDRESS)
        given = serializers.read(shapes.PasswordResetSerializer, request)
        accounts.reset_password(
            token=given["token"],
            password=given["new_password"],
            actor=access.actor(request),
            clock=clock.process_clock(),
        )
        return Response(status=204)
