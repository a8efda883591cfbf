"""Set units aside until they are captured, released, or dead at their expiry."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from core import clock as clocks
from core import db
from metering import decision
from metering.decision import Denied, Draw, Item, Place
from metering.models import Balance, Hold, UsageEntry
from metering.services import consumption, ledger
from metering.services.books import Books
from metering.services.consumption import Consumed, Request
from metering.services.entries import Heading, Lines

TTL_SECONDS_MIN, TTL_SECONDS_MAX, TTL_SECONDS_DEFAULT = 1, 86_400, 300


@db.operation
def create(request: Request, *, ttl_seconds: int, clock: clocks.Clock) -> Consumed:
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
            lines = consumption.denied_lines(
                heading=heading, denied=outcome, request_id=request.request_id
            )
            holds: list[Hold] = []
        else:
            until = books.at + timedelta(seconds=ttl_seconds)
            lines, holds = held_lines(books=books, items=items, heading=heading, until=until)
        books.write_step()
        Hold.objects.bulk_create(holds)
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
