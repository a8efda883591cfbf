"""Keep the audit log: every mutation with its actor, what was and what is, and why.

Usage and what customers do to their subscriptions are not in it: they have append-only records of
their own, the usage ledger and the timeline. Where staff or a backend correct usage by hand or move
a subscription it is here too, with actor, reason and request id.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Model, QuerySet

from core import clock as clocks
from core import db
from core.actors import Actor
from core.models import AuditEntry
from core.redaction import redacted

EXPORT_BATCH = 1000
CAMEL = re.compile(r"(?<!^)(?=[A-Z])")
State = Mapping[str, object]


def snapshot(row: Model) -> dict[str, object]:
    """Return the row's columns as JSON-ready values; secrets are blotted out when recorded."""
    columns = row._meta.concrete_fields
    return {column.attname: _plain(getattr(row, column.attname)) for column in columns}


def record_step(
    *,
    actor: Actor,
    action: str,
    row: Model,
    at: datetime,
    before: State | None = None,
    after: State | None = None,
) -> None:
    """Write one line of the audit log in the caller's transaction: it commits with the change.

    `action` reads `<thing>.<what happened>`. Of `before` and `after` (see `snapshot`) only what
    differs is kept; without `before` the row is new, without `after` it is gone.

    :raises RuntimeError: outside a transaction.
    """
    db.transaction_required()
    was, now = dict(before or {}), dict(after or {})
    same = {name for name in was.keys() & now.keys() if was[name] == now[name]}
    AuditEntry.objects.create(
        at=at,
        actor=actor.name[:255],
        action=action,
        object_type=row._meta.label_lower,
        object_id=str(row.pk),
        before=redacted({name: value for name, value in was.items() if name not in same}),
        after=redacted({name: value for name, value in now.items() if name not in same}),
        reason=actor.reason,
        request_id=actor.request_id[:64],
    )


def record_change_step(
    *, actor: Actor, what: str, row: Model, at: datetime, before: State, after: State
) -> None:
    """Write one line where the two differ, by the name of the row's model: `plan_group.changed`.

    :raises RuntimeError: outside a transaction.
    """
    if before != after:
        action = f"{thing(row)}.{what}"
        record_step(actor=actor, action=action, row=row, at=at, before=before, after=after)


def thing(row: Model) -> str:
    """Return how an action names the row's model: `plan_group`."""
    return CAMEL.sub("_", type(row).__name__).lower()


def export(entries: QuerySet[AuditEntry]) -> Iterator[dict[str, object]]:
    """Yield the entries as JSON-ready lines, oldest first, in bounded memory."""
    for entry in entries.order_by("id").iterator(chunk_size=EXPORT_BATCH):
        yield line(entry)


def line(entry: AuditEntry) -> dict[str, object]:
    """Return one entry as it is exported and shown."""
    return {
        "id": str(entry.pk),
        "at": clocks.rfc3339(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "object_type": entry.object_type,
        "object_id": entry.object_id,
        "before": entry.before,
        "after": entry.after,
        "reason": entry.reason,
        "request_id": entry.request_id,
    }


def _plain(value: Any) -> object:  # noqa: ANN401 - any column's value
    if isinstance(value, datetime):
        return clocks.rfc3339(value)
    if isinstance(value, date | time | Decimal | UUID):
        return str(value)
    return value
