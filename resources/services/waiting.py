"""Keep the waiting list: the first who may book a time that falls free is offered it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from core import clock as clocks
from core import db, statements
from core import errors as core_errors
from core import locks as core_locks
from core.actors import Actor
from core.errors import DomainError
from core.models import Customer
from core.services import audit, idempotency
from core.services.idempotency import KeyedRequest, Recorded
from resources import errors, selectors
from resources.models import Booking, WaitlistEntry
from resources.opening import Span
from resources.services import booking, planning, turns
from resources.services.planning import Order, Wish
from resources.timetable import Place, Want
from subscriptions import errors as subscription_errors

CREATED, OK = 201, 200
OFFERS_MAX = 200
WAITING_MAX = 20
ACTOR = Actor(name="waiting list")
State = WaitlistEntry.State
Render = Callable[[WaitlistEntry, datetime], Mapping[str, object]]


class Gone(Exception):
    """Roll back: the entry no longer waits."""


@dataclass(frozen=True, kw_only=True)
class Offered:
    """An offer made: the entry and the held booking."""

    entry: WaitlistEntry
    booking: Booking


def join(
    order: Order,
    *,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Put the customer on the waiting list for the order's one wish, once under the key.

    Where the time is free already he is offered it at once.

    :raises DomainError: for a time that could not be booked if it were free.
    :raises BookingLimitReached: for one who waits for 20 times already.
    """

    @db.operation
    def run() -> Recorded:
        with turns.of(customer_id=order.customer_id), db.transaction():
            try:
                core_locks.lock_customer(customer_id=order.customer_id)
            except Customer.DoesNotExist as error:
                raise core_errors.NotFound("There is no such customer.") from error
            at = clock.now()
            entry = _entry(order, at=at)
            entry.save(force_insert=True)
            after = audit.snapshot(entry)
            audit.record_step(
                actor=order.actor, action="waitlist_entry.joined", row=entry, at=at, after=after
            )
            return idempotency.claim_step(
                customer_id=order.customer_id,
                keyed=keyed,
                status=CREATED,
                body=render(entry, at),
                at=at,
            )

    recorded = idempotency.once(customer_id=order.customer_id, keyed=keyed, run=run)
    if not recorded.replayed:
        _offer_all(_waiting(at=clock.now()).filter(customer=order.customer_id), clock=clock)
    return recorded


def _entry(order: Order, *, at: datetime) -> WaitlistEntry:
    places = planning.find_candidates(order)
    timetable = selectors.get_public_timetable(places, span=order.span, at=at)
    (wish,) = order.wishes
    place = next(iter(places.values()))
    want = Want(place=place, span=order.span, quantity=wish.quantity)
    refusal = timetable.refuse_shape(want)
    if refusal is not None:
        raise refusal
    if _waiting(at=at).filter(customer=order.customer_id).count() >= WAITING_MAX:
        facts = {"rule": "waiting_max", "limit": WAITING_MAX}
        detail = f"You wait for {WAITING_MAX} times already."
        raise errors.BookingLimitReached(detail, facts=facts)
    return WaitlistEntry(
        customer_id=order.customer_id,
        type_id=place.terms.id,
        venue_id=place.venue_id,
        resource_id=place.id if wish.resource_key else None,
        quantity=wish.quantity,
        starts_at=order.span.starts_at,
        ends_at=order.span.ends_at,
        created_at=at,
    )


