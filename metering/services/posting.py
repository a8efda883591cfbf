"""Write what a group has granted: its balances and its ledger lines, in one statement."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import orjson
from django.db import connection
from django.db.models import F

from core import db
from metering.decision import Row
from metering.lines import Line
from metering.models import Balance, UsageEntry


class Claim(NamedTuple):
    """An idempotency key of one customer."""

    customer_id: UUID
    key: str


@dataclass(slots=True)
class Posting:
    """The lines of one granted request, and the key that they claim."""

    claim: Claim
    fingerprint: str
    lines: Sequence[Line]


# A line takes from the balance that moved all that the two have in common.
POST = """
    WITH moved AS (
        UPDATE metering_balance AS balance
        SET used_units = balance.used_units + move.units,
            decided_at = greatest(balance.decided_at, move.at)
        FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[]) AS move (id, units, at)
        WHERE balance.id = move.id
        RETURNING balance.id, customer_id, feature_id, scope, held_units, carried_units,
                  limit_units, period_starts_at, period_ends_at)
    INSERT INTO metering_usageentry (
        id, operation_id, key, item, fingerprint, kind, balance_id, units, used_units, drawn_for,
        consumed_at, metadata, customer_id, feature_id, scope, held_units, carried_units,
        limit_units, period_starts_at, period_ends_at)
    SELECT line.id, operation_id, key, item, fingerprint, 'consume', balance_id, units, used_units,
           drawn_for, consumed_at, metadata, customer_id, feature_id, scope, held_units,
           carried_units, limit_units, period_starts_at, period_ends_at
    FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::smallint[], %s::text[], %s::bigint[],
                %s::bigint[], %s::bigint[], %s::smallint[], %s::timestamptz[], %s::text[])
         AS line (id, operation_id, key, item, fingerprint, balance_id, units, used_units,
                  drawn_for, consumed_at, metadata)
    JOIN moved ON moved.id = line.balance_id
    WHERE (SELECT count(*) FROM moved) = %s
    ORDER BY customer_id, key, item
    ON CONFLICT (customer_id, key, item) DO NOTHING
"""
FIND_CLAIMED = """
    SELECT claim.customer_id, claim.key
    FROM unnest(%s::uuid[], %s::text[]) AS claim (customer_id, key)
    CROSS JOIN LATERAL
         (SELECT 1 FROM metering_usageentry
          WHERE customer_id = claim.customer_id AND key = claim.key LIMIT 1) AS entry
"""


def post_step(*, postings: Sequence[Posting], moved: Sequence[Row]) -> bool:
    """Write the balances relatively, and the lines; return whether every key was free.

    Where it was not, the transaction is to be rolled back. One that another transaction holds
    uncommitted is waited for.
    """
    db.transaction_required()
    count = sum(len(posting.lines) for posting in postings)
    written = _post(postings, moved) if db.is_postgres() else _post_serialised(postings, moved)
    return written == count


def find_claimed(*, claims: Collection[Claim]) -> set[Claim]:
    """Return those of the keys under which an operation is recorded."""
    if not db.is_postgres():
        found = UsageEntry.objects.filter(
            customer_id__in={claim.customer_id for claim in claims},
            key__in={claim.key for claim in claims},
        )
        return {Claim(each.customer_id, each.key or "") for each in found} & set(claims)
    with connection.cursor() as cursor:
        cursor.execute(
            FIND_CLAIMED,
            [
                db.array([claim.customer_id.hex for claim in claims]),
                db.text_array([claim.key for claim in claims]),
            ],
        )
        return {Claim(*row) for row in cursor.fetchall()}


def _post(postings: Sequence[Posting], moved: Sequence[Row]) -> int:
    lines = [line for posting in postings for line in posting.lines]
    with connection.cursor() as cursor:
        cursor.execute(
            POST,
            [
                db.array([row.pk for row in moved]),
                db.array([row.moved_units for row in moved]),
                db.array([row.decided_at for row in moved]),
                db.array([line.pk.hex for line in lines]),
                db.array([line.operation_id.hex for line in lines]),
                db.text_array([posting.claim.key for posting in postings for _ in posting.lines]),
                db.array([line.item for line in lines]),
                db.text_array(
                    [
                        "" if line.item else posting.fingerprint
                        for posting in postings
                        for line in posting.lines
                    ]
                ),
                db.array([line.balance_id for line in lines]),
                db.array([line.units for line in lines]),
                db.array([line.used_units for line in lines]),
                db.array([line.drawn_for for line in lines]),
                db.array([line.consumed_at for line in lines]),
                db.text_array([orjson.dumps(line.metadata).decode() for line in lines]),
                len(moved),
            ],
        )
        written: int = cursor.rowcount
        return written


def _post_serialised(postings: Sequence[Posting], moved: Sequence[Row]) -> int:
    """Look, then write: on SQLite a transaction that may write is the only one."""
    if find_claimed(claims=[posting.claim for posting in postings]):
        return 0
    for row in moved:
        Balance.objects.filter(pk=row.pk).update(
            used_units=F("used_units") + row.moved_units, decided_at=row.decided_at
        )
    entries = [_entry(posting, line) for posting in postings for line in posting.lines]
    return len(UsageEntry.objects.bulk_create(entries))


def _entry(posting: Posting, line: Line) -> UsageEntry:
    return UsageEntry(
        id=line.pk,
        operation_id=line.operation_id,
        customer_id=posting.claim.customer_id,
        key=posting.claim.key,
        item=line.item,
        fingerprint="" if line.item else posting.fingerprint,
        kind=UsageEntry.Kind.CONSUME,
        feature_id=line.feature.id,
        balance_id=line.balance_id,
        units=line.units,
        used_units=line.used_units,
        held_units=line.held_units,
        carried_units=line.carried_units,
        limit_units=line.limit_units,
        period_starts_at=line.period_starts_at,
        period_ends_at=line.period_ends_at,
        scope=line.scope,
        drawn_for=line.drawn_for,
        consumed_at=line.consumed_at,
        metadata=line.metadata,
    )
