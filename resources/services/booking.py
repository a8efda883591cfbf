"""Book: capacity and units decided in one transaction, under the locks of both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from django.db import IntegrityError
from uuid_utils.compat import uuid7

from core import clock as clocks
from core import db, events
from core import errors as core_errors
from core.models import Customer
from core.services import audit, idempotency
from core.services.idempotency import KeyedRequest, Recorded
from metering.services import denials, owned_holds
from resources import errors, locks, rules, selectors, standing
from resources.models import Allocation, Booking, BookingSeries, Participant, Venue
from resources.rules import Policy
from resources.services import availability, noting, planning, publishing, settling, turns
from resources.services.planning import Order
from resources.timetable import Place, Timetable, Want

CREATED = 201
LAPSED_ROUNDS_MAX = 5
NO_OVERLAP = "allocation_no_overlap"
State = Booking.State
Render = Callable[[Booking, datetime], Mapping[str, object]]
R = TypeVar("R")


class Lapsed(Exception):
    """Roll back: bookings that waited in vain stand in the way and must be written off first."""

    def __init__(self, booking_ids: Sequence[UUID]) -> None:
        super().__init__(booking_ids)
        self.booking_ids = booking_ids


@dataclass(frozen=True, kw_only=True)
class Booked:
    """A booking made, and the instant at which it was decided."""

    row: Booking
    at: datetime


def book(order: Order, *, keyed: KeyedRequest, render: Render, clock: clocks.Clock) -> Recorded:
    """Book all that is wished for, or nothing, once under the key, and record the answer.

    On return the resources are the customer's for the time, and the units of all of them are
    held: the usage period of the start of play pays. Both stand in one commit.

    :raises SlotTaken: with the nearest slots that are free.
    :raises BookingTooSoon, BookingTooFar, OffGrid, DurationNotAllowed: as the type and policy say.
    :raises OutsideOpeningHours, ResourceClosed, CapacityExceeded: as the resource says.
    :raises BookingLimitReached: as the policy of the plan says.
    :raises UsageDenied: where the units are not there; that is recorded, other refusals are not.
    :raises NotFound, Invalid: for what the order does not name clearly.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """

    def attempt(places: Mapping[int, Place]) -> Recorded:
        with db.transaction():
            booked = book_step(order, places=places, clock=clock)
            return idempotency.claim_step(
                customer_id=order.customer_id,
                keyed=keyed,
                status=CREATED,
                body=render(booked.row, booked.at),
                at=booked.at,
            )

    @db.operation
    def run() -> Recorded:
        places = planning.find_candidates(order)
        with turns.of(customer_id=order.customer_id, resource_ids=list(places)) as has_waited:
            recorded = None
            if has_waited:  # perhaps for a twin
                recorded = idempotency.find_recorded(customer_id=order.customer_id, keyed=keyed)
            return recorded or _booked(order, places, lambda: attempt(places), clock=clock)

    return denials.once(
        customer_id=order.customer_id,
        keyed=keyed,
        request_id=order.actor.request_id,
        run=run,
        clock=clock,
    )


def _booked(
    order: Order, places: Mapping[int, Place], attempt: Callable[[], R], *, clock: clocks.Clock
) -> R:
    """Refuse without a lock where that can be, else attempt it; where taken, name what is free."""
    try:
        planning.precheck(order, places=places, clock=clock)
        return clearing(attempt=attempt, clock=clock)
    except errors.SlotTaken as refusal:
        raise with_alternatives(refusal, order=order, clock=clock) from refusal


def book_by_staff(order: Order, *, clock: clocks.Clock) -> Booking:
    """Book without a key, as the admin and the waiting list do.

    :raises DomainError: as `book` does.
    """

    @db.operation
    def run() -> Booking:
        places = planning.find_candidates(order)

        def attempt() -> Booking:
            with db.transaction():
                return book_step(order, places=places, clock=clock).row

        with turns.of(customer_id=order.customer_id, resource_ids=list(places)):
            planning.precheck(order, places=places, clock=clock)
            return clearing(attempt=attempt, clock=clock)

    return run()


def clearing(*, attempt: Callable[[], R], clock: clocks.Clock) -> R:
    """Return what the attempt returns; what has lapsed and stands in its way is written off.

    :raises LockTimeout: where something lapses again and again; nothing changed.
    """
    for _ in range(LAPSED_ROUNDS_MAX):
        try:
            return attempt()
        except Lapsed as lapsed:
            for booking_id in lapsed.booking_ids:
                settling.settle(booking_id=booking_id, clock=clock)
        except IntegrityError as error:
            raise translated(error) from error
    raise core_errors.LockTimeout("Others take and leave this slot just now; try again.")


def translated(error: IntegrityError) -> Exception:
    """Return what a broken constraint means; an unknown one stays itself.

    The exclusion constraint is the backstop: the locks let nothing come so far.
    """
    if NO_OVERLAP in str(error):
        facts: dict[str, object] = {"alternatives": []}
        return errors.SlotTaken("The resource is not free then.", facts=facts)
    return error


def book_step(
    order: Order,
    *,
    places: Mapping[int, Place],
    clock: clocks.Clock,
    series: BookingSeries | None = None,
) -> Booked:
    """Take the locks in their order, decide again under them, and write the booking.

    It takes the customer's lock first: the caller holds none.

    :raises Lapsed: where something that waited in vain must be written off first.
    :raises DomainError: as `book` says.
    """
    db.transaction_required()
    customer = owned_holds.lock_customer_step(customer_id=order.customer_id)
    clock = clocks.customer_clock(customer, clock=clock)
    locks.lock_resources(resource_ids=list(places))
    events.lock_for(event_types=publishing.ALL, customer=customer, clock=clock)
    decided = decide_step(order, places=places, customer=customer, at=clock.now())
    row = Booking(pk=uuid7(), customer=customer, series=series)
    exchanged = owned_holds.exchange_step(
        customer=customer,
        owner=row.owner,
        ends=(),
        wanted=planning.units_by_feature(decided.timetable, wants=decided.wants),
        usage_at=order.span.starts_at,
        clock=clock,
    )
    planning.recheck(decided.timetable, wants=decided.wants, at=exchanged.at)
    row.hold_id = exchanged.hold_id
    _write(row, order, decided, at=exchanged.at)
    return Booked(row=row, at=exchanged.at)


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What was read and chosen under the locks."""

    timetable: Timetable
    wants: Sequence[Want]

    @property
    def venue(self) -> Venue:
        """Return the venue of all that was chosen, as it was read."""
        place = self.wants[0].place
        return Venue(
            pk=place.venue_id,
            key=place.venue_key,
            time_zone=place.time_zone,
            currency=place.currency,
        )

    @property
    def policies(self) -> list[Policy]:
        """Return the terms of each type once."""
        types = dict.fromkeys(want.place.terms.id for want in self.wants)
        return [self.timetable.policies[type_id] for type_id in types]


