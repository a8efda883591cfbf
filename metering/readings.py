"""Read from an event what a meter counts: pure, exact, and strict about types."""

import re
from dataclasses import dataclass

from metering import paths
from metering.models import Meter
from metering.models.meters import DECIMAL_PLACES, TEXT_LENGTH_MAX
from metering.paths import Path
from subscriptions.facts import FeatureFacts

Aggregation = Meter.Aggregation
VALUE_MAX = 10**12
SCALE: int = 10**DECIMAL_PLACES
DECIMAL = re.compile(r"(-?)(0|[1-9][0-9]{0,12})(?:\.([0-9]{1,6}))?", re.ASCII)
FLOAT_MAX = 10**9  # below, a decimal of six places has 15 digits and survives a binary float
NUL = "\x00"


class Unreadable(ValueError):
    """Report a value that is missing or not of the kind that the meter counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Feeds:
    """A feature whose usage a meter feeds, and how many units of it each unit read comes to."""

    feature: FeatureFacts
    rate_units: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What one meter reads from one event: a whole value or millionths, or a text, and groups.

    It feeds the usage of the features in `feeds`: its value, or a unit where it has none.
    """

    meter_id: int | None
    value: int | None
    text: str | None
    groups: dict[str, str]
    feeds: tuple[Feeds, ...] = ()


NOTHING = Reading(meter_id=None, value=None, text=None, groups={})


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """A meter with its paths parsed, to read many events."""

    meter: Meter
    value_path: Path
    groups: tuple[tuple[str, Path], ...]
    filters: tuple[tuple[Path, frozenset[tuple[type, object]]], ...]
    feeds: tuple[Feeds, ...] = ()

    @classmethod
    def of(cls, meter: Meter, *, feeds: tuple[Feeds, ...] = ()) -> "Reader":
        """Return the reader of the meter, which feeds these features."""
        return cls(
            meter=meter,
            value_path=paths.parse(meter.value_path or "$"),
            groups=tuple((name, paths.parse(path)) for name, path in meter.group_by.items()),
            filters=tuple(
                (paths.parse(path), frozenset((type(value), value) for value in values))
                for path, values in meter.filters.items()
            ),
            feeds=feeds,
        )

    def read(self, document: object) -> Reading | None:
        """Return what the meter reads from the data; None where its filters do not match.

        :raises Unreadable: where the value, or what it is grouped by, is not of its kind.
        """
        if not self._matches(document):
            return None
        value: int | None = None
        text: str | None = None
        if self.meter.aggregation == Aggregation.UNIQUE_COUNT:
            text = _text(paths.find(self.value_path, document=document), self.meter.value_path)
            if text is None:
                msg = f"{self.meter.value_path} is missing"
                raise Unreadable(msg)
        elif self.meter.aggregation != Aggregation.COUNT:
            value = self._value(paths.find(self.value_path, document=document))
        return Reading(
            meter_id=self.meter.pk,
            value=value,
            text=text,
            groups=self._groups(document),
            feeds=self.feeds,
        )

    def _groups(self, document: object) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, path in self.groups:
            text = _text(paths.find(path, document=document), name)
            if text is not None:
                found[name] = text
        return found

    def _matches(self, document: object) -> bool:
        for path, wanted in self.filters:
            value = paths.find(path, document=document)
            if not isinstance(value, str | int) or (type(value), value) not in wanted:
                return False
        return True

    def _value(self, given: object) -> int:
        value = millionths(given) if self.meter.is_decimal else whole(given)
        if value is not None and value < 0 and self.meter.feature_id is not None:
            msg = f"{self.meter.value_path} feeds usage, which never falls"
            raise Unreadable(msg)
        bound = VALUE_MAX * SCALE if self.meter.is_decimal else VALUE_MAX
        if value is None or abs(value) > bound:
            kind = "a decimal of at most six places" if self.meter.is_decimal else "an integer"
            msg = f"{self.meter.value_path} must be {kind}, at most 10^12 in size"
            raise Unreadable(msg)
        return value


def whole(given: object) -> int | None:
    """Return a JSON integer; None for anything else, 1.0 and true included."""
    return given if isinstance(given, int) and not isinstance(given, bool) else None


def millionths(given: object) -> int | None:
    """Return a JSON number or a decimal text, times 10^6; None for what is not exact at that."""
    integer = whole(given)
    if integer is not None:
        return integer * SCALE
    if not isinstance(given, str | float):
        return None
    if isinstance(given, float) and not abs(given) < FLOAT_MAX:
        return None
    found = DECIMAL.fullmatch(given if isinstance(given, str) else repr(given))
    if found is None:
        return None
    sign, before, after = found.group(1), found.group(2), found.group(3) or ""
    magnitude = int(before) * SCALE + int(after.ljust(DECIMAL_PLACES, "0"))
    return -magnitude if sign else magnitude


def _text(given: object, name: str) -> str | None:
    """Return a scalar as a text that tells it from others; None for a missing one."""
    if given is None:
        return None
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, int):
        return str(given)
    if isinstance(given, str) and len(given) <= TEXT_LENGTH_MAX and NUL not in given:
        return given
    msg = f"{name} must be a text of at most {TEXT_LENGTH_MAX} characters, an integer or a boolean"
    raise Unreadable(msg)
