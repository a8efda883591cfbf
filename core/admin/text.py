"""Write instants as people read them."""

from datetime import datetime

from django.utils import timezone


def instant(at: datetime | None, *, none: str = "never") -> str:
    """Return an instant to the minute by the reader's clock, with its zone."""
    return f"{timezone.localtime(at):%Y-%m-%d %H:%M %Z}" if at else none
