"""Rotate refresh tokens: each is spent once, and a stolen one ends its family.

All writes to a user's tokens stand under the user's lock. The tokens' encoding is the edge's.
"""

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from uuid_utils.compat import uuid7

from core import clock as clocks
from core import db, errors, locks
from core.models import RefreshToken, User


@db.operation
def issue(*, user_id: int, clock: clocks.Clock) -> RefreshToken:
    """Open a family with its first refresh token."""
    with db.transaction():
        user = locks.lock_user(user_id=user_id)
        return _create(user=user, family=uuid7(), clock=clock)


@db.operation
def rotate(
    *, user_id: int, token_id: UUID, token_version: int, clock: clocks.Clock
) -> RefreshToken:
    """Spend a refresh token and return its successor; of parallel calls one succeeds.

    A spent token presented again within the grace revokes nothing, since a client may have
    repeated a call whose answer it lost; later it revokes the whole family.

    :raises TokenSpent: for a spent token within the grace.
    :raises TokenRevoked: for a revoked family, an older token version or a spent token later on.
    :raises Unauthenticated: for an unknown, expired or deactivated one.
    """
    with db.transaction():
        user, token, refusal = _examine(
            user_id=user_id, token_id=token_id, token_version=token_version, clock=clock
        )
        if user is not None and token is not None and refusal is None:
            token.spent_at = clock.now()
            token.save(update_fields=["spent_at"])
            return _create(user=user, family=token.family, clock=clock)
    raise refusal or errors.Unauthenticated("The refresh token is not valid.")


def _examine(
    *, user_id: int, token_id: UUID, token_version: int, clock: clocks.Clock
) -> tuple[User | None, RefreshToken | None, errors.DomainError | None]:
    """Return user and token under the user's lock, and why the token may not be used."""
    try:
        user = locks.lock_user(user_id=user_id)
    except User.DoesNotExist:
        return None, None, None
    token = RefreshToken.objects.filter(pk=token_id, user=user).first()
    at = clock.now()
    if token is None or not user.is_active or at >= token.expires_at:
        return user, None, None
    if token.revoked_at is not None or token_version != user.token_version:
        return user, token, errors.TokenRevoked("The token was revoked; log in again.")
    if token.spent_at is None:
        return user, token, None
    grace = timedelta(seconds=settings.ENGINE.refresh_reuse_grace_seconds)
    if at <= token.spent_at + grace:
        return user, token, errors.TokenSpent("This refresh token was used just now.")
    _revoke_family(token, clock=clock)
    detail = "A spent token came again: all tokens of this login are revoked; log in again."
    return user, token, errors.TokenRevoked(detail)


@db.operation
def revoke(*, user_id: int, token_id: UUID, clock: clocks.Clock) -> None:
    """Revoke the family of a refresh token; an unknown or revoked one changes nothing."""
    with db.transaction():
        try:
            locks.lock_user(user_id=user_id)
        except User.DoesNotExist:
            return
        token = RefreshToken.objects.filter(pk=token_id, user_id=user_id).first()
        if token is not None:
            _revoke_family(token, clock=clock)


def _revoke_family(token: RefreshToken, *, clock: clocks.Clock) -> None:
    RefreshToken.objects.filter(family=token.family, revoked_at__isnull=True).update(
        revoked_at=clock.now()
    )


def _create(*, user: User, family: UUID, clock: clocks.Clock) -> RefreshToken:
    at = clock.now()
    lifetime = timedelta(seconds=settings.ENGINE.refresh_token_seconds)
    return RefreshToken.objects.create(
        user=user, family=family, created_at=at, expires_at=at + lifetime
    )
