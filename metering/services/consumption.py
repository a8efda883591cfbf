"""Consume units: lock, read the time, decide, count and record in one transaction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from django.conf import settings

from core import clock as clocks
from core import db
from core import errors as core_errors
from core.models import Customer
from core.services import idempotency
from metering import decision, errors
from metering.decision import Denied, Item
from metering.models import UsageEntry
from metering.services import combining, denials, drawing, ledger, opening
from metering.services.asking import Consumed, Recorded, Request
from metering.services.books import Books
from metering.services.drawing import For, Wanted
from metering.services.entries import Heading, Lines
from metering.services.groups import Asked
from metering.services.opening import Features
from subscriptions import switches
from subscriptions.facts import FeatureFacts

__all__ = ["Consumed", "For", "Request", "StepRequest", "Wanted", "consume", "consume_step"]
Act = Callable[[Books, Sequence[Item]], list[UsageEntry]]


@db.operation
def consume(request: Request, *, clock: clocks.Clock) -> Consumed:
    """Count the units, all or none, exactly once under the request's key.

    On return the units are committed: `used + held ≤ limit` held under the rows' locks at the
    instant read after them. A denial is committed too, and replayed under its key.

    :raises UsageDenied: with the failing item's feature; recorded under the key.
    :raises PaymentRequired: until the first payment; not recorded.
    :raises FeatureUnknown, FeatureNotMetered: for a key that names no metered feature.
    :raises Invalid: where a member or entity must be named, or must not.
    :raises IdempotencyKeyReused: where the key stands for another request.
    :raises IdempotencyInProgress: where the key's first request has not ended in time.
    """
    try:
        asked = ask(request, clock=clock)
    except core_errors.DomainError:
        recorded = find_recorded(request)
        if not recorded:
            raise
        return answer(recorded, replayed=True)
    done = combining.decide(asked) if settings.ENGINE.group_commit else None
    return done or consume_alone(request, clock=clock)


def ask(request: Request, *, clock: clocks.Clock) -> Asked:
    """Return what the request asks to count, as its features say.

    :raises FeatureUnknown, FeatureNotMetered, FeatureSuspended, Invalid: as `consume` does.
    """
    by_key = drawing.get_metered_features(keys=[each.feature_key for each in request.wanted])
    items = drawing.items_of(request.wanted, features=by_key, used_by=request.used_by)
    return Asked(request=request, items=items, features=by_id(by_key), clock=clock)


def consume_alone(request: Request, *, clock: clocks.Clock) -> Consumed:
    """Consume in a transaction of the request's own, with all that it may need.

    :raises UsageDenied, DomainError: as `consume` does.
    """

    def act(books: Books, items: Sequence[Item]) -> list[UsageEntry]:
        return count_step(books=books, items=items, request=request)

    return run(request, act=act, clock=clock)


def run(request: Request, *, act: Act, clock: clocks.Clock) -> Recorded:
    """Run what counts items under a key: its first time, or a replay of it.

    :raises UsageDenied: where the lines record a denial.
    """
    recorded = find_recorded(request)
    if recorded:
        return answer(recorded, replayed=True)
    by_key = drawing.get_metered_features(keys=[each.feature_key for each in request.wanted])
    items = drawing.items_of(request.wanted, features=by_key, used_by=request.used_by)
    try:
        entries = opening.decided(
            customer_id=request.customer_id,
            places=drawing.places_of(items),
            features=by_id(by_key),
            clock=clock,
            act=lambda books: act(books, items),
        )
    except (idempotency.KeyTaken, errors.PaymentRequired):
        recorded = find_recorded(request)
        if not recorded:
            raise
        return answer(recorded, replayed=True)
    return answer(entries, replayed=False)


@dataclass(frozen=True, kw_only=True)
class StepRequest:
    """What a step counts in its caller's transaction: 1 … 20 items, all or nothing, no key."""

    wanted: Sequence[Wanted]
    used_by: For = field(default_factory=For)
    metadata: Mapping[str, object] = field(default_factory=dict)


