"""Write instants as people read them."""

from datetime import UTC, datetime


def instant(at: datetime | None, *, none: str = "never") -> str:
    """Return an instant to the minute in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if at else none
