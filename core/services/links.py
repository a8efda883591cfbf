"""Sign the links that mails carry: each expires, and is dead once it did its work.

Nothing is stored: a link carries a digest of the state that using it changes.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core import signing

from core.models import User

VERIFICATION_LIFE = timedelta(days=3)
RESET_LIFE = timedelta(hours=1)
VERIFICATION_SALT = "core.links.verification"
RESET_SALT = "core.links.reset"


@dataclass(frozen=True, kw_only=True)
class Link:
    """What a link says: its user, the address that it proves, the state that it needs."""

    user_id: int
    address: str
    state: str
    expires_at: float

    def is_good(self, *, state: str, at: datetime) -> bool:
        """Tell whether the link has not expired and its user still is in its state."""
        return hmac.compare_digest(self.state, state) and at.timestamp() < self.expires_at


def verification(user: User, *, address: str, at: datetime) -> str:
    """Return a token that proves the address; good until an address of the user is proved."""
    return _signed(
        VERIFICATION_SALT, user, address, verification_state(user), at + VERIFICATION_LIFE
    )


def reset(user: User, *, at: datetime) -> str:
    """Return a token that sets a new password, once."""
    return _signed(RESET_SALT, user, user.email, reset_state(user), at + RESET_LIFE)


def verification_state(user: User) -> str:
    """Return a digest of what proving an address changes."""
    return _digest(user.email, user.email_verified_at)


def reset_state(user: User) -> str:
    """Return a digest of what setting a password changes."""
    return _digest(user.email, user.password, user.token_version)


def find_link(token: str, *, salt: str) -> Link | None:
    """Return what the token says; None for one that was not signed here for this purpose."""
    try:
        user_id, address, state, expires_at = signing.loads(token, salt=salt)
    except (signing.BadSignature, UnicodeError, ValueError):
        return None
    return Link(user_id=user_id, address=address, state=state, expires_at=expires_at)


def _signed(salt: str, user: User, address: str, state: str, expires_at: datetime) -> str:
    return signing.dumps([user.pk, address, state, expires_at.timestamp()], salt=salt)


def _digest(*parts: object) -> str:
    return hashlib.sha256("\n".join(str(part) for part in parts).encode()).hexdigest()
