"""Let holds die at their own instants, and know when the next one does."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db.models import DateTimeField, F, OuterRef, Subquery, Value
from django.db.models.functions import Coalesce, Least

from core import db
from metering import locks
from metering.decision import Place
from metering.models import Balance, Burn, Hold, UsageEntry

BURN_COLUMNS = ("balance_id", "grant_id", "position", "epoch", "units", "is_overage", "burnt_at")
# One row for each burn, and one for a hold without any.
END_DUE = f"""
    WITH dead AS (
        UPDATE metering_hold SET state = 'expired', ended_at = expires_at
        WHERE customer_id = %s AND state = 'live' AND expires_at <= %s
          AND (feature_id, scope) IN (SELECT * FROM unnest(%s::bigint[], %s::text[]))
        RETURNING *),
    burnt AS (
        DELETE FROM metering_burn USING dead WHERE metering_burn.entry_id = dead.entry_id
        RETURNING metering_burn.*)
    SELECT dead.*, entry.consumed_at, {", ".join(f"burnt.{n} AS burnt_{n}" for n in BURN_COLUMNS)}
    FROM dead
    JOIN metering_usageentry AS entry ON entry.id = dead.entry_id
    LEFT JOIN burnt ON burnt.entry_id = dead.entry_id
    ORDER BY dead.expires_at, dead.id, burnt.position
"""  # noqa: S608 - the names are ours


@dataclass(kw_only=True)
class Dead:
    """Holds that died, the earliest first, and what they had burnt, which is stored no longer."""

    holds: list[Hold] = field(default_factory=list)
    burns: list[Burn] = field(default_factory=list)


def end_due_step(*, customer_id: UUID, places: Collection[Place], at: datetime) -> Dead:
    """Mark the live holds at these places that are dead by the instant, on whichever row.

    Their burns are taken off for the caller to give back. On PostgreSQL it is one statement. The
    caller holds the locks of the rows that decide there: whoever locks these holds has them
    first, so the order among the holds does not matter.
    """
    if not db.is_postgres():
        return _serialised(locks.lock_due_holds(customer_id=customer_id, places=places, at=at))
    db.note_lock(rank=db.LockRank.HOLD, key="")
    ordered = list(places)
    found = Hold.objects.raw(
        END_DUE,
        [
            customer_id,
            at,
            db.array([place.feature_id for place in ordered]),
            db.text_array([place.scope for place in ordered]),
        ],
    )
    holds: dict[UUID, Hold] = {}
    burns: list[Burn] = []
    for row in found:
        hold, read = holds.setdefault(row.pk, row), vars(row)
        if read["burnt_units"] is not None:
            entry = UsageEntry(pk=hold.entry_id, consumed_at=read["consumed_at"])
            burns.append(
                Burn(entry=entry, **{name: read[f"burnt_{name}"] for name in BURN_COLUMNS})
            )
    return Dead(holds=list(holds.values()), burns=burns)


def _serialised(holds: list[Hold]) -> Dead:
    burns = Burn.objects.filter(entry_id__in=[each.entry_id for each in holds])
    read = list(burns.select_related("entry").order_by("entry_id", "position"))
    burns.delete()
    mark_step(holds)
    return Dead(holds=sorted(holds, key=lambda each: (each.expires_at, each.pk)), burns=read)


def mark_step(holds: Iterable[Hold]) -> None:
    """Mark holds as dead at their own instants; the caller holds their locks."""
    expired = [hold.pk for hold in holds]
    if expired:
        Hold.objects.filter(pk__in=expired).update(
            state=Hold.State.EXPIRED, ended_at=F("expires_at")
        )


def next_due(row: Balance, *, at: datetime) -> Coalesce:
    """Return the earliest expiry at the row's place that is still ahead.

    Of what the database knows, on whichever period's row, and what this transaction adds.
    """
    ahead = Hold.objects.filter(
        customer_id=OuterRef("customer_id"),
        feature_id=OuterRef("feature_id"),
        scope=OuterRef("scope"),
        state=Hold.State.LIVE,
        expires_at__gt=at,
    ).order_by("expires_at")
    stored = Subquery(ahead.values("expires_at")[:1], output_field=DateTimeField())
    if row.holds_due_at is None or row.holds_due_at <= at:
        return Coalesce(stored, Value(None))
    added = Value(row.holds_due_at, DateTimeField())
    return Coalesce(Least(stored, added), added)