def leave(
    *,
    entry: WaitlistEntry,
    actor: Actor,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Take the customer off the list; who no longer waits stays as he is.

    :raises InvalidTransition: for an offer made: its booking is cancelled instead.
    """

    @db.operation
    def run() -> Recorded:
        with turns.of(customer_id=entry.customer_id), db.transaction():
            core_locks.lock_customer(customer_id=entry.customer_id)
            row = _entries().get(pk=entry.pk)
            at = clock.now()
            if row.state == State.OFFERED:
                detail = "The time was offered: confirm or cancel the booking."
                raise subscription_errors.InvalidTransition(detail)
            if row.state == State.WAITING:
                before = audit.snapshot(row)
                row.state, row.ended_at = State.ENDED, at
                row.save(update_fields=["state", "ended_at"])
                after = audit.snapshot(row)
                audit.record_change_step(
                    actor=actor, what="left", row=row, at=at, before=before, after=after
                )
            return idempotency.claim_step(
                customer_id=entry.customer_id,
                keyed=keyed,
                status=OK,
                body=render(row, at),
                at=at,
            )

    return idempotency.once(customer_id=entry.customer_id, keyed=keyed, run=run)


def offer_freed(*, row: Booking, clock: clocks.Clock) -> list[Offered]:
    """Offer the time of a booking that was given up to who waits for it, first come first."""
    return offer_between(
        venue_id=row.venue_id, starts_at=row.starts_at, ends_at=row.ends_at, clock=clock
    )


def offer_between(
    *, venue_id: int, starts_at: datetime, ends_at: datetime, clock: clocks.Clock
) -> list[Offered]:
    """Offer what is free between the instants to who waits for it, first come first."""
    reach = selectors.GAP_MAX
    found = _list_touched(
        venue_id=venue_id, before=ends_at + reach, after=starts_at - reach, at=clock.now()
    )
    return _offer_all(found, clock=clock)


@statements.compiled
def _list_touched(
    *, venue_id: int, before: datetime, after: datetime, at: datetime
) -> "QuerySet[WaitlistEntry]":
    rows = _waiting(at=at).filter(venue_id=venue_id, starts_at__lt=before, ends_at__gt=after)
    return rows[:OFFERS_MAX]


def offer_waiting(*, clock: clocks.Clock) -> list[Offered]:
    """Offer whatever is free by now to whoever waits."""
    return _offer_all(_waiting(at=clock.now())[:OFFERS_MAX], clock=clock)


def end_past(*, entry_id: UUID, clock: clocks.Clock) -> bool:
    """End an entry that waited past its start; tell whether there was anything to end."""
    at = clock.now()
    past = WaitlistEntry.objects.filter(pk=entry_id, state=State.WAITING, starts_at__lte=at)
    return past.update(state=State.ENDED, ended_at=at) > 0


def _entries() -> "QuerySet[WaitlistEntry]":
    return WaitlistEntry.objects.select_related("type", "venue", "resource", "booking")


def _waiting(*, at: datetime) -> "QuerySet[WaitlistEntry]":
    rows = _entries().filter(state=State.WAITING, starts_at__gt=at)
    return rows.order_by("created_at", "id")


def _offer_all(entries: Iterable[WaitlistEntry], *, clock: clocks.Clock) -> list[Offered]:
    offers = (_offer(entry, clock=clock) for entry in list(entries))
    return [each for each in offers if each is not None]


def _offer(entry: WaitlistEntry, *, clock: clocks.Clock) -> Offered | None:
    """Hold the time for who waits, in a transaction of its own; None where he may not have it.

    Who may not book it now, for want of units or by his policy, waits on, and the next is asked.
    """
    order = _order_of(entry)

    @db.operation
    def run() -> Offered:
        places = planning.find_candidates(order)
        with turns.of(customer_id=order.customer_id, resource_ids=list(places)):
            planning.precheck(order, places=places, clock=clock)
            return booking.clearing(
                attempt=lambda: _attempt(entry, order, places, clock), clock=clock
            )

    try:
        return run()
    except (DomainError, Gone):
        return None


def _attempt(
    entry: WaitlistEntry, order: Order, places: Mapping[int, Place], clock: clocks.Clock
) -> Offered:
    with db.transaction():
        booked = booking.book_step(order, places=places, clock=clock)
        moved = WaitlistEntry.objects.filter(pk=entry.pk, state=State.WAITING).update(
            state=State.OFFERED, booking=booked.row
        )
        if not moved:
            raise Gone
        return Offered(entry=entry, booking=booked.row)


def _order_of(entry: WaitlistEntry) -> Order:
    wish = Wish(
        resource_key=entry.resource.key if entry.resource else None,
        type_key=None if entry.resource else entry.type.key,
        quantity=entry.quantity,
    )
    return Order(
        customer_id=entry.customer_id,
        span=Span(starts_at=entry.starts_at, ends_at=entry.ends_at),
        wishes=[wish],
        actor=ACTOR,
        venue_key=entry.venue.key,
        held_seconds=settings.ENGINE.waitlist_offer_seconds,
    )
