"""Write holds, grants and overrides as the API shows them."""

from collections.abc import Sequence
from datetime import datetime

from metering.api.bodies import Body, figures, instant
from metering.models import AlertThreshold, Grant, Hold, UsageEntry
from subscriptions.models import Override


def held(entries: Sequence[UsageEntry], holds: Sequence[Hold] = ()) -> Body:
    """Return a hold as the recorded lines show it; the same from their record as at first."""
    first = entries[0]
    captured = {hold.item: hold for hold in holds if hold.drawn_for is None}
    items = [
        _held_item(line, captured.get(number))
        for number, line in enumerate(each for each in entries if each.drawn_for is None)
    ]
    common: Body = {
        "id": str(first.hold_id),
        "state": _hold_state(first, holds),
        "expires_at": instant(first.expires_at),
    }
    usage_at = holds[0].usage_at if holds else first.consumed_at
    common["usage_at"] = instant(usage_at)
    if len(items) == 1:
        return common | items[0]
    return common | {"items": items}


def _held_item(line: UsageEntry, hold: Hold | None) -> Body:
    body = figures(line)
    is_capture = line.kind == UsageEntry.Kind.CAPTURE
    body["captured_units"] = hold.captured_units if hold is not None and is_capture else 0
    if hold is not None:
        body["units"] = hold.units
    return body


def _hold_state(line: UsageEntry, holds: Sequence[Hold]) -> str:
    """Return the state as of the line: what ends a hold is final."""
    if line.kind == UsageEntry.Kind.CAPTURE:
        return Hold.State.CAPTURED.value
    if line.kind == UsageEntry.Kind.RELEASE:
        return holds[0].state if holds else Hold.State.RELEASED.value
    return Hold.State.LIVE.value


def hold(holds: Sequence[Hold], *, at: datetime) -> Body:
    """Return a hold as it stands at the instant."""
    first = holds[0]
    is_dead = first.state == Hold.State.LIVE and first.expires_at and first.expires_at <= at
    items: list[Body] = [
        {"feature": each.feature.key, "units": each.units, "captured_units": each.captured_units}
        for each in holds
        if each.drawn_for is None
    ]
    common: Body = {
        "id": str(first.operation_id),
        "state": Hold.State.EXPIRED.value if is_dead else first.state,
        "expires_at": instant(first.expires_at),
        "usage_at": instant(first.usage_at),
    }
    return common | (items[0] if len(items) == 1 else {"items": items})


def grant(given: Grant) -> Body:
    """Return a grant."""
    recurrence: Body | None = None
    if given.recurrence_interval:
        recurrence = {"interval": given.recurrence_interval, "count": given.recurrence_count}
    return {
        "id": str(given.pk),
        "feature": given.feature.key,
        "units": given.units,
        "remaining": given.remaining_units,
        "priority": given.priority,
        "category": given.category,
        "effective_at": instant(given.effective_at),
        "expires_at": instant(given.expires_at),
        "rollover_min": given.rollover_min_units,
        "rollover_max": given.rollover_max_units,
        "recurrence": recurrence,
        "voided_at": instant(given.voided_at),
        "reason": given.reason,
    }


def override(given: Override) -> Body:
    """Return an override."""
    body: Body = {"id": str(given.pk), "feature": given.feature.key}
    if given.units is not None:
        body["units"] = given.units
    elif given.is_unlimited:
        body["unlimited"] = True
    elif given.value is not None:
        body["value"] = given.value
    return body | {
        "starts_at": instant(given.starts_at),
        "ends_at": instant(given.ends_at),
        "reason": given.reason,
    }


def alert(threshold: AlertThreshold) -> Body:
    """Return a customer's own threshold."""
    return {
        "id": str(threshold.pk),
        "feature": threshold.feature.key,
        "units": threshold.units,
        "percent": threshold.percent,
    }
