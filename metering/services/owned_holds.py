"""Hold units for an owner, such as a booking, inside his own transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db.models import Exists, OuterRef

from core import clock as clocks
from core import db, events
from core import errors as core_errors
from core.models import Customer
from metering import decision, derivation
from metering.decision import Denied, Item, Place
from metering.models import Balance, Hold, UsageEntry
from metering.services import (
    afterwards,
    consumption,
    denials,
    drawing,
    endings,
    holds,
    ledger,
    opening,
    reversing,
)
from metering.services.books import Books
from metering.services.drawing import For, Wanted
from metering.services.entries import Heading

State = Hold.State
lock_customer_step = opening.lock_customer_step


@dataclass(frozen=True, kw_only=True)
class End:
    """How an owned hold ends: with so many units captured by feature id; nothing releases it."""

    hold_id: UUID
    captured_units: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Exchanged:
    """The instant of the exchange, and the new hold; None where none was wanted."""

    at: datetime
    hold_id: UUID | None


def exchange_step(
    *,
    customer: Customer,
    owner: str,
    ends: Sequence[End] = (),
    wanted: Sequence[Wanted] = (),
    usage_at: datetime | None = None,
    used_by: For | None = None,
    clock: clocks.Clock,
) -> Exchanged:
    """End owned holds and make a new one, all or nothing; return the instant.

    The caller owns the transaction and took `lock_customer_step` as its first lock, then his
    own; this locks balances, grants and holds, and reads the clock. It is called once, and its
    instant is the operation's. The new hold has no expiry: it ends by its owner alone. It is
    decided in the period of `usage_at`, as the entitlement stands for that instant.

    :raises UsageDenied, PaymentRequired: where the units are not there; nothing is recorded.
    :raises FeatureUnknown, FeatureNotMetered, Invalid: as consuming does.
    :raises NotFound: for a hold that is not this owner's, or has ended.
    """
    db.transaction_required()
    by_key = drawing.get_metered_features(keys=[each.feature_key for each in wanted])
    items = drawing.items_of(wanted, features=by_key, used_by=used_by or For())
    ending = [
        hold
        for end in ends
        for hold in endings.find_holds(customer_id=customer.pk, operation_id=end.hold_id)
    ]
    features = dict(consumption.by_id(by_key)) | dict(endings.features_of(ending))
    places = drawing.places_of(items) | {Place(hold.feature_id, hold.scope) for hold in ending}
    events.lock_for(event_types=(afterwards.RECORDED_LATE,), customer=customer, clock=clock)
    books = opening.open_slow_step(
        customer=customer,
        places=places,
        features=features,
        clock=clock,
        ended_after=min((hold.usage_at for hold in ending), default=None),
    )
    for end in ends:
        _end(books, end, owner=owner)
    books.settle_accounts()
    hold_id = _hold(books, items, features, owner=owner, usage_at=usage_at) if items else None
    books.write_step()
    afterwards.tell_step(books)
    return Exchanged(at=books.at, hold_id=hold_id)


def return_step(*, customer: Customer, owner: str, clock: clocks.Clock) -> datetime:
    """Return whatever the owner holds or has had captured to its sources; tell the instant.

    What is held is released; what was captured is reversed: it leaves the period that counted it,
    and a capture that was reversed before stays so. Locks and clock are as in `exchange_step`, and
    it is called once as well.
    """
    db.transaction_required()
    ended = [State.RELEASED, State.EXPIRED]
    found = list(Hold.objects.filter(owner=owner, customer=customer).exclude(state__in=ended))
    events.lock_for(event_types=(afterwards.RECORDED_LATE,), customer=customer, clock=clock)
    books = opening.open_slow_step(
        customer=customer,
        places={Place(hold.feature_id, hold.scope) for hold in found},
        features=endings.features_of(found),
        clock=clock,
        after=min((hold.usage_at for hold in found), default=None),
    )
    ids = sorted({hold.operation_id for hold in found})
    locked = endings.lock_holds_step(books, operation_ids=ids)
    heading = Heading(customer_id=books.customer_id, at=books.at)
    live = [hold for hold in locked if hold.state == State.LIVE]
    lines = endings.release_lines(books=books, holds=live, heading=heading)
    for taken in _captured(locked):
        lines += reversing.reversed_lines(books=books, taken=taken, heading=heading)
    books.write_step()
    ledger.append_step(entries=lines)
    afterwards.tell_step(books)
    return books.at


def _captured(holds: Sequence[Hold]) -> list[list[UsageEntry]]:
    """Return the lines that captured the holds and stand: each item with what it drew besides."""
    captured = [hold for hold in holds if hold.state == State.CAPTURED]
    reversals = UsageEntry.objects.filter(reverses=OuterRef("pk"))
    lines = UsageEntry.objects.filter(
        ~Exists(reversals),
        kind=UsageEntry.Kind.CAPTURE,
        balance__in={hold.balance_id for hold in captured},
        hold_id__in={hold.operation_id for hold in captured},
        units__gt=0,
    )
    by_item: dict[tuple[UUID, int], list[UsageEntry]] = {}
    for line in lines.select_related("feature").order_by("item"):
        item = line.item if line.drawn_for is None else line.drawn_for
        by_item.setdefault((line.operation_id, item), []).append(line)
    return list(by_item.values())


def _end(books: Books, end: End, *, owner: str) -> None:
    locked = endings.lock_holds_step(books, operation_ids=[end.hold_id])
    live = [hold for hold in locked if hold.state == State.LIVE and hold.owner == owner]
    if not live:
        raise core_errors.NotFound("The owner has no such live hold.")
    heading = Heading(customer_id=books.customer_id, at=books.at)
    if any(end.captured_units.values()):
        lines = endings.capture_lines(
            books=books, holds=live, heading=heading, units=end.captured_units, may_exceed=True
        )
    else:
        lines = endings.release_lines(books=books, holds=live, heading=heading)
    ledger.append_step(entries=lines)


def _hold(
    books: Books,
    items: Sequence[Item],
    features: opening.Features,
    *,
    owner: str,
    usage_at: datetime | None,
) -> UUID:
    rows, codes = _rows_at(books, items, features, at=usage_at or books.at)
    outcome = decision.decide(items, balances=rows, codes=codes)
    if isinstance(outcome, Denied):
        raise denials.refusal(outcome)
    heading = Heading(customer_id=books.customer_id, at=books.at)
    lines, made = holds.held_lines(
        books=books,
        items=items,
        heading=heading,
        until=None,
        owner=owner,
        rows=rows,
        usage_at=usage_at,
    )
    Hold.objects.bulk_create(made)
    ledger.append_step(entries=lines)
    return heading.operation_id


def _rows_at(
    books: Books, items: Sequence[Item], features: opening.Features, *, at: datetime
) -> tuple[dict[Place, Balance], dict[Place, str]]:
    """Return the rows that decide for the instant, and why there is none where there is none."""
    if books.facts is None:
        raise AssertionError
    rows, codes = {}, {}
    for place in sorted(drawing.places_of(items)):
        feature = features[place.feature_id]
        row = opening.row_at_step(books, feature=feature, at=at, scope=place.scope)
        if row is not None:
            rows[place] = row
        else:
            derived = derivation.derive(books.facts, feature=feature, at=at, scope=place.scope)
            codes[place] = derived.denial_code
    return rows, codes
