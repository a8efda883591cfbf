"""Set units aside until they are captured, released, or dead at their expiry."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from core import clock as clocks
from core import db
from core import errors as core_errors
from core.services.idempotency import KeyedRequest
from metering import decision, errors
from metering.decision import Denied, Draw, Item, Place
from metering.models import Balance, Hold, UsageEntry
from metering.services import consumption, denials, endings, ledger
from metering.services.asking import Recorded, Request
from metering.services.books import Books
from metering.services.consumption import For, Wanted
from metering.services.entries import Heading, Lines

TTL_SECONDS_MIN, TTL_SECONDS_MAX, TTL_SECONDS_DEFAULT = 1, 86_400, 300
ATTEMPTS_MAX = 50
State = Hold.State


@dataclass(kw_only=True)
class Held:
    """Units held for a block of code: it captures or releases them, at most once.

    `is_joined` where another attempt under the same key made the hold: what fails here then
    leaves it to that one, or to its expiry.
    """

    customer_id: UUID
    hold_id: UUID
    clock: clocks.Clock
    has_ended: bool = False
    is_joined: bool = False

    def capture(self, *, units: int | None = None, may_exceed: bool = False) -> None:
        """Count the units, 0 … those held, as used; all of them for None. The rest returns.

        :raises HoldExpired, HoldAlreadyCaptured, HoldAlreadyReleased: where it ended otherwise.
        :raises ExceedsHold: for more units than are held, unless `may_exceed` and they fit.
        """
        endings.capture(self._ending(units=units, may_exceed=may_exceed), clock=self.clock)
        self.has_ended = True

    def release(self) -> None:
        """Return all units to their sources.

        :raises HoldAlreadyCaptured: where they are counted.
        """
        endings.release(self._ending(), clock=self.clock)
        self.has_ended = True

    def abandon(self) -> None:
        """Release what this attempt holds, as a failed block does; nothing where it has ended."""
        if not (self.has_ended or self.is_joined):
            self.release()
        self.has_ended = True

    def _ending(self, *, units: int | None = None, may_exceed: bool = False) -> endings.Ending:
        return endings.Ending(
            customer_id=self.customer_id,
            hold_id=self.hold_id,
            keyed=fresh_key(),
            units=units,
            may_exceed=may_exceed,
        )


def fresh_key() -> KeyedRequest:
    """Return a key that nobody has used, for what is not repeated."""
    return KeyedRequest(key=str(uuid7()), fingerprint="")


@contextmanager
def held(
    *,
    customer_id: UUID,
    feature_key: str,
    units: int,
    ttl_seconds: int = TTL_SECONDS_DEFAULT,
    used_by: For | None = None,
    keyed: KeyedRequest | None = None,
    request_id: str = "",
    clock: clocks.Clock | None = None,
) -> Iterator[Held]:
    """Hold the units while the block runs; what it does not end itself is captured as a whole.

    A block that raises releases them, a process that dies lets them expire after `ttl_seconds`
    (1 … 86,400), which is more than the block takes. Each ending is a short transaction of its
    own. Under a key, a block that succeeded is not counted again, and one that failed is a new
    attempt. Without one, each block stands for itself.

    :raises UsageDenied, PaymentRequired, FeatureUnknown, FeatureNotMetered, FeatureSuspended,
        Invalid, IdempotencyKeyReused, IdempotencyInProgress: before the block, as `create` does.
    :raises HoldExpired: after the block, where it took longer than the hold lives.
    :raises RuntimeError: inside a transaction; there, `owned_holds.exchange_step` holds.
    """
    request = Request(
        customer_id=customer_id,
        wanted=[Wanted(feature_key=feature_key, units=units)],
        keyed=keyed or fresh_key(),
        used_by=used_by or For(),
        request_id=request_id,
    )
    hold = _attempt(request, ttl_seconds=ttl_seconds, clock=clock or clocks.process_clock())
    try:
        yield hold
    except BaseException:
        with suppress(core_errors.LockTimeout, core_errors.Unavailable):  # then it expires
            hold.abandon()
        raise
    if not hold.has_ended:
        hold.capture()


def _attempt(request: Request, *, ttl_seconds: int, clock: clocks.Clock) -> Held:
    """Hold for a new attempt, or join the one of this key that lives or has succeeded."""
    for _ in range(ATTEMPTS_MAX):
        made = create(request, ttl_seconds=ttl_seconds, clock=clock)
        operation_id = made.entries[0].operation_id
        hold = Held(customer_id=request.customer_id, hold_id=operation_id, clock=clock)
        if not made.replayed:
            return hold
        found = endings.find_holds(customer_id=request.customer_id, operation_id=operation_id)[0]
        is_dead = found.expires_at is not None and found.expires_at <= clock.now()
        if found.state == State.CAPTURED or (found.state == State.LIVE and not is_dead):
            return replace(hold, is_joined=True, has_ended=found.state == State.CAPTURED)
        again = KeyedRequest(key=str(operation_id), fingerprint=request.keyed.fingerprint)
        request = replace(request, keyed=again)
    detail = f"The last {ATTEMPTS_MAX} attempts under this key failed; take a new key."
    raise errors.HoldAlreadyReleased(detail)


@db.operation
def create(request: Request, *, ttl_seconds: int, clock: clocks.Clock) -> Recorded:
    """Set the units aside, all or none, exactly once under the request's key.

    On return they count as held, as used ones would, until captured, released, or dead at
    `ttl_seconds` (1 … 86,400) from now. A denial is recorded as in `consumption.consume`.

    :raises UsageDenied, PaymentRequired, FeatureUnknown, FeatureNotMetered, Invalid,
        IdempotencyKeyReused, IdempotencyInProgress: as consuming does.
    """

    def act(books: Books, items: Sequence[Item]) -> list[UsageEntry]:
        heading = Heading(
            customer_id=books.customer_id,
            at=books.at,
            keyed=request.keyed,
            metadata=request.metadata,
        )
        outcome = decision.decide(items, balances=books.current, codes=books.codes)
        if isinstance(outcome, Denied):
            lines = denials.lines(heading=heading, denied=outcome, request_id=request.request_id)
            holds: list[Hold] = []
        else:
            until = books.at + timedelta(seconds=ttl_seconds)
            lines, holds = held_lines(books=books, items=items, heading=heading, until=until)
        Hold.objects.bulk_create(holds)  # first, so that the rows learn when the next one dies
        books.write_step()
        ledger.append_step(entries=lines)
        return lines

    return consumption.run(request, act=act, clock=clock)


def held_lines(
    *,
    books: Books,
    items: Sequence[Item],
    heading: Heading,
    until: datetime | None,
    owner: str = "",
    rows: Mapping[Place, Balance] | None = None,
    usage_at: datetime | None = None,
) -> tuple[list[UsageEntry], list[Hold]]:
    """Count every item as held on each of its balances; return the lines and the holds.

    `rows` are the balances of another period, at `usage_at`; the current ones otherwise.
    """
    lines = Lines(heading=heading)
    holds = []
    for number, item in enumerate(items):
        for place, draw in enumerate(item.draws):
            row = (rows or books.current)[draw.place]
            drawn_for = number if place else None
            line = lines.add(kind=UsageEntry.Kind.HOLD, draw=draw, balance=row, drawn_for=drawn_for)
            line.hold_id = heading.operation_id
            books.count(row, entry_id=line.pk, held=draw.units, until=until)
            line.held_units, line.expires_at = row.held_units, until
            hold = _hold(line, draw, row, number=number, drawn_for=drawn_for)
            hold.expires_at, hold.owner = until, owner
            hold.usage_at = usage_at or books.at
            hold.is_provisional = not row.is_current
            if hold.is_provisional:
                books.promised[line.pk] = hold
            holds.append(hold)
    return lines.all(), holds


def _hold(
    line: UsageEntry, draw: Draw, row: Balance, *, number: int, drawn_for: int | None
) -> Hold:
    return Hold(
        operation_id=line.operation_id,
        entry=line,
        customer_id=line.customer_id,
        feature_id=draw.place.feature_id,
        scope=draw.place.scope,
        balance=row,
        item=number,
        drawn_for=drawn_for,
        units=draw.units,
        created_at=line.consumed_at,
    )
