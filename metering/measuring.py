"""Measure what meters have read: by windows of time and by groups, exactly, in integers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.db.models import (
    BigIntegerField,
    Count,
    Expression,
    F,
    Max,
    Min,
    QuerySet,
    Sum,
    Window,
)
from django.db.models.fields.json import KT, KeyTransform
from django.db.models.functions import RowNumber

from core import errors, periods
from core.periods import Interval, Period
from metering import windows
from metering.errors import MeterUnknown
from metering.models import Meter, MeterEvent
from metering.readings import SCALE
from metering.windows import WindowNumber

Aggregation = Meter.Aggregation
WINDOWS_MAX = 1_500
FIGURES_MAX = 10_000
HALF = 10**9  # SQLite adds up to 2^63, so sums are taken of the values' halves
INTERVALS = (Interval.MINUTE, Interval.HOUR, Interval.DAY, Interval.WEEK, Interval.MONTH)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be measured: a customer's events with their own time in `[starts_at, ends_at)`.

    One window where `window` is None. `where` keeps the events whose groups have these values.
    """

    meter: Meter
    customer_id: UUID
    starts_at: datetime
    ends_at: datetime
    window: Interval | None = None
    time_zone: str = "UTC"
    group_by: tuple[str, ...] = ()
    where: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of one window and group: whole, or millionths where `is_millionths`."""

    period: Period
    group: dict[str, str | None]
    value: int
    is_millionths: bool


def get_meter(*, key: str) -> Meter:
    """Return the meter of the key.

    :raises MeterUnknown: where there is none.
    """
    meter = Meter.objects.filter(key=key).first() if key.isprintable() else None
    if meter is None:
        raise MeterUnknown.named(key)
    return meter


def list_meters() -> QuerySet[Meter]:
    """Return the meters that count, by key."""
    return Meter.objects.filter(archived_at__isnull=True).select_related("feature").order_by("key")


def list_windows(
    *,
    starts_at: datetime,
    ends_at: datetime,
    window: Interval | None,
    time_zone: str,
    name: str = "window",
) -> list[Period]:
    """Return the windows of a span, at most 1,500; the whole span where no window is named.

    `name` is what the asker calls the window.

    :raises Invalid: for a span that is empty, or has more windows.
    """
    if starts_at >= ends_at:
        raise errors.Invalid.at("/to", code="invalid", detail="It must lie after from.")
    if window is None:
        return [Period(starts_at=starts_at, ends_at=ends_at)]
    found = list(
        islice(
            periods.windows(
                starts_at=starts_at, ends_at=ends_at, interval=window, time_zone=time_zone
            ),
            WINDOWS_MAX + 1,
        )
    )
    if len(found) > WINDOWS_MAX:
        detail = f"The span has more than {WINDOWS_MAX} windows; shorten it or widen them."
        raise errors.Invalid.at("/" + name, code="max_length", detail=detail)
    return found


def measure(question: Question) -> list[Figure]:
    """Return the figures by window and group, in one statement; none where nothing was read.

    Sums are exact. An average is rounded at the sixth decimal place, half away from zero. The
    latest is the last by its own time, then by arrival. A gauge's window without an event has no
    figure here: its value is that of the last window before.

    :raises Invalid: for an unknown group, more than 1,500 windows or 10,000 figures.
    """
    known = question.meter.group_by
    for name in [*question.group_by, *(question.where or {})]:
        if name not in known:
            detail = f"The meter has no group {name!r}; it has {', '.join(known) or 'none'}."
            raise errors.Invalid.at("/group_by", code="invalid_choice", detail=detail)
    spans = list_windows(
        starts_at=question.starts_at,
        ends_at=question.ends_at,
        window=question.window,
        time_zone=question.time_zone,
    )
    rows = list(_aggregated(question, spans)[: FIGURES_MAX + 1])
    if len(rows) > FIGURES_MAX:
        detail = f"There are more than {FIGURES_MAX} figures; shorten the span or filter."
        raise errors.Invalid.at("/group_by", code="max_length", detail=detail)
    return [_figure(question, spans, row) for row in rows]


def _aggregated(question: Question, spans: Sequence[Period]) -> Any:  # noqa: ANN401 - rows by name
    windows.prepare_connection()
    names = [f"group_{number}" for number in range(len(question.group_by))]
    events = MeterEvent.objects.filter(
        customer_id=question.customer_id,
        meter=question.meter,
        occurred_at__gte=question.starts_at,
        occurred_at__lt=question.ends_at,
    )
    for number, (name, value) in enumerate((question.where or {}).items()):
        wanted = f"wanted_{number}"
        events = events.alias(**{wanted: KeyTransform(name, "groups")}).filter(**{wanted: value})
    numbered = events.annotate(
        window=WindowNumber("occurred_at", starts=[each.starts_at for each in spans]),
        **{
            name: KT(f"groups__{group}")
            for name, group in zip(names, question.group_by, strict=True)
        },
    )
    order = ("window", *names)
    if question.meter.aggregation == Aggregation.LATEST:
        last = Window(
            RowNumber(),
            partition_by=[F(name) for name in order],
            order_by=[F("occurred_at").desc(), F("received_at").desc(), F("position").desc()],
        )
        latest = numbered.annotate(place=last).filter(place=1)
        return latest.order_by(*order).values(*order, figure=F("value"))
    return numbered.values(*order).annotate(**_figures(question.meter)).order_by(*order)


def _figures(meter: Meter) -> dict[str, Expression]:
    """Return what is computed of each window and group."""
    high = Sum(F("value") / HALF, output_field=BigIntegerField())
    low = Sum(F("value") % HALF, output_field=BigIntegerField())
    match meter.aggregation:
        case Aggregation.SUM:
            return {"high": high, "low": low}
        case Aggregation.AVG:
            return {"high": high, "low": low, "count": Count("id")}
        case Aggregation.MAX:
            return {"figure": Max("value")}
        case Aggregation.MIN:
            return {"figure": Min("value")}
        case Aggregation.UNIQUE_COUNT:
            return {"figure": Count("text", distinct=True)}
    return {"figure": Count("id")}


def _figure(question: Question, spans: Sequence[Period], row: Mapping[str, Any]) -> Figure:
    meter = question.meter
    value = int(row["high"]) * HALF + int(row["low"]) if "high" in row else int(row["figure"])
    if meter.aggregation == Aggregation.AVG:
        value = _rounded(value if meter.is_decimal else value * SCALE, by=row["count"])
    return Figure(
        period=spans[row["window"] - 1],
        group={name: row[f"group_{number}"] for number, name in enumerate(question.group_by)},
        value=value,
        is_millionths=meter.is_decimal or meter.aggregation == Aggregation.AVG,
    )


def _rounded(value: int, *, by: int) -> int:
    """Return the quotient rounded half away from zero."""
    magnitude = (2 * abs(value) + by) // (2 * by)
    return -magnitude if value < 0 else magnitude
