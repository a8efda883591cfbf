"""Encode and decode access and refresh tokens; the library checks signature, expiry, aud, iss."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, Token

from core import errors, models

VERSION_CLAIM = "ver"


@dataclass(frozen=True, kw_only=True)
class AccessClaims:
    """What a valid access token says."""

    user_id: int
    token_version: int
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class RefreshClaims:
    """What a valid refresh token says."""

    user_id: int
    token_version: int
    token_id: UUID


def pair(*, user: models.User, refresh: models.RefreshToken) -> dict[str, str]:
    """Return the encoded access and refresh tokens of a user."""
    access_token, refresh_token = AccessToken(), RefreshToken()
    for token in (access_token, refresh_token):
        token["user_id"] = str(user.pk)
        token[VERSION_CLAIM] = user.token_version
    refresh_token["jti"] = str(refresh.pk)
    refresh_token.set_exp(
        from_time=refresh.created_at, lifetime=refresh.expires_at - refresh.created_at
    )
    return {"access": str(access_token), "refresh": str(refresh_token)}


def read_access(encoded: str) -> AccessClaims:
    """Return the claims of an access token.

    :raises Unauthenticated: for one that is forged, expired or of another kind.
    """
    token = _decoded(AccessToken, encoded)
    user_id, token_version = _common_claims(token)
    return AccessClaims(
        user_id=user_id,
        token_version=token_version,
        expires_at=datetime.fromtimestamp(token["exp"], tz=UTC),
    )


def read_refresh(encoded: str) -> RefreshClaims:
    """Return the claims of a refresh token.

    :raises Unauthenticated: for one that is forged, expired or of another kind.
    """
    token = _decoded(RefreshToken, encoded)
    user_id, token_version = _common_claims(token)
    try:
        token_id = UUID(str(token["jti"]))
    except (KeyError, ValueError) as error:
        raise _refused() from error
    return RefreshClaims(user_id=user_id, token_version=token_version, token_id=token_id)


def _decoded(kind: type[Token], encoded: str) -> Token:
    try:
        return kind(encoded)  # type: ignore[arg-type] # its stubs expect a token
    except (TokenError, UnicodeError) as error:
        raise _refused() from error


def _common_claims(token: Token) -> tuple[int, int]:
    try:
        return int(token["user_id"]), int(token[VERSION_CLAIM])
    except (KeyError, TypeError, ValueError) as error:
        raise _refused() from error


def _refused() -> errors.Unauthenticated:
    return errors.Unauthenticated("The token is not valid or has expired.")
