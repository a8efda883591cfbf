"""Define what the account operations read and show."""

from collections.abc import Sequence
from typing import Any

from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.core.validators import RegexValidator
from rest_framework import serializers

from core import errors
from core.api.serializers import StrictBooleanField, StrictCharField, StrictSerializer
from core.models import Member, User

PASSWORD_LENGTH_MAX = 128
TOKEN_LENGTH_MAX = 4096
username_form = RegexValidator(
    r"\A[A-Za-z0-9._+-]+\Z", "Letters, digits and . _ + - only.", code="invalid"
)


def _password() -> StrictCharField:
    return StrictCharField(max_length=PASSWORD_LENGTH_MAX, trim_whitespace=False, write_only=True)


def acceptable_password(password: str) -> None:
    """Return where the password is strong enough; a validator of serializer fields."""
    try:
        password_validation.validate_password(password)
    except DjangoValidationError as error:
        raise serializers.ValidationError(error.messages, code="weak") from error


def _new_password() -> StrictCharField:
    return StrictCharField(
        max_length=PASSWORD_LENGTH_MAX,
        trim_whitespace=False,
        write_only=True,
        validators=[acceptable_password],
    )


class EmailField(StrictCharField):
    """Accept an e-mail address; its case does not matter."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - DRF's signature
        super().__init__(max_length=254, **kwargs)
        self.validators.append(serializers.EmailField().validators[-1])


class LoginSerializer(StrictSerializer):
    """A login: `username` takes a username or an e-mail address."""

    username = StrictCharField(max_length=254)
    password = _password()
    cookie = StrictBooleanField(
        required=False, help_text="Keep the refresh token in a cookie: for browsers."
    )


class RefreshSerializer(StrictSerializer):
    """A refresh token; left out where its cookie is sent."""

    refresh = StrictCharField(max_length=TOKEN_LENGTH_MAX, required=False)


class VerifySerializer(StrictSerializer):
    """An access token."""

    token = StrictCharField(max_length=TOKEN_LENGTH_MAX)


class PairSerializer(StrictSerializer):
    """Two tokens; where the refresh token is in its cookie, a CSRF token instead."""

    access = serializers.CharField()
    refresh = serializers.CharField(required=False)
    csrf_token = serializers.CharField(required=False)


class VerifiedSerializer(StrictSerializer):
    """The answer about a valid token."""

    active = serializers.BooleanField()


class RegistrationSerializer(StrictSerializer):
    """A new user."""

    username = StrictCharField(max_length=150, validators=[username_form])
    email = EmailField()
    password = _new_password()


class RegisteredSerializer(StrictSerializer):
    """What was registered."""

    username = serializers.CharField()
    email = serializers.CharField()


class MembershipSerializer(StrictSerializer):
    """A customer to which the user belongs."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    role = serializers.ChoiceField(choices=Member.Role.choices)


class UserSerializer(StrictSerializer):
    """A user."""

    id = serializers.IntegerField()
    username = serializers.CharField()
    email = serializers.CharField()
    email_verified = serializers.BooleanField()
    customers = MembershipSerializer(many=True)


class PasswordChangeSerializer(StrictSerializer):
    """A change of the password."""

    current_password = _password()
    new_password = _new_password()


class UserChangeSerializer(StrictSerializer):
    """A change of the e-mail address."""

    email = EmailField()
    current_password = _password()


class LinkSerializer(StrictSerializer):
    """The token of a mailed link."""

    token = StrictCharField(max_length=TOKEN_LENGTH_MAX)


class AddressSerializer(StrictSerializer):
    """An e-mail address."""

    email = EmailField()


class PasswordResetSerializer(StrictSerializer):
    """A new password, by the token of a mailed link."""

    token = StrictCharField(max_length=TOKEN_LENGTH_MAX)
    new_password = _new_password()


def user_body(user: User, memberships: Sequence[Member]) -> dict[str, object]:
    """Return a user as the API shows it."""
    customers = [
        {"id": each.customer_id, "name": each.customer.name, "role": each.role}
        for each in memberships
    ]
    return {
        "id": user.pk,
        "username": user.username,
        "email": user.email,
        "email_verified": user.email_verified_at is not None,
        "customers": customers,
    }


def require_current_password(user: User, password: str) -> None:
    """Return where the password is the user's.

    :raises Invalid: where it is not.
    """
    if not user.check_password(password):
        detail = "This is not the current password."
        raise errors.Invalid.at("/current_password", code="wrong", detail=detail)
