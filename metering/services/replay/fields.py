"""Read the fields of JSON objects strictly: what is not exactly right is refused by its pointer.

A reader takes a value and its JSON pointer, and returns what the value means. A field that is null
counts as missing.
"""

import re
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Protocol, TypeVar

from core import errors
from core.periods import Interval, Recurrence
from metering.sources import NEVER, Units

T = TypeVar("T")
D = TypeVar("D")
Read_co = TypeVar("Read_co", covariant=True)

LIST_MAX: Final = 1_000_000
TEXT_MAX: Final = 255
INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?(?P<offset>[Zz]|[+-]\d\d:\d\d)?", re.ASCII
)
DECIMAL = re.compile(r"(0|[1-9]\d{0,23})(\.\d{1,12})?", re.ASCII)
DIGITS_MAX: Final = 24
DURATION = re.compile(r"P(?:([1-9]\d{0,8})([DWMY])|T([1-9]\d{0,8})([HM]))", re.ASCII)
INTERVALS: Final = {
    "TM": (Interval.MINUTE, 525_600_000),
    "TH": (Interval.HOUR, 8_760_000),
    "D": (Interval.DAY, 365_000),
    "W": (Interval.WEEK, 52_000),
    "M": (Interval.MONTH, 12_000),
    "Y": (Interval.YEAR, 1000),
}
"""The units of a duration, each up to about 1000 years."""
YEARS = range(1002, 8998)
"""The years in which a boundary before and one after can be computed, whatever the interval."""


class Reader(Protocol[Read_co]):
    """Return what a value means, or refuse it by its pointer."""

    def __call__(self, value: object, /, *, pointer: str) -> Read_co:
        """Return the meaning of the value at the pointer."""
        ...


def invalid(detail: str, *, pointer: str) -> errors.Invalid:
    """Return the refusal of one value."""
    return errors.Invalid.at(
        pointer, code="invalid", detail=f"{pointer or 'The timeline'} {detail}."
    )


class Fields:
    """The fields of one JSON object.

    :raises Invalid: for what is no object, on reading for a missing field.
    :raises UnknownField: for a field that is not known.
    """

    def __init__(self, raw: object, pointer: str, *, known: AbstractSet[str]) -> None:
        if not isinstance(raw, dict):
            raise invalid("must be an object", pointer=pointer)
        unknown = sorted(str(name) for name in raw.keys() - known)
        if unknown:
            detail = f"{pointer}/{unknown[0]} is not known."
            raise errors.UnknownField(detail)
        self._raw = raw
        self.pointer = pointer

    def __contains__(self, name: str) -> bool:
        return name in self._raw

    def required(self, name: str, read: Reader[T]) -> T:
        """Return the field's value."""
        value = self._raw.get(name)
        if value is None:
            raise self.refused(name, "is required")
        return read(value, pointer=f"{self.pointer}/{name}")

    def refused(self, name: str, detail: str) -> errors.Invalid:
        """Return the refusal of the field's value."""
        return invalid(detail, pointer=f"{self.pointer}/{name}")

    def optional(self, name: str, read: Reader[T], *, default: D) -> T | D:
        """Return the field's value, or the default where it is missing."""
        value = self._raw.get(name)
        return default if value is None else read(value, pointer=f"{self.pointer}/{name}")

    def list_of(self, name: str, read: Reader[T]) -> list[T]:
        """Return the field's items; none where it is missing."""
        value = self._raw.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > LIST_MAX:
            raise self.refused(name, f"must be a list of at most {LIST_MAX}")
        return [
            read(item, pointer=f"{self.pointer}/{name}/{place}") for place, item in enumerate(value)
        ]


def units(value: object, *, pointer: str) -> Units:
    """Read an integer or a decimal string, neither below 0; never a binary float."""
    if isinstance(value, str) and DECIMAL.fullmatch(value):
        return Decimal(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**DIGITS_MAX:
        return value
    raise invalid("must be an integer or a decimal string, at least 0", pointer=pointer)


def integer(value: object, *, pointer: str) -> int:
    """Read an integer."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise invalid("must be an integer", pointer=pointer)


def flag(value: object, *, pointer: str) -> bool:
    """Read true or false."""
    if isinstance(value, bool):
        return value
    raise invalid("must be true or false", pointer=pointer)


def text(value: object, *, pointer: str) -> str:
    """Read a text of 1 … 255 characters."""
    if isinstance(value, str) and 1 <= len(value) <= TEXT_MAX:
        return value
    detail = f"must be a text of 1 to {TEXT_MAX} characters"
    raise invalid(detail, pointer=pointer)


def one_of(*allowed: T) -> Reader[T]:
    """Return a reader of one of the values."""

    def read(value: object, *, pointer: str) -> T:
        if value in allowed:
            return value
        detail = f"must be one of {', '.join(map(str, allowed))}"
        raise invalid(detail, pointer=pointer)

    return read


def instant(value: object, *, pointer: str) -> datetime:
    """Read an RFC 3339 instant, down to the microsecond; return it in UTC.

    :raises NaiveDatetime: for a time without an offset.
    """
    matched = INSTANT.fullmatch(value) if isinstance(value, str) else None
    if matched is None:
        raise invalid("must be an RFC 3339 time", pointer=pointer)
    if not matched["offset"]:
        detail = f"{pointer} has no offset."
        raise errors.NaiveDatetime(detail)
    try:
        return datetime.fromisoformat(matched[0].upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid("is not in the calendar", pointer=pointer) from error


def countable_instant(value: object, *, pointer: str) -> datetime:
    """Read an instant around which periods can be counted."""
    found = instant(value, pointer=pointer)
    if found.year not in YEARS:
        detail = f"must lie in the years {YEARS.start} to {YEARS.stop - 1}"
        raise invalid(detail, pointer=pointer)
    return found


def time_zone(value: object, *, pointer: str) -> str:
    """Read the name of an IANA time zone."""
    name = text(value, pointer=pointer)
    try:
        Recurrence(anchor=NEVER, time_zone=name, interval=Interval.DAY)
    except (ValueError, OSError) as error:
        raise invalid("must be an IANA time zone", pointer=pointer) from error
    return name


def interval(value: object, *, pointer: str) -> tuple[Interval, int]:
    """Read an ISO 8601 duration of one unit, at most 1000 years; return the unit and its count."""
    matched = DURATION.fullmatch(value) if isinstance(value, str) else None
    if matched is None:
        raise invalid("must be an ISO 8601 duration of one unit, PT1H or P1M", pointer=pointer)
    count, unit = (matched[1], matched[2]) if matched[1] else (matched[3], f"T{matched[4]}")
    found, count_max = INTERVALS[unit]
    if int(count) > count_max:
        raise invalid("must be at most 1000 years", pointer=pointer)
    return found, int(count)
