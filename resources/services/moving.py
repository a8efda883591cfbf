"""Move a booking to another time or resource: the old stays where the new cannot be had."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from core import clock as clocks
from core import db, events
from core import errors as core_errors
from core.services import audit, idempotency
from core.services.idempotency import KeyedRequest, Recorded
from metering.services import denials, owned_holds
from resources import errors, locks, standing
from resources.models import Allocation, Booking
from resources.services import booking, noting, planning, publishing, turns, waiting
from resources.services.booking import Render
from resources.services.planning import Order
from subscriptions import errors as subscription_errors

OK = 200
R = TypeVar("R")


def move(
    *,
    booking_id: UUID,
    order: Order,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Exchange the booking's time and resources for those of the order, in one commit.

    The old units return and the new are held together; where anything refuses, the booking
    stands as it stood. Its participants stay, its terms are those of today.

    :raises SlotTaken, UsageDenied, DomainError: as booking does.
    :raises InvalidTransition: where it has begun or ended, or may no longer be cancelled free.
    :raises NotFound: where the customer has no such booking.
    """

    def record(row: Booking, at: datetime) -> Recorded:
        return idempotency.claim_step(
            customer_id=order.customer_id, keyed=keyed, status=OK, body=render(row, at), at=at
        )

    freed = _find(booking_id, order)
    recorded = denials.once(
        customer_id=order.customer_id,
        keyed=keyed,
        request_id=order.actor.request_id,
        run=lambda: _moved(booking_id, order, then=record, clock=clock),
        clock=clock,
    )
    if not recorded.replayed:
        waiting.offer_freed(row=freed, clock=clock)
    return recorded


def move_by_staff(*, booking_id: UUID, order: Order, clock: clocks.Clock) -> Booking:
    """Move without a key, as the admin does.

    :raises DomainError: as `move` does.
    """
    freed = _find(booking_id, order)
    row = _moved(booking_id, order, then=lambda row, _: row, clock=clock)
    waiting.offer_freed(row=freed, clock=clock)
    return row


def _find(booking_id: UUID, order: Order) -> Booking:
    """Return the booking as it stands before."""
    row = Booking.objects.filter(pk=booking_id, customer=order.customer_id).first()
    if row is None:
        raise core_errors.NotFound("There is no such booking.")
    return row


@db.operation
def _moved(
    booking_id: UUID,
    order: Order,
    *,
    then: Callable[[Booking, datetime], R],
    clock: clocks.Clock,
) -> R:
    def attempt() -> R:
        with db.transaction():
            row, at = _move_step(booking_id, order, clock=clock)
            return then(row, at)

    try:
        with turns.of(customer_id=order.customer_id):
            return booking.clearing(attempt=attempt, clock=clock)
    except errors.SlotTaken as refusal:
        raise booking.with_alternatives(refusal, order=order, clock=clock) from refusal


def _move_step(booking_id: UUID, order: Order, *, clock: clocks.Clock) -> tuple[Booking, datetime]:
    """Take every lock of the old and the new, decide, exchange the units, and write."""
    customer = owned_holds.lock_customer_step(customer_id=order.customer_id)
    clock = clocks.customer_clock(customer, clock=clock)
    places = planning.find_candidates(order)
    occupied = list(Allocation.objects.filter(booking=booking_id).select_related("resource"))
    locks.lock_resources(resource_ids={*places, *(each.resource_id for each in occupied)})
    events.lock_for(event_types=publishing.ALL, customer=customer, clock=clock)
    row = Booking.objects.select_related("customer", "venue").get(pk=booking_id)
    quantities = {each.resource.key: each.quantity for each in occupied}
    before = noting.described(row, quantities=quantities)
    asked_at = clock.now()
    _refuse_unmovable(row, at=asked_at, is_waived=order.is_policy_waived)
    decided = booking.decide_step(
        order, places=places, customer=customer, at=asked_at, without=booking_id
    )
    exchanged = owned_holds.exchange_step(
        customer=customer,
        owner=row.owner,
        ends=[owned_holds.End(hold_id=row.hold_id)] if row.hold_id else (),
        wanted=planning.units_by_feature(decided.timetable, wants=decided.wants),
        usage_at=order.span.starts_at,
        clock=clock,
    )
    planning.recheck(decided.timetable, wants=decided.wants, at=exchanged.at)
    row.hold_id = exchanged.hold_id
    row.venue = decided.venue
    row.allocations.all().delete()
    booking.set_terms(row, order=order, decided=decided)
    row.save()
    booking.write_allocations(row, decided=decided)
    publishing.publish_step(row, event_type=publishing.MOVED, at=exchanged.at)
    quantities = {want.place.key: want.quantity for want in decided.wants}
    after = noting.described(row, quantities=quantities)
    audit.record_change_step(
        actor=order.actor, what="moved", row=row, at=exchanged.at, before=before, after=after
    )
    return row, exchanged.at


def _refuse_unmovable(row: Booking, *, at: datetime, is_waived: bool) -> None:
    """Refuse what could not be cancelled free: moving it away first would cheat the terms."""
    state = standing.effective_state(row, at=at)
    if state not in Booking.OPEN_STATES or row.captured_at is not None or at >= row.starts_at:
        detail = f"A booking that is {state} and has begun or ended cannot be moved."
        raise subscription_errors.InvalidTransition(detail)
    if standing.leaving(row, at=at).is_late and not is_waived:
        detail = "It can no longer be cancelled free of charge, so it can no longer be moved."
        raise subscription_errors.InvalidTransition(detail)
