"""Name who acts, why, and under which request."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who acts, why, and under which request, as timeline and audit log keep it."""

    name: str
    reason: str = ""
    request_id: str = ""


SYSTEM = Actor(name="system")