def consume_step(*, customer: Customer, asked: StepRequest, clock: clocks.Clock) -> Consumed:
    """Count the units, all or none, in the caller's transaction: they roll back with it.

    The caller owns the transaction and took `opening.lock_customer_step` as its first lock, then
    his own; this locks balances and grants, and reads the clock. It is called once, with all
    items. `consumed_at` of the entries is the operation's instant. A denial is raised and not
    recorded; where the caller catches it and commits, nothing is counted.

    :raises UsageDenied, PaymentRequired: where the units are not there.
    :raises FeatureUnknown, FeatureNotMetered, FeatureSuspended, Invalid: as `consume` does.
    :raises RuntimeError: outside a transaction.
    """
    db.transaction_required()
    by_key = drawing.get_metered_features(keys=[each.feature_key for each in asked.wanted])
    items = drawing.items_of(asked.wanted, features=by_key, used_by=asked.used_by)
    places = drawing.places_of(items)
    books = opening.open_slow_step(
        customer=customer, places=places, features=by_id(by_key), clock=clock
    )
    heading = Heading(customer_id=customer.pk, at=books.at, metadata=asked.metadata)
    outcome = _count(books=books, items=items, heading=heading)
    books.write_step()  # also on a denial: holds that died by now are marked, their units free
    if isinstance(outcome, Denied):
        raise denials.refusal(outcome)
    ledger.append_step(entries=outcome)
    return Consumed(entries=outcome, replayed=False)


def count_step(*, books: Books, items: Sequence[Item], request: Request) -> list[UsageEntry]:
    """Decide all items, then write counters and lines: a denial writes its line alone.

    :raises PaymentRequired: where a first payment is awaited.
    """
    heading = Heading(
        customer_id=books.customer_id,
        at=books.at,
        keyed=request.keyed,
        metadata=request.metadata,
    )
    outcome = _count(books=books, items=items, heading=heading)
    if isinstance(outcome, Denied):
        lines = denials.lines(heading=heading, denied=outcome, request_id=request.request_id)
    else:
        lines = outcome
    books.write_step()
    ledger.append_step(entries=lines)
    return lines


def _count(*, books: Books, items: Sequence[Item], heading: Heading) -> list[UsageEntry] | Denied:
    """Count all items, or return the denial of the first that may not be used."""
    denied = decision.decide(items, balances=books.current, codes=books.codes)
    if denied is not None and not _is_open_to_all(books, items):
        return denied
    lines = counted_lines(books=books, items=items, heading=heading, kind=UsageEntry.Kind.CONSUME)
    if denied is not None:
        for draw in (draw for item in items for draw in item.draws):
            books.raise_ceiling(books.current[draw.place])
    return lines


def _is_open_to_all(books: Books, items: Sequence[Item]) -> bool:
    """Tell whether an operator lets everybody use these features, over any limit."""
    draws = [draw for item in items for draw in item.draws]
    return all(switches.is_open_to_all(item.feature_id) for item in items) and all(
        draw.place in books.current for draw in draws
    )


def counted_lines(
    *, books: Books, items: Sequence[Item], heading: Heading, kind: str
) -> list[UsageEntry]:
    """Count every item as used on each of its balances, and return the lines that say so."""
    lines = Lines(heading=heading)
    rows = books.current
    for number, item in enumerate(items):
        for place, draw in enumerate(item.draws):
            row = rows[draw.place]
            drawn_for = number if place else None
            line = lines.add(kind=kind, draw=draw, balance=row, drawn_for=drawn_for)
            books.count(row, entry_id=line.pk, used=draw.units)
            line.used_units = row.used_units
    return lines.all()


def by_id(features: Mapping[str, FeatureFacts]) -> Features:
    """Return the features by id."""
    return {each.id: each for each in features.values()}


def find_recorded(request: Request) -> list[UsageEntry]:
    """Return what the key stands for; empty where it is new.

    :raises IdempotencyKeyReused: where it stands for another request.
    """
    return ledger.find_operation(
        customer_id=request.customer_id,
        key=request.keyed.key,
        fingerprint=request.keyed.fingerprint,
    )


def answer(entries: Sequence[UsageEntry], *, replayed: bool) -> Recorded:
    """Return the granted lines, or raise the recorded denial."""
    if entries[0].kind == UsageEntry.Kind.DENIED:
        raise denials.recorded(entries[0], replayed=replayed)
    return Recorded(entries=entries, replayed=replayed)
