"""Write a booking as an iCalendar event. Source: RFC 5545."""

from collections.abc import Iterator
from datetime import UTC, datetime

from resources import standing
from resources.models import Booking

LINE_BYTES_MAX = 75
STATUS = {
    Booking.State.HELD: "TENTATIVE",
    Booking.State.CONFIRMED: "CONFIRMED",
    Booking.State.COMPLETED: "CONFIRMED",
}


def event(row: Booking, *, at: datetime) -> str:
    """Return a calendar with the booking as its one event, in UTC; what was given up is cancelled.

    A later copy replaces an earlier one: the UID stays, and the stamp is the instant of asking.
    """
    names = ", ".join(each.resource.name for each in row.allocations.all())
    state = Booking.State(standing.effective_state(row, at=at))
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Subscription & Entitlement Engine//bookings//EN",
        "METHOD:PUBLISH",
        "BEGIN:VEVENT",
        f"UID:{row.pk}",
        f"DTSTAMP:{_utc(at)}",
        f"DTSTART:{_utc(row.starts_at)}",
        f"DTEND:{_utc(row.ends_at)}",
        f"SUMMARY:{_escaped(names)}",
        f"LOCATION:{_escaped(row.venue.name)}",
        f"STATUS:{STATUS.get(state, 'CANCELLED')}",
        "END:VEVENT",
        "END:VCALENDAR",
    ]
    return "".join(f"{part}\r\n" for line in lines for part in _folded(line))


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _escaped(text: str) -> str:
    for character in ("\\", ";", ","):
        text = text.replace(character, f"\\{character}")
    return text.replace("\r\n", "\\n").replace("\n", "\\n").replace("\r", "\\n")


def _folded(line: str) -> Iterator[str]:
    """Yield the line in parts of at most 75 octets, each but the first after a space."""
    part = ""
    for character in line:
        if len((part + character).encode()) > LINE_BYTES_MAX:
            yield part
            part = " "
        part += character
    yield part
