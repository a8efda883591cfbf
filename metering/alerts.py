"""Keep a balance's thresholds: which counted units alert, and which alerted in its period; pure."""

from collections.abc import Iterable
from typing import Any

from metering.models import AlertThreshold, Balance


def set_thresholds(row: Balance, *, percents: Iterable[int], own: Iterable[AlertThreshold]) -> None:
    """Write the thresholds of plan and customer on the row; what alerted stays alerted."""
    alerted = {(each["percent"], each["units"]) for each in row.alerts if each["alerted"]}
    wanted: set[tuple[int | None, int | None]] = {(percent, None) for percent in percents}
    wanted |= {(each.percent, each.units) for each in own}
    row.alerts = [
        {
            "percent": percent,
            "units": units,
            "at_units": at_units,
            "alerted": (percent, units) in alerted,
        }
        for percent, units in sorted(wanted, key=lambda each: (each[0] or 0, each[1] or 0))
        if (at_units := _reached_at(percent, units, limit=row.limit_units)) is not None
    ]
    _set_next(row)


def crossed(row: Balance) -> list[dict[str, Any]]:
    """Mark and return the thresholds that what is counted now has reached for the first time."""
    found = [
        each
        for each in row.alerts
        if not each["alerted"] and each["at_units"] <= row.used_units + row.held_units
    ]
    for each in found:
        each["alerted"] = True
    _set_next(row)
    return found


def _reached_at(percent: int | None, units: int | None, *, limit: int | None) -> int | None:
    if percent is None:
        return units
    return None if not limit else -(-limit * percent // 100)


def _set_next(row: Balance) -> None:
    ahead = [each["at_units"] for each in row.alerts if not each["alerted"]]
    row.alert_units = min(ahead, default=None)
