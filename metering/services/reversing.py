"""Take counted usage back: a line of the ledger at most once, allocated units as they return."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from core import clock as clocks
from core import db
from core import errors as core_errors
from core.actors import Actor
from core.services import audit, idempotency
from core.services.idempotency import KeyedRequest
from metering import errors
from metering.decision import Draw, Item, Place
from metering.models import Hold, UsageEntry
from metering.services import afterwards, consumption, drawing, ledger, opening
from metering.services.books import Books
from metering.services.consumption import Consumed, Request
from metering.services.entries import Heading, Lines, show
from subscriptions import selectors as subscription_selectors

Kind = UsageEntry.Kind
REVERSIBLE = (Kind.CONSUME, Kind.RECORD, Kind.CAPTURE)


@dataclass(frozen=True, kw_only=True)
class Reversal:
    """Which line of the ledger is to be taken back, under one key.

    `actor` is who does it by hand, staff or a backend: he and his reason go to the audit log.
    """

    customer_id: UUID
    entry_id: UUID
    keyed: KeyedRequest
    reason: str = ""
    actor: Actor | None = None


@db.operation
def reverse(reversal: Reversal, *, clock: clocks.Clock) -> Consumed:
    """Take back all units of a consumed, recorded or captured line, at most once.

    They leave the period that counted them, and return to the sources that gave them, as far
    as these still stand. What other balances counted for the line goes with it. Where the
    subscription that they were billed to has ended by now, that is told: `usage.recorded_late`.

    :raises NotFound: for a line that is not this customer's, or that counted nothing itself.
    :raises EntryAlreadyReversed: where another key took it back.
    :raises IdempotencyKeyReused, IdempotencyInProgress: as consuming does.
    """
    recorded = _find_recorded(reversal)
    if recorded:
        return Consumed(entries=recorded, replayed=True)
    lines = _lines_of(reversal)
    features = subscription_selectors.features_by_id(ids={line.feature_id for line in lines})

    def act(books: Books) -> Consumed:
        if UsageEntry.objects.filter(reverses_id=reversal.entry_id).exists():
            raise errors.EntryAlreadyReversed("The entry was reversed already.")
        entries = _reversed(books, lines, reversal)
        books.write_step()
        ledger.append_step(entries=entries)
        if reversal.actor is not None:
            audit.record_step(
                actor=reversal.actor,
                action="usage.reversed",
                row=entries[0],
                at=books.at,
                after={"reverses": str(reversal.entry_id), "units": entries[0].units},
            )
        afterwards.tell_step(books)
        return Consumed(entries=entries, replayed=False)

    try:
        return opening.decided_on_rows(
            customer_id=reversal.customer_id,
            balance_ids={line.balance_id for line in lines if line.balance_id is not None},
            features=features,
            clock=clock,
            act=act,
            since=min(line.stood_at for line in lines),
        )
    except (idempotency.KeyTaken, core_errors.DomainError):
        recorded = _find_recorded(reversal)
        if not recorded:
            raise
        return Consumed(entries=recorded, replayed=True)


def _find_recorded(reversal: Reversal) -> list[UsageEntry]:
    return ledger.find_operation(
        customer_id=reversal.customer_id,
        key=reversal.keyed.key,
        fingerprint=reversal.keyed.fingerprint,
    )


def _lines_of(reversal: Reversal) -> list[UsageEntry]:
    """Return the line and what other balances counted for it."""
    line = (
        UsageEntry.objects.filter(
            pk=reversal.entry_id,
            customer_id=reversal.customer_id,
            kind__in=REVERSIBLE,
            drawn_for__isnull=True,
            units__gt=0,
        )
        .select_related("feature")
        .first()
    )
    if line is None:
        raise core_errors.NotFound("There is no such entry that could be reversed.")
    drawn = UsageEntry.objects.filter(
        operation_id=line.operation_id, kind=line.kind, drawn_for=line.item
    )
    return [line, *drawn.select_related("feature").order_by("item")]


def _reversed(books: Books, taken: Sequence[UsageEntry], reversal: Reversal) -> list[UsageEntry]:
    heading = Heading(
        customer_id=books.customer_id,
        at=books.at,
        keyed=reversal.keyed,
        metadata={"reason": reversal.reason} if reversal.reason else {},
    )
    return reversed_lines(books=books, taken=taken, heading=heading)


def reversed_lines(
    *, books: Books, taken: Sequence[UsageEntry], heading: Heading
) -> list[UsageEntry]:
    """Take the units of lines back: an item's first, then those that other balances counted.

    None of them was reversed before, and their balances are locked. Whoever they were billed to
    owns the reversal too, also where his subscription has ended; the caller tells of him.
    """
    lines = Lines(heading=heading)
    features = subscription_selectors.features_by_id(ids={line.feature_id for line in taken})
    ended = afterwards.list_ended(books)
    for place, line in enumerate(taken):
        if line.balance_id is None:
            raise AssertionError
        row = books.rows[line.balance_id]
        for entry_id, units in _burnt_as_step(line):
            books.take_off(row, entry_id=entry_id, used=units, returned=units)
        draw = Draw(
            place=Place(line.feature_id, line.scope),
            feature_key=line.feature.key,
            units=line.units,
        )
        entry = lines.add(
            kind=Kind.REVERSAL, draw=draw, balance=row, drawn_for=0 if place else None
        )
        entry.reverses_id = line.pk
        owner = afterwards.find_owner(
            ended,
            feature=features[line.feature_id],
            stood_at=line.stood_at,
            counts_at=line.counted_at,
        )
        afterwards.give_step(entry, owner=owner, books=books)
    return lines.all()


def _burnt_as_step(line: UsageEntry) -> list[tuple[UUID, int]]:
    """Return the entries that burnt the line's units: a capture's are its hold's, and beyond."""
    if line.kind != Kind.CAPTURE:
        return [(line.pk, line.units)]
    if line.hold_id is None or line.balance_id is None:
        raise AssertionError
    hold = Hold.objects.get(
        operation_id=line.hold_id,
        feature_id=line.feature_id,
        drawn_for=line.drawn_for,
        balance_id=line.balance_id,
    )
    if hold.is_provisional:  # captured before its period, and undone: nothing waits any more
        Hold.objects.filter(pk=hold.pk).update(is_provisional=False)
    held = min(hold.units, line.units)
    return [each for each in ((hold.entry_id, held), (line.pk, line.units - held)) if each[1]]


