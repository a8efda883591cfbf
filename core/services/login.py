"""Let a user log in by username or by e-mail address."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password
from django.db.models.functions import Lower
from django.http import HttpRequest

from core.models import User


class UsernameOrEmailBackend(ModelBackend):
    """Find the user by either name, whatever its case; unknown names cost the same work."""

    def authenticate(
        self,
        request: HttpRequest | None,  # noqa: ARG002 - Django's signature
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,  # noqa: ANN401, ARG002 - Django's signature
    ) -> User | None:
        """Return the active user whose password this is; None otherwise."""
        if username is None or password is None:
            return None
        user = find_user(login=username)
        if user is None:
            make_password(password)
            return None
        if user.check_password(password) and self.user_can_authenticate(user):
            return user
        return None


def find_user(*, login: str) -> User | None:
    """Return the user of a username or an e-mail address; usernames hold no @."""
    column = "email" if "@" in login else "username"
    return User.objects.alias(lowered=Lower(column)).filter(lowered=login.lower()).first()
