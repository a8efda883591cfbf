"""Show users, service keys and the outbox; give every screen its base and its operations."""

from core.admin import audit, keys, outbox, users

__all__ = ["audit", "keys", "outbox", "users"]
