"""End holds: capture, release or extend them, exactly once under a key."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db.models import QuerySet

from core import clock as clocks
from core import db, statements
from core import errors as core_errors
from core.actors import Actor
from core.services import audit, idempotency
from core.services.idempotency import KeyedRequest
from metering import decision, errors, locks
from metering.decision import Draw, Place
from metering.models import Hold, UsageEntry
from metering.services import afterwards, ledger, opening
from metering.services.books import Books, RowsMissing
from metering.services.entries import Heading, Lines, show
from metering.services.opening import Features
from subscriptions import selectors as subscription_selectors
from subscriptions.models import Feature

Kind = UsageEntry.Kind
State = Hold.State


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What one caller asks of a hold, under one key; `units` None captures all of it.

    `actor` is the member of staff who ends it by hand: he and his reason go to the audit log.
    """

    customer_id: UUID
    hold_id: UUID
    keyed: KeyedRequest
    units: int | None = None
    may_exceed: bool = False
    ttl_seconds: int = 0
    actor: Actor | None = None


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The ledger's lines of the answer, the holds that they speak of, and whether replayed."""

    entries: Sequence[UsageEntry]
    holds: Sequence[Hold]
    replayed: bool


@db.operation
def capture(ending: Ending, *, clock: clocks.Clock) -> Ended:
    """Count what was held as used, all of it or fewer units; the rest returns to its sources.

    The period of the hold pays, whenever the capture comes; where its subscription has ended by
    now, that is told: `usage.recorded_late`. More than was held is counted only
    where `may_exceed` and it fits. Captured again with the same units, it is answered again.

    :raises NotFound: for a hold that is not this customer's.
    :raises HoldExpired, HoldAlreadyCaptured, HoldAlreadyReleased: where it ended otherwise.
    :raises ExceedsHold: for more units than are held and fit.
    :raises IdempotencyKeyReused, IdempotencyInProgress: as consuming does.
    """
    return _once(ending, end=_capture, clock=clock, is_used=True)


@db.operation
def release(ending: Ending, *, clock: clocks.Clock) -> Ended:
    """Return what was held to its sources; released or expired before, it is answered alike.

    :raises NotFound: for a hold that is not this customer's.
    :raises HoldAlreadyCaptured: where it was captured.
    :raises IdempotencyKeyReused, IdempotencyInProgress: as consuming does.
    """
    return _once(ending, end=_release, clock=clock)


@db.operation
def extend(ending: Ending, *, clock: clocks.Clock) -> Ended:
    """Let a live hold expire `ttl_seconds` (1 … 86,400) from now.

    :raises NotFound: for a hold that is not this customer's.
    :raises HoldExpired, HoldAlreadyCaptured, HoldAlreadyReleased: where it has ended.
    :raises IdempotencyKeyReused, IdempotencyInProgress: as consuming does.
    """
    return _once(ending, end=_extend, clock=clock)


End = Callable[[Books, Sequence[Hold], Ending], list[UsageEntry]]


def _once(ending: Ending, *, end: End, clock: clocks.Clock, is_used: bool = False) -> Ended:
    recorded = _find_recorded(ending)
    if recorded is not None:
        return recorded
    holds = find_holds(customer_id=ending.customer_id, operation_id=ending.hold_id)
    if not holds or holds[0].owner:
        raise core_errors.NotFound("There is no such hold.")

    def act(books: Books) -> Ended:
        locked = lock_holds_step(books, operation_ids=[ending.hold_id])
        before = locked[0].state
        entries = end(books, locked, ending)
        if ending.actor is not None and locked[0].state != before:
            audit.record_step(
                actor=ending.actor,
                action=f"hold.{locked[0].state}",
                row=locked[0],
                at=books.at,
                before={"state": before},
                after={"state": locked[0].state, "hold": str(ending.hold_id)},
            )
        books.write_step()
        ledger.append_step(entries=entries)
        afterwards.tell_step(books)
        return Ended(entries=entries, holds=locked, replayed=False)

    try:
        return opening.decided_on_rows(
            customer_id=ending.customer_id,
            balance_ids={hold.balance_id for hold in holds},
            features=features_of(holds),
            clock=clock,
            act=act,
            since=min(hold.usage_at for hold in holds) if is_used else None,
        )
    except (idempotency.KeyTaken, core_errors.DomainError):
        recorded = _find_recorded(ending)
        if recorded is None:
            raise
        return recorded


