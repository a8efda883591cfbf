"""Put together what stands at a place, from rows that the caller read."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from metering import grants
from metering.burndown import Item
from metering.decision import Place
from metering.models import AlertThreshold, Balance, Grant, Hold
from metering.position import Position
from metering.selectors import items
from metering.selectors.items import Snapshot
from subscriptions.facts import FeatureFacts


def position_of(
    place: Place,
    *,
    feature: FeatureFacts,
    rows: Iterable[Balance],
    given: Iterable[Grant],
    holds: Iterable[Hold],
    thresholds: Iterable[AlertThreshold],
    at: datetime,
) -> tuple[Position, Snapshot]:
    """Return all that stands at a place, and what of it is stored."""
    own_rows = [row for row in rows if Place(row.feature_id, row.scope) == place]
    current = next((row for row in own_rows if row.is_current), None)
    since = current.decided_at if current is not None else at
    usable = [
        each
        for each in given
        if not place.scope
        and each.feature_id == place.feature_id
        and not grants.is_over(each, at=since)
    ]
    own_holds = [
        each
        for each in holds
        if (each.feature_id, each.scope) == place
        and (each.is_provisional or (each.expires_at is not None and each.expires_at <= at))
    ]
    moving: list[Item] = []
    stored = items.snapshot(given=(), items=())
    if current is not None and _needs_items(current, usable):
        moving, stored = items.moving_items(current, holds=own_holds)
    stored.grants = items.snapshot(given=usable, items=()).grants
    position = Position(
        feature=feature,
        scope=place.scope,
        rows=own_rows,
        grants=usable,
        items=moving,
        holds=own_holds,
        thresholds=[each for each in thresholds if each.feature_id == place.feature_id],
    )
    return position, stored


def _needs_items(row: Balance, usable: Sequence[Grant]) -> bool:
    if row.limit_units is None:
        return False
    return not row.is_plain or bool(usable) or row.overage_units > 0
