"""Claim events by their permanent key: the first to commit counts, every other is a duplicate."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import orjson
from django.db import connection
from django.db.models import Q

from core import db
from metering.models import MeterEvent

LOOKUP_MAX = 500


class EventKey(NamedTuple):
    """What identifies an event for ever; keys sort as they are claimed."""

    customer_id: UUID
    source: str
    event_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of `MeterEvent` before it is written, by its columns."""

    customer_id: UUID
    source: str
    event_id: str
    item: int
    event_type: str
    occurred_at: datetime
    received_at: datetime
    position: int
    meter_id: int | None
    value: int | None
    text: str | None
    groups: Mapping[str, str]

    @property
    def key(self) -> EventKey:
        """Return what identifies the row's event."""
        return EventKey(self.customer_id, self.source, self.event_id)


def find_claimed(*, keys: Collection[EventKey]) -> set[EventKey]:
    """Return those of the keys under which an event stands."""
    found: set[EventKey] = set()
    by_source: dict[tuple[UUID, str], list[str]] = {}
    for key in keys:
        by_source.setdefault((key.customer_id, key.source), []).append(key.event_id)
    asked = [
        Q(customer_id=customer_id, source=source, event_id__in=event_ids)
        for (customer_id, source), event_ids in by_source.items()
    ]
    for start in range(0, len(asked), LOOKUP_MAX):
        either = Q()
        for each in asked[start : start + LOOKUP_MAX]:
            either |= each
        rows = MeterEvent.objects.filter(either, item=0)
        found |= {EventKey(*row) for row in rows.values_list("customer_id", "source", "event_id")}
    return found


def claim_step(*, rows: Sequence[Row]) -> set[int]:
    """Write the rows of events that nobody claimed, and return their positions.

    `rows` has each event's item 0 once, and any further items, all under the event's position.
    They are claimed in the order of their keys, so that twins wait for each other and never in a
    circle; one that waited finds the other's claim. Rows of an event that another claimed are
    not written.
    """
    db.transaction_required()
    first = sorted((row for row in rows if row.item == 0), key=_order)
    claimed = _insert_unclaimed(first) if db.is_postgres() else _insert_serialised(first)
    _insert(row for row in rows if row.item > 0 and row.position in claimed)
    return claimed


def _order(row: Row) -> tuple[int, str, str]:
    return row.customer_id.int, row.source, row.event_id


# One parameter carries all rows: one text of the statement for every size, planned once.
INSERT = """
    INSERT INTO metering_meterevent (customer_id, source, event_id, item, event_type, occurred_at,
                                     received_at, position, meter_id, value, text, groups)
    SELECT * FROM json_to_recordset(%s::json)
        AS arrived (customer_id uuid, source text, event_id text, item smallint, event_type text,
                    occurred_at timestamptz, received_at timestamptz, position integer,
                    meter_id bigint, value bigint, text text, groups jsonb)
    ON CONFLICT (customer_id, source, event_id, item) DO NOTHING
    RETURNING position
"""


def _insert_unclaimed(rows: Sequence[Row]) -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [orjson.dumps(rows).decode()])
        return {position for (position,) in cursor.fetchall()}


def _insert_serialised(rows: Sequence[Row]) -> set[int]:
    """Look, then insert: on SQLite a transaction that may write is the only one."""
    known = find_claimed(keys={row.key for row in rows})
    unclaimed = [row for row in rows if row.key not in known]
    _insert(unclaimed)
    return {row.position for row in unclaimed}


def _insert(rows: Iterable[Row]) -> None:
    MeterEvent.objects.bulk_create(
        MeterEvent(**{each.name: getattr(row, each.name) for each in fields(Row)}) for row in rows
    )
