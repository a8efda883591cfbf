"""Define what the account operations read and show."""

from collections.abc import Sequence
from typing import Any

from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.core.validators import RegexValidator
from rest_framework import serializers

from core import errors
from core.api.serializers import StrictCharField, StrictSerializer
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


class EmailField(StrictCharField):
    """Accept an e-mail address; its case does not matter."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - DRF's signature
        super().__init__(max_length=254, **kwargs)
        self.validators.append(serializers.EmailField().validators[-1])


class LoginSerializer(StrictSerializer):
    """A login: `username` takes a username or an e-mail address."""

    username = StrictCharField(max_length=254)
    password = _password()


class RefreshSerializer(StrictSerializer):
    """A refresh token."""

    refresh = StrictCharField(max_length=TOKEN_LENGTH_MAX)


class VerifySerializer(StrictSerializer):
    """An access token."""

    token = StrictCharField(max_length=TOKEN_LENGTH_MAX)


class PairSerializer(StrictSerializer):
    """Two tokens."""

    access = serializers.CharField()
    refresh = serializers.CharField()


class VerifiedSerializer(StrictSerializer):
    """The answer about a valid token."""

    active = serializers.BooleanField()


class RegistrationSerializer(StrictSerializer):
    """A new user."""

    username = StrictCharField(max_length=150, validators=[username_form])
    email = EmailField()
    password = StrictCharField(
        max_length=PASSWORD_LENGTH_MAX,
        trim_whitespace=False,
        write_only=True,
        validators=[acceptable_password],
    )


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
    customers = MembershipSerializer(many=True)


class PasswordChangeSerializer(StrictSerializer):
    """A change of the password."""

    current_password = _password()
    new_password = StrictCharField(
        max_length=PASSWORD_LENGTH_MAX,
        trim_whitespace=False,
        write_only=True,
        validators=[acceptable_password],
    )


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
        "customers": customers,
    }


def require_current_password(user: User, password: str) -> None:
    """Return where the password is the user's.

    :raises Invalid: where it is not.
    """
    if not user.check_password(password):
        detail = "This is not the current password."
        raise errors.Invalid.at("/current_password", code="wrong", detail=detail)
