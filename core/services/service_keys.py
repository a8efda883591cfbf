"""Make, rotate and check service keys: a public prefix, and a secret kept only as a hash."""

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q

from core import clock as clocks
from core import db, errors, locks
from core.actors import SYSTEM, Actor
from core.models import SCOPES, ServiceKey
from core.services import audit

PREFIX_BYTES = 6
SECRET_BYTES = 32
OVERLAP_SECONDS_MAX = 30 * 24 * 3600
LAST_USE_STEP = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A service key and its credential `prefix.secret`, which is shown this once."""

    service_key: ServiceKey
    credential: str


@db.operation
def create(
    *,
    name: str,
    scopes: Collection[str],
    expires_at: datetime | None,
    clock: clocks.Clock,
    actor: Actor = SYSTEM,
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
    with db.transaction():
        return _create_step(
            name=name, scopes=sorted(scopes), expires_at=expires_at, actor=actor, at=at
        )


@db.operation
def rotate(
    *, service_key_id: UUID, overlap_seconds: int, actor: Actor, clock: clocks.Clock
) -> NewKey:
    """Put a new key in a key's place: same name, scopes and expiry; the old one ends later.

    Both work during the overlap (0 … 2,592,000 s), so that backends change over one by one.

    :raises NotFound: where there is no such key.
    :raises Invalid: for an overlap out of its bounds.
    :raises VersionConflict: for a key that has ended or was rotated before.
    """
    if not 0 <= overlap_seconds <= OVERLAP_SECONDS_MAX:
        detail = f"The overlap is 0 … {OVERLAP_SECONDS_MAX} seconds."
        raise errors.Invalid.at("/overlap_seconds", code="out_of_bounds", detail=detail)
    with db.transaction():
        old, at = _locked(service_key_id, clock=clock)
        if not old.is_usable(at=at) or old.rotated_at is not None:
            detail = "The key has ended or was rotated already; make a new one."
            raise errors.VersionConflict(detail)
        new = _create_step(
            name=old.name, scopes=old.scopes, expires_at=old.expires_at, actor=actor, at=at
        )
        before = audit.snapshot(old)
        ends_at = at + timedelta(seconds=overlap_seconds)
        old.expires_at = min(ends_at, old.expires_at or ends_at)
        old.rotated_at = at
        old.save(update_fields=["expires_at", "rotated_at"])
        audit.record_step(
            actor=actor,
            action="service_key.rotated",
            row=old,
            at=at,
            before=before,
            after=audit.snapshot(old),
        )
        return new


@db.operation
def revoke(*, service_key: ServiceKey, clock: clocks.Clock, actor: Actor = SYSTEM) -> None:
    """End a key at once; ended once is ended.

    :raises NotFound: where there is no such key.
    """
    with db.transaction():
        row, at = _locked(service_key.pk, clock=clock)
        if row.revoked_at is not None:
            return
        before = audit.snapshot(row)
        row.revoked_at = at
        row.save(update_fields=["revoked_at"])
        audit.record_step(
            actor=actor,
            action="service_key.revoked",
            row=row,
            at=at,
            before=before,
            after=audit.snapshot(row),
        )


def authenticate(*, credential: str, clock: clocks.Clock) -> ServiceKey:
    """Return the usable key of a credential, compared in constant time.

    Its last use is written at most once a minute.

    :raises Unauthenticated: for an unknown, wrong, expired or revoked one, all alike.
    """
    prefix, _, secret = credential.partition(".")
    service_key = ServiceKey.objects.filter(prefix=prefix).first()
    expected = service_key.secret_hash if service_key else _hashed("")
    is_secret = hmac.compare_digest(_hashed(secret), expected)
    at = clock.now()
    if service_key is None or not is_secret or not service_key.is_usable(at=at):
        raise errors.Unauthenticated("The service key is not valid.")
    _note_use(service_key, at=at)
    return service_key


def _note_use(service_key: ServiceKey, *, at: datetime) -> None:
    last = service_key.last_used_at
    if last is None or at >= last + LAST_USE_STEP:
        stale = Q(last_used_at__isnull=True) | Q(last_used_at__lte=at - LAST_USE_STEP)
        ServiceKey.objects.filter(stale, pk=service_key.pk).update(last_used_at=at)


def _create_step(
    *, name: str, scopes: list[str], expires_at: datetime | None, actor: Actor, at: datetime
) -> NewKey:
    secret = secrets.token_urlsafe(SECRET_BYTES)
    service_key = ServiceKey.objects.create(
        name=name,
        prefix=secrets.token_hex(PREFIX_BYTES),
        secret_hash=_hashed(secret),
        scopes=scopes,
        created_at=at,
        expires_at=expires_at,
    )
    audit.record_step(
        actor=actor,
        action="service_key.created",
        row=service_key,
        at=at,
        after=audit.snapshot(service_key),
    )
    return NewKey(service_key=service_key, credential=f"{service_key.prefix}.{secret}")


def _locked(service_key_id: UUID, *, clock: clocks.Clock) -> tuple[ServiceKey, datetime]:
    try:
        row = locks.lock_service_key(service_key_id=service_key_id)
    except ServiceKey.DoesNotExist as error:
        raise errors.NotFound("There is no such service key.") from error
    return row, clock.now()


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
