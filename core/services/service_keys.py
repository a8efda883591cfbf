"""Make and check service keys: a public prefix, and a secret of which only the hash is kept."""

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from core import clock as clocks
from core import errors
from core.models import SCOPES, ServiceKey

PREFIX_BYTES = 6
SECRET_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A service key and its credential `prefix.secret`, which is shown this once."""

    service_key: ServiceKey
    credential: str


def create(
    *,
    name: str,
    scopes: Collection[str],
    expires_at: datetime | None,
    clock: clocks.Clock,
) -> NewKey:
    """Make a key with the scopes; its secret has 256 random bits.

    :raises Invalid: for an unknown scope or an expiry that has passed.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        detail = f"{unknown[0]} is not a scope; known are {', '.join(SCOPES)}."
        raise errors.Invalid.at("/scopes", code="invalid_choice", detail=detail)
    at = clock.now()
    if expires_at is not None and expires_at <= at:
        raise errors.Invalid.at("/expires_at", code="past", detail="The expiry has passed.")
    secret = secrets.token_urlsafe(SECRET_BYTES)
    service_key = ServiceKey.objects.create(
        name=name,
        prefix=secrets.token_hex(PREFIX_BYTES),
        secret_hash=_hashed(secret),
        scopes=sorted(scopes),
        created_at=at,
        expires_at=expires_at,
    )
    return NewKey(service_key=service_key, credential=f"{service_key.prefix}.{secret}")


def authenticate(*, credential: str, clock: clocks.Clock) -> ServiceKey:
    """Return the usable key of a credential, compared in constant time.

    :raises Unauthenticated: for an unknown, wrong, expired or revoked one, all alike.
    """
    prefix, _, secret = credential.partition(".")
    service_key = ServiceKey.objects.filter(prefix=prefix).first()
    expected = service_key.secret_hash if service_key else _hashed("")
    is_secret = hmac.compare_digest(_hashed(secret), expected)
    if service_key is None or not is_secret or not service_key.is_usable(at=clock.now()):
        raise errors.Unauthenticated("The service key is not valid.")
    return service_key


def revoke(*, service_key: ServiceKey, clock: clocks.Clock) -> None:
    """End a key at once; ended once is ended."""
    ServiceKey.objects.filter(pk=service_key.pk, revoked_at__isnull=True).update(
        revoked_at=clock.now()
    )


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