def _find_recorded(ending: Ending) -> Ended | None:
    entries = ledger.find_operation(
        customer_id=ending.customer_id,
        key=ending.keyed.key,
        fingerprint=ending.keyed.fingerprint,
    )
    if not entries:
        return None
    holds = find_holds(customer_id=ending.customer_id, operation_id=ending.hold_id)
    return Ended(entries=entries, holds=holds, replayed=True)


def find_holds(*, customer_id: UUID, operation_id: UUID) -> list[Hold]:
    """Return the holds of one operation, its items first; empty where there are none."""
    return _list_holds(customer_id=customer_id, operation_id=operation_id)


@statements.compiled
def _list_holds(*, customer_id: UUID, operation_id: UUID) -> QuerySet[Hold]:
    rows = Hold.objects.filter(customer_id=customer_id, operation_id=operation_id)
    return rows.select_related("feature").order_by("id")


def features_of(holds: Sequence[Hold]) -> Features:
    """Return the features that these holds count, by id."""
    return subscription_selectors.features_by_id(ids={hold.feature_id for hold in holds})


def lock_holds_step(books: Books, *, operation_ids: Sequence[UUID]) -> list[Hold]:
    """Lock the holds under their balances' locks, and let those that are dead be so.

    :raises RowsMissing: where one has moved to another balance, or waits for its period.
    """
    books.open_accounts_step()
    holds = locks.lock_operation_holds(customer_id=books.customer_id, operation_ids=operation_ids)
    features = features_of(holds)
    for hold in holds:
        hold.feature = Feature(pk=hold.feature_id, key=features[hold.feature_id].key)
        if hold.balance_id not in books.rows:
            raise RowsMissing
        if hold.state == State.LIVE and hold.expires_at and hold.expires_at <= books.at:
            hold.state = State.EXPIRED
    return holds


def _capture(books: Books, holds: Sequence[Hold], ending: Ending) -> list[UsageEntry]:
    items = [hold for hold in holds if hold.drawn_for is None]
    if ending.units is not None and len(items) > 1:
        detail = "A hold of several features is captured as a whole; leave units out."
        raise core_errors.Invalid.at("/units", code="ambiguous", detail=detail)
    if holds[0].state == State.CAPTURED:
        units = ending.units
        if units is None or units == items[0].captured_units:
            return _unchanged(books, holds, ending, kind=Kind.CAPTURE)
    _refuse_ended(holds[0])
    return capture_lines(
        books=books,
        holds=holds,
        heading=_heading(books, ending),
        units=ending.units,
        may_exceed=ending.may_exceed,
    )


