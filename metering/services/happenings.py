"""Tell from the ledger and the holds what was used and given back, and when."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from metering.models import Hold, UsageEntry

Kind = UsageEntry.Kind
State = Hold.State
Holds = Mapping[tuple[UUID, int | None], Hold]
EXPIRED, DONE = 0, 1


@dataclass(frozen=True, kw_only=True)
class Happening:
    """Units that a line used, or gave back of what an item had used.

    `usage_at` lies in the period that counts them. Of one instant the lower rank comes first, then
    the smaller id.
    """

    at: datetime
    rank: int
    line_id: UUID
    item_id: str
    used_units: int = 0
    returned_units: int = 0
    usage_at: datetime


def list_happenings(
    *, lines: Sequence[UsageEntry], holds: Sequence[Hold], at: datetime
) -> Iterator[Happening]:
    """Yield what the lines and holds up to the instant did to the sources."""
    by_operation = {(hold.operation_id, hold.drawn_for): hold for hold in holds}
    for line in lines:
        started = line.period_starts_at or line.consumed_at
        if line.kind in {Kind.CONSUME, Kind.RECORD}:
            yield _used(line, str(line.pk), line.units, usage_at=started)
        elif line.kind == Kind.REVERSAL and line.reverses is not None:
            yield from _reversed(line, line.reverses, by_operation, usage_at=started)
        elif line.kind in {Kind.CAPTURE, Kind.RELEASE} and (hold := _hold_of(line, by_operation)):
            yield from _ended(line, hold)
    for hold in holds:
        yield Happening(
            at=hold.created_at,
            rank=DONE,
            line_id=hold.entry_id,
            item_id=str(hold.entry_id),
            used_units=hold.units,
            usage_at=hold.usage_at,
        )
        died_at = hold.expires_at
        if hold.state in {State.LIVE, State.EXPIRED} and died_at is not None and died_at <= at:
            yield Happening(
                at=died_at,
                rank=EXPIRED,
                line_id=hold.entry_id,
                item_id=str(hold.entry_id),
                returned_units=hold.units,
                usage_at=hold.usage_at,
            )


def _hold_of(line: UsageEntry, holds: Holds) -> Hold | None:
    return holds.get((line.hold_id, line.drawn_for)) if line.hold_id is not None else None


def _used(line: UsageEntry, item_id: str, units: int, *, usage_at: datetime) -> Happening:
    return Happening(
        at=line.consumed_at,
        rank=DONE,
        line_id=line.pk,
        item_id=item_id,
        used_units=units,
        usage_at=usage_at,
    )


def _returned(line: UsageEntry, item_id: str, units: int, *, usage_at: datetime) -> Happening:
    return Happening(
        at=line.consumed_at,
        rank=DONE,
        line_id=line.pk,
        item_id=item_id,
        returned_units=units,
        usage_at=usage_at,
    )


def _ended(line: UsageEntry, hold: Hold) -> Iterator[Happening]:
    """Yield what ended the hold; a line that found it ended did nothing."""
    if line.consumed_at != hold.ended_at:
        return
    captured = line.units if line.kind == Kind.CAPTURE else 0
    left = hold.units - min(captured, hold.units)
    if left:
        yield _returned(line, str(hold.entry_id), left, usage_at=hold.usage_at)
    if captured > hold.units:
        yield _used(line, str(line.pk), captured - hold.units, usage_at=hold.usage_at)


def _reversed(
    line: UsageEntry, original: UsageEntry, holds: Holds, *, usage_at: datetime
) -> Iterator[Happening]:
    hold = _hold_of(original, holds) if original.kind == Kind.CAPTURE else None
    held = min(hold.units, original.units) if hold is not None else 0
    if hold is not None and held:
        yield _returned(line, str(hold.entry_id), held, usage_at=usage_at)
    if original.units > held:
        yield _returned(line, str(original.pk), original.units - held, usage_at=usage_at)
