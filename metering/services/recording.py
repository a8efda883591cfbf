"""Count usage after the fact: it happened, so it is never refused, but may be overage."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from core import clock as clocks
from core import db, events
from core.models import Customer
from metering import errors
from metering.decision import Denied, Draw, Item, Place
from metering.models import Balance, UsageEntry
from metering.services import afterwards, consumption, denials, ledger, opening
from metering.services.afterwards import Owner
from metering.services.asking import Consumed, Request
from metering.services.books import Books, place_of
from metering.services.entries import Heading, Lines, show
from subscriptions.facts import FeatureFacts


@db.operation
def record(request: Request, *, clock: clocks.Clock) -> Consumed:
    """Count units that were used already, exactly once under the request's key.

    They burn what is there; the rest is overage, whatever the mode, and raises the ceiling. It
    is refused only where there is nothing to count on: no plan with the feature.

    :raises UsageDenied: where the customer has nothing of the feature; recorded under the key.
    :raises FeatureUnknown, FeatureNotMetered, Invalid, IdempotencyKeyReused,
        IdempotencyInProgress: as consuming does.
    """

    def act(books: Books, items: Sequence[Item]) -> list[UsageEntry]:
        heading = Heading(
            customer_id=books.customer_id,
            at=books.at,
            keyed=request.keyed,
            metadata=request.metadata,
        )
        missing = first_without_row(books=books, items=items)
        if missing is not None:
            lines = denials.lines(heading=heading, denied=missing, request_id=request.request_id)
        else:
            lines = consumption.counted_lines(
                books=books, items=items, heading=heading, kind=UsageEntry.Kind.RECORD
            )
            for draw in (draw for item in items for draw in item.draws):
                books.raise_ceiling(books.current[draw.place])
        books.write_step()
        ledger.append_step(entries=lines)
        return lines

    return consumption.run(request, act=act, clock=clock)


def first_without_row(*, books: Books, items: Sequence[Item]) -> Denied | None:
    """Return the first item that no balance can count; None where all can be."""
    for item in items:
        for draw in item.draws:
            if draw.place not in books.current:
                code = books.codes.get(draw.place) or errors.FeatureNotInPlan.code
                return Denied(item=item, draw=draw, code=code, balance=None)
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fed:
    """Units that a meter counted for a feature's period: `usage_at` is any instant in it."""

    feature: FeatureFacts
    usage_at: datetime
    units: int


def feed_step(*, customer: Customer, fed: Sequence[Fed], clock: clocks.Clock) -> datetime:
    """Count what meters counted, each in the period of its own time; return the instant.

    The caller owns the transaction and holds the locks of the customer and his subscriptions
    (`opening.lock_customer_step`); it calls this once, with all that it feeds. The units of a
    feature and period stand in one line. What belongs to a closed period is reported there and
    burns now; a period without a row is opened closed, so that nothing is re-dated. Never
    refuses. What a subscription used that has ended by now is told: `usage.recorded_late`.
    """
    db.transaction_required()
    events.lock_for(event_types=(afterwards.RECORDED_LATE,), customer=customer, clock=clock)
    features = {each.feature.id: each.feature for each in fed}
    books = opening.open_slow_step(
        customer=customer,
        places=[Place(feature_id, "") for feature_id in features],
        features=features,
        clock=clock,
        after=min(each.usage_at for each in fed),
    )
    ended = afterwards.list_ended(books)
    totals: Counter[_Line] = Counter()
    for each in fed:
        row = opening.row_at_step(books, feature=each.feature, at=each.usage_at)
        if row is not None:
            owner = afterwards.find_owner(ended, feature=each.feature, stood_at=each.usage_at)
            totals[_Line(balance_id=row.pk, owner=owner)] += each.units
    lines = Lines(heading=Heading(customer_id=customer.pk, at=books.at))
    for key, units in totals.items():
        row, place = books.rows[key.balance_id], place_of(books.rows[key.balance_id])
        draw = Draw(place=place, feature_key=features[place.feature_id].key, units=units)
        line = lines.add(kind=UsageEntry.Kind.RECORD, draw=draw, balance=row)
        afterwards.give_step(line, owner=key.owner, books=books)
        current = books.current.get(place)
        count_fed(books=books, row=row, current=current, line=line)
        show(line, balance=row)
    books.write_step()
    if lines.items:
        ledger.append_step(entries=lines.all())
    afterwards.tell_step(books)
    return books.at


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """What stands in one line; `owner` is given where its subscription has ended."""

    balance_id: int
    owner: Owner | None = None


def count_fed(*, books: Books, row: Balance, current: Balance | None, line: UsageEntry) -> None:
    """Count a line on its row; what an earlier period used burns on the current one."""
    books.count(row, entry_id=line.pk, used=line.units)
    books.raise_ceiling(row)
    if current is not None and row is not current and row.period_starts_at < books.at:
        books.carry(current, entry_id=line.pk, units=line.units)