def capture_lines(
    *,
    books: Books,
    holds: Sequence[Hold],
    heading: Heading,
    units: int | Mapping[int, int] | None,
    may_exceed: bool,
) -> list[UsageEntry]:
    """Count captured units of live holds (all for None), return the rest; mark the holds.

    A mapping gives the units of each item by the id of its feature. Whose subscription has ended
    since the instant of the hold owns them still; the caller tells of him.

    :raises ExceedsHold: for more units than are held and fit.
    """
    asked = {hold.item: _asked_of(hold, units=units) for hold in holds if hold.drawn_for is None}
    held = {hold.item: hold.units for hold in holds if hold.drawn_for is None}
    lines = Lines(heading=heading)
    features, ended = features_of(holds), afterwards.list_ended(books)
    for hold in holds:
        row = books.rows[hold.balance_id]
        taken = asked[hold.item] * (hold.units // held[hold.item])
        beyond = max(taken - hold.units, 0)
        fits = may_exceed and beyond <= decision.headroom_units(row, added_units=0)
        if beyond and not fits:
            detail = f"{asked[hold.item]} units captured, {held[hold.item]} held."
            raise errors.ExceedsHold(detail, facts={"held": held[hold.item]})
        line = lines.add(
            kind=Kind.CAPTURE,
            draw=draw_of(hold, units=taken),
            balance=row,
            drawn_for=hold.drawn_for,
        )
        kept = taken - beyond
        books.take_off(
            row, entry_id=hold.entry_id, held=hold.units, used=-kept, returned=hold.units - kept
        )
        if beyond:
            books.count(row, entry_id=line.pk, used=beyond)
        line.hold_id, line.expires_at = hold.operation_id, hold.expires_at
        owner = afterwards.find_owner(
            ended, feature=features[hold.feature_id], stood_at=hold.usage_at
        )
        afterwards.give_step(line, owner=owner, books=books)
        show(line, balance=row)
        _mark(hold, State.CAPTURED, books=books, captured_units=taken)
    return lines.all()


def _asked_of(hold: Hold, *, units: int | Mapping[int, int] | None) -> int:
    if units is None:
        return hold.units
    return units if isinstance(units, int) else units[hold.feature_id]


def _release(books: Books, holds: Sequence[Hold], ending: Ending) -> list[UsageEntry]:
    if holds[0].state in {State.RELEASED, State.EXPIRED}:
        return _unchanged(books, holds, ending, kind=Kind.RELEASE)
    _refuse_ended(holds[0])
    return release_lines(books=books, holds=holds, heading=_heading(books, ending))


def release_lines(*, books: Books, holds: Sequence[Hold], heading: Heading) -> list[UsageEntry]:
    """Return all units of live holds to their sources; mark the holds."""
    lines = Lines(heading=heading)
    for hold in holds:
        row = books.rows[hold.balance_id]
        books.take_off(row, entry_id=hold.entry_id, held=hold.units, returned=hold.units)
        line = lines.add(
            kind=Kind.RELEASE,
            draw=draw_of(hold, units=hold.units),
            balance=row,
            drawn_for=hold.drawn_for,
        )
        line.hold_id, line.expires_at = hold.operation_id, hold.expires_at
        _mark(hold, State.RELEASED, books=books)
    return lines.all()


def _extend(books: Books, holds: Sequence[Hold], ending: Ending) -> list[UsageEntry]:
    _refuse_ended(holds[0])
    until = books.at + timedelta(seconds=ending.ttl_seconds)
    lines = Lines(heading=_heading(books, ending))
    for hold in holds:
        row = books.rows[hold.balance_id]
        hold.expires_at = until
        Hold.objects.filter(pk=hold.pk).update(expires_at=until)
        books.expect_expiry(row, at=until)
        line = lines.add(
            kind=Kind.EXTENSION, draw=draw_of(hold, units=0), balance=row, drawn_for=hold.drawn_for
        )
        line.hold_id, line.expires_at = hold.operation_id, until
    return lines.all()


def _unchanged(
    books: Books, holds: Sequence[Hold], ending: Ending, *, kind: str
) -> list[UsageEntry]:
    """Return the lines of an ending that finds itself done: they claim the key with 0 units."""
    lines = Lines(heading=_heading(books, ending))
    for hold in holds:
        if hold.drawn_for is None:
            row = books.rows[hold.balance_id]
            line = lines.add(kind=kind, draw=draw_of(hold, units=0), balance=row)
            line.hold_id, line.expires_at = hold.operation_id, hold.expires_at
    return lines.all()


def _refuse_ended(hold: Hold) -> None:
    if hold.state == State.CAPTURED:
        detail = f"The hold was captured with {hold.captured_units} units."
        raise errors.HoldAlreadyCaptured(detail)
    if hold.state == State.RELEASED:
        raise errors.HoldAlreadyReleased("The hold was released.")
    if hold.state == State.EXPIRED:
        raise errors.HoldExpired("The hold has expired; its units are free again.")


def _mark(hold: Hold, state: str, *, books: Books, captured_units: int = 0) -> None:
    hold.state, hold.captured_units, hold.ended_at = state, captured_units, books.at
    Hold.objects.filter(pk=hold.pk).update(
        state=state, captured_units=captured_units, ended_at=books.at
    )


def _heading(books: Books, ending: Ending) -> Heading:
    return Heading(customer_id=books.customer_id, at=books.at, keyed=ending.keyed)


def draw_of(hold: Hold, *, units: int) -> Draw:
    """Return units of the hold's place as a draw."""
    place = Place(hold.feature_id, hold.scope)
    return Draw(place=place, feature_key=hold.feature.key, units=units)