@db.operation
def give_back(request: Request, *, clock: clocks.Clock) -> Consumed:
    """Give allocated units back, such as a seat that is free again, once under the key.

    :raises NotAllocated: for a feature whose units are used up rather than taken.
    :raises ExceedsUsage: for more units than are taken.
    :raises UsageDenied, FeatureUnknown, FeatureNotMetered, Invalid, IdempotencyKeyReused,
        IdempotencyInProgress: as consuming does.
    """

    def act(books: Books, items: Sequence[Item]) -> list[UsageEntry]:
        heading = Heading(
            customer_id=books.customer_id,
            at=books.at,
            keyed=request.keyed,
            metadata=request.metadata,
        )
        lines = Lines(heading=heading)
        for number, item in enumerate(items):
            for place, draw in enumerate(item.draws):
                _give_back_draw(books, lines, draw, drawn_for=number if place else None)
        entries = lines.all()
        books.write_step()
        ledger.append_step(entries=entries)
        return entries

    keys = [each.feature_key for each in request.wanted]
    for feature in drawing.get_metered_features(keys=keys).values():
        if feature.key in keys and not feature.is_allocated:
            detail = f"{feature.key} is used up, not taken; reverse the entry instead."
            raise errors.NotAllocated(detail, facts={"feature": feature.key})
    return consumption.run(request, act=act, clock=clock)


def _give_back_draw(books: Books, lines: Lines, draw: Draw, *, drawn_for: int | None) -> None:
    row = books.current.get(draw.place)
    taken = row.used_units if row is not None else 0
    if row is None or draw.units > taken:
        detail = f"{draw.units} {draw.feature_key} given back, {taken} taken."
        raise errors.ExceedsUsage(detail, facts={"feature": draw.feature_key, "used": taken})
    line = lines.add(kind=Kind.ADJUSTMENT, draw=draw, balance=row, drawn_for=drawn_for)
    books.take_off(row, entry_id=line.pk, used=draw.units, returned=0)
    show(line, balance=row)