def decide_step(
    order: Order,
    *,
    places: Mapping[int, Place],
    customer: Customer,
    at: datetime,
    without: UUID | None = None,
) -> Decided:
    """Choose the resources from what is read now; the caller holds all locks above the balances.

    :raises Lapsed, DomainError: as `book_step` does.
    """
    lapsed = selectors.list_lapsed(customer_id=customer.pk, places=places, span=order.span, at=at)
    if lapsed:
        raise Lapsed(lapsed)
    scene = selectors.get_scene(customer=customer, places=places, at=at)
    timetable = selectors.get_timetable(
        scene, span=order.span, at=at, without=without, is_policy_waived=order.is_policy_waived
    )
    return Decided(timetable=timetable, wants=planning.choose(timetable, order=order))


def _write(row: Booking, order: Order, decided: Decided, *, at: datetime) -> None:
    row.venue = decided.venue
    row.created_at, row.actor = at, order.actor.name
    row.state = State.CONFIRMED if order.held_seconds is None else State.HELD
    if order.held_seconds is not None:
        row.expires_at = min(at + timedelta(seconds=order.held_seconds), order.span.starts_at)
    set_terms(row, order=order, decided=decided)
    row.save(force_insert=True)
    write_allocations(row, decided=decided)
    if row.series is None:  # a series is noted whole
        quantities = {want.place.key: want.quantity for want in decided.wants}
        audit.record_step(
            actor=order.actor,
            action=f"booking.{row.state}",
            row=row,
            at=at,
            after=noting.described(row, quantities=quantities),
        )
    Participant.objects.bulk_create(
        Participant(booking=row, name=each.name, is_guest=each.is_guest) for each in order.attendees
    )
    is_held = row.state == State.HELD
    publishing.publish_step(
        row,
        event_type=publishing.HELD if is_held else publishing.CONFIRMED,
        at=at,
        fee_minor=0 if is_held else row.guest_fee_minor * order.guests,
        guests=order.guests,
    )


def set_terms(row: Booking, *, order: Order, decided: Decided) -> None:
    """Fix the time and the terms on which the booking may be left; not yet stored."""
    terms = rules.strictest(decided.policies)
    row.starts_at, row.ends_at = order.span.starts_at, order.span.ends_at
    row.free_cancel_until = row.starts_at - timedelta(minutes=terms.free_cancel_minutes)
    row.late_units_percent = terms.late_units_percent
    row.late_fee_minor = terms.late_fee_minor
    row.requires_check_in = terms.requires_check_in
    row.no_show_units_percent = terms.no_show_units_percent
    row.no_show_fee_minor = terms.no_show_fee_minor
    row.guest_fee_minor = terms.guest_fee_minor
    row.due_at = standing.due_at(row)


def write_allocations(row: Booking, *, decided: Decided) -> None:
    """Write what the booking occupies and the units that each resource takes."""
    Allocation.objects.bulk_create(
        Allocation(
            booking=row,
            resource_id=want.place.id,
            quantity=want.quantity,
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            occupied_until=want.place.occupied(want.span).ends_at,
            is_exclusive=want.place.is_exclusive,
            feature_id=want.place.terms.feature.id,
            units=decided.timetable.cost_units(want),
        )
        for want in decided.wants
    )


def with_alternatives(
    refusal: errors.SlotTaken, *, order: Order, clock: clocks.Clock
) -> errors.SlotTaken:
    """Return the refusal with the nearest free slots of the resource that was taken."""
    taken = selectors.find_places(resource_keys=[str(refusal.facts().get("resource"))])
    customer = Customer.objects.get(pk=order.customer_id)
    slots = [
        slot
        for place in taken.values()
        for slot in availability.list_alternatives(
            customer=customer, want=Want(place=place, span=order.span), clock=clock
        )
    ]
    return refusal.with_alternatives(
        [
            {
                "resource": slot.place.key,
                "starts_at": clocks.rfc3339(slot.span.starts_at),
                "ends_at": clocks.rfc3339(slot.span.ends_at),
            }
            for slot in slots
        ]
    )
