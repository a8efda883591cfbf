"""Define meters; what one means never changes, another meaning is another key."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import IntegrityError

from core import clock as clocks
from core import db, errors
from core.actors import SYSTEM, Actor
from core.services import audit
from metering import paths
from metering.models import Meter
from subscriptions.models import Feature

Aggregation = Meter.Aggregation
FEEDING = (Aggregation.COUNT, Aggregation.SUM)
Scalar = str | int | bool
GROUPS_MAX = 8
FILTERS_MAX = 8
FILTER_VALUES_MAX = 50
LATE_HORIZON_SECONDS_MAX = 10 * 366 * 86_400
KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}", re.ASCII)
NUL = "\x00"


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a meter counts, of which events, and how.

    Paths are those of `metering.paths`, into the event's data. `filters` holds for each path the
    values of which one must stand there. `feature_key` is the metered feature whose usage it feeds:
    a unit an event for a count, the value for a sum.
    """

    key: str
    event_type: str
    aggregation: str
    name: str = ""
    value_path: str = ""
    is_decimal: bool = False
    group_by: Mapping[str, str] = field(default_factory=dict)
    filters: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)
    late_horizon_seconds: int = 604_800
    feature_key: str = ""


@db.operation
def define(definition: Definition, *, actor: Actor = SYSTEM, clock: clocks.Clock) -> Meter:
    """Make a meter; it counts the events that arrive from now on.

    :raises Invalid: with pointer, code and detail of everything that is wrong with it.
    """
    try:
        with db.transaction():
            at = clock.now()
            return define_step(definition, actor=actor, at=at)
    except IntegrityError as error:
        detail = f"A meter has the key {definition.key}; another meaning needs another key."
        raise errors.Invalid.at("/key", code="unique", detail=detail) from error


def define_step(definition: Definition, *, at: datetime, actor: Actor = SYSTEM) -> Meter:
    """Make a meter whose key is free.

    :raises Invalid: with pointer, code and detail of everything that is wrong with it.
    """
    db.transaction_required()
    feature = Feature.objects.filter(key=definition.feature_key).first()
    faults = [*_faults(definition), *_feeding_faults(definition, feature)]
    if faults:
        raise errors.Invalid(faults[0]["detail"], facts={"errors": faults})
    made = Meter.objects.create(
        key=definition.key,
        name=definition.name or definition.key,
        event_type=definition.event_type,
        aggregation=definition.aggregation,
        value_path=definition.value_path,
        is_decimal=definition.is_decimal,
        group_by=dict(definition.group_by),
        filters={path: list(values) for path, values in definition.filters.items()},
        late_horizon_seconds=definition.late_horizon_seconds,
        feature=feature,
        created_at=at,
    )
    after = audit.snapshot(made)
    audit.record_step(actor=actor, action="meter.defined", row=made, at=at, after=after)
    return made


@db.operation
def archive(*, meter_id: int, actor: Actor = SYSTEM, clock: clocks.Clock) -> None:
    """Let a meter count no event that arrives from now on; what it read stays. Safe to repeat."""
    with db.transaction():
        at = clock.now()
        if Meter.objects.filter(pk=meter_id, archived_at__isnull=True).update(archived_at=at):
            audit.record_step(
                actor=actor,
                action="meter.archived",
                row=Meter(pk=meter_id),
                at=at,
                before={"archived_at": None},
                after={"archived_at": clocks.rfc3339(at)},
            )


def _faults(definition: Definition) -> Iterator[dict[str, str]]:
    """Yield everything that is wrong with a definition."""
    if not KEY.fullmatch(definition.key):
        yield _fault("/key", "invalid", "A key is 1 … 100 of a-z, 0-9, _ and -.")
    if not 0 < len(definition.event_type) <= 255 or NUL in definition.event_type:
        yield _fault("/event_type", "invalid", "An event type has 1 … 255 characters.")
    if definition.aggregation not in Aggregation.values:
        detail = f"An aggregation is one of {', '.join(Aggregation.values)}."
        yield _fault("/aggregation", "invalid_choice", detail)
    if not 0 <= definition.late_horizon_seconds <= LATE_HORIZON_SECONDS_MAX:
        detail = f"The late horizon is 0 … {LATE_HORIZON_SECONDS_MAX} seconds."
        yield _fault("/late_horizon_seconds", "invalid", detail)
    yield from _value_faults(definition)
    yield from _group_faults(definition)
    yield from _filter_faults(definition)


def _value_faults(definition: Definition) -> Iterator[dict[str, str]]:
    counts = definition.aggregation in {Aggregation.COUNT, Aggregation.UNIQUE_COUNT}
    if definition.is_decimal and counts:
        yield _fault("/is_decimal", "invalid", "What is counted is whole.")
    if definition.aggregation == Aggregation.COUNT:
        if definition.value_path:
            yield _fault("/value_path", "invalid", "A count reads no value.")
    elif not definition.value_path:
        yield _fault("/value_path", "required", "Say where the value stands, e.g. $.tokens.")
    else:
        yield from _path_faults("/value_path", definition.value_path)


def _group_faults(definition: Definition) -> Iterator[dict[str, str]]:
    if len(definition.group_by) > GROUPS_MAX:
        yield _fault("/group_by", "max_length", f"A meter has at most {GROUPS_MAX} groups.")
    for name, path in definition.group_by.items():
        if not KEY.fullmatch(name) or "__" in name:
            yield _fault(f"/group_by/{name}", "invalid", "A group's name is a key without __.")
        yield from _path_faults(f"/group_by/{name}", path)


def _filter_faults(definition: Definition) -> Iterator[dict[str, str]]:
    if len(definition.filters) > FILTERS_MAX:
        yield _fault("/filters", "max_length", f"A meter has at most {FILTERS_MAX} filters.")
    for path, values in definition.filters.items():
        yield from _path_faults("/filters", path)
        if not 0 < len(values) <= FILTER_VALUES_MAX:
            detail = f"A filter has 1 … {FILTER_VALUES_MAX} values."
            yield _fault("/filters", "invalid", detail)
        if not all(isinstance(value, Scalar) for value in values):
            yield _fault("/filters", "invalid", "A filter's values are texts, integers, booleans.")


def _feeding_faults(definition: Definition, feature: Feature | None) -> Iterator[dict[str, str]]:
    if not definition.feature_key:
        return
    if feature is None or feature.type != Feature.Type.METERED:
        yield _fault("/feature", "invalid", "It is no metered feature.")
    if definition.aggregation not in FEEDING or definition.is_decimal:
        yield _fault("/feature", "invalid", "Only a count or a sum of integers feeds a feature.")


def _path_faults(pointer: str, path: str) -> Iterator[dict[str, str]]:
    try:
        paths.parse(path)
    except paths.PathInvalid as error:
        yield _fault(pointer, "invalid", f"{error}.")


def _fault(pointer: str, code: str, detail: str) -> dict[str, str]:
    return {"pointer": pointer, "code": code, "detail": detail}
