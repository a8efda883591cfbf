"""Write the balances that moved: counters relatively, what is derived absolutely, all at once."""

import functools
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from datetime import datetime

import orjson
from django.db import connection
from django.db.models import BigIntegerField, F, Value

from core import db
from metering.models import Balance
from metering.services import expiring

DERIVED = (
    "is_current",
    "mode",
    "limit_units",
    "overage_cap_units",
    "ceiling_units",
    "allowance_units",
    "withheld_units",
    "priority",
    "allowance_left_units",
    "epoch",
    "is_plain",
    "denial_code",
    "period_ends_at",
    "valid_until",
    "holds_due_at",
    "alerts",
    "alert_units",
)
TEXTS = {"mode", "denial_code"}
Moves = Mapping[int, Mapping[str, int]]


def write_step(
    *,
    rows: Sequence[Balance],
    moves: Moves,
    is_derived: bool,
    due: Collection[int],
    at: datetime,
) -> None:
    """Write the locked rows in one statement: each counter moves by the row's units in `moves`.

    `is_derived` where what is derived was written on the rows. Those in `due` learn in the
    database when their next hold dies.
    """
    moved = tuple(
        sorted({name for each in moves.values() for name, units in each.items() if units})
    )
    derived = DERIVED if is_derived or due else ()
    if due or not db.is_postgres():
        _write_by_orm(rows, moves=moves, moved=moved, derived=derived, due=due, at=at)
        return
    columns = [db.array([row.pk for row in rows])]
    columns += [db.array([moves.get(row.pk, {}).get(name, 0) for row in rows]) for name in moved]
    columns += [_column(name, [getattr(row, name) for row in rows]) for name in derived]
    columns += [db.array([max(row.decided_at, at) for row in rows])]
    with connection.cursor() as cursor:
        cursor.execute(_text(moved, derived), columns)


def _write_by_orm(
    rows: Sequence[Balance],
    *,
    moves: Moves,
    moved: Sequence[str],
    derived: Sequence[str],
    due: Collection[int],
    at: datetime,
) -> None:
    clones = []
    for row in rows:
        clone = copy(row)
        for name in moved:
            units = moves.get(row.pk, {}).get(name, 0)
            setattr(clone, name, F(name) + Value(units, BigIntegerField()))
        clone.decided_at = max(row.decided_at, at)
        if row.pk in due:
            clone.holds_due_at = expiring.next_due(row, at=at)
        clones.append(clone)
    Balance.objects.bulk_update(clones, [*moved, *derived, "decided_at"])


@functools.cache
def _text(moved: Sequence[str], derived: Sequence[str]) -> str:
    """Return the statement that takes a column of ids, of each name, and of instants."""
    absolute = [*derived, "decided_at"]
    types = [Balance._meta.get_field(name).db_type(connection) for name in (*moved, *absolute)]
    sets = [f"{name} = balance.{name} + given.{name}" for name in moved]
    sets += [f"{name} = given.{name}" for name in absolute]
    arrays = ", ".join(["%s::bigint[]", *(f"%s::{each}[]" for each in types)])
    return (
        f"UPDATE metering_balance AS balance SET {', '.join(sets)} "  # noqa: S608 - our names
        f"FROM unnest({arrays}) AS given (id, {', '.join([*moved, *absolute])}) "
        "WHERE balance.id = given.id"
    )


def _column(name: str, values: Sequence[object]) -> str:
    """Return the values as the text of an array."""
    if name == "alerts":
        return db.text_array([orjson.dumps(each).decode() for each in values])
    return db.text_array([str(each) for each in values]) if name in TEXTS else db.array(values)
