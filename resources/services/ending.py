"""Confirm, check in, cancel, and note who stayed away: a booking's moves by hand."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core import db
from core.actors import Actor
from core.services import idempotency
from core.services.idempotency import KeyedRequest, Recorded
from resources import standing
from resources.models import Booking
from resources.services import noting, publishing, settling, turns, waiting
from resources.services.booking import Render
from resources.standing import Leaving
from subscriptions import errors as subscription_errors

OK = 200
State = Booking.State
Move = Callable[[Booking], datetime]


def confirm(
    *, row: Booking, actor: Actor, keyed: KeyedRequest, render: Render, clock: clocks.Clock
) -> Recorded:
    """Confirm a booking that is held; one that is confirmed stays as it is.

    :raises InvalidTransition: where it has lapsed or ended.
    """
    return _keyed(
        row=row,
        move=lambda locked: confirm_step(locked, actor=actor, clock=clock),
        keyed=keyed,
        render=render,
        clock=clock,
    )


def confirm_step(row: Booking, *, actor: Actor, clock: clocks.Clock) -> datetime:
    """Confirm the booking and charge its guests; the caller holds the locks."""
    at = clocks.customer_clock(row.customer, clock=clock).now()
    if row.state != State.CONFIRMED:
        before = noting.standing_of(row)
        confirm_held_step(row, at=at)
        noting.note_step(row, what="confirmed", actor=actor, at=at, before=before)
    return at


def confirm_held_step(row: Booking, *, at: datetime) -> None:
    """Confirm a held booking at the instant; the caller holds the customer's lock.

    :raises InvalidTransition: where it has lapsed or ended.
    """
    if standing.effective_state(row, at=at) != State.HELD:
        raise _not_now(row, "confirmed", at=at)
    settling.move_step(row, state=State.CONFIRMED, at=at)
    guests = sum(each.is_guest for each in row.participants.all())
    publishing.publish_step(
        row,
        event_type=publishing.CONFIRMED,
        at=at,
        fee_minor=row.guest_fee_minor * guests,
        guests=guests,
    )


def cancel(
    *,
    row: Booking,
    actor: Actor,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
    is_free: bool = False,
) -> Recorded:
    """Give the booking up: in time its units return, late they are captured by its terms.

    One that is cancelled stays so and costs nothing more. Whoever waits is offered the time.
    `is_free` returns all units and waives the fee.

    :raises InvalidTransition: where it has begun or ended.
    """
    recorded = _keyed(
        row=row,
        move=lambda locked: cancel_step(locked, actor=actor, clock=clock, is_free=is_free),
        keyed=keyed,
        render=render,
        clock=clock,
    )
    if not recorded.replayed:
        waiting.offer_freed(row=row, clock=clock)
    return recorded


@db.operation
def confirm_by_staff(*, booking_id: UUID, actor: Actor, clock: clocks.Clock) -> Booking:
    """Confirm without a key, as the admin does; twice is once.

    :raises InvalidTransition: where it has lapsed or ended.
    """
    with db.transaction():
        row = settling.lock_step(booking_id=booking_id, clock=clock)
        confirm_step(row, actor=actor, clock=clock)
        return row


@db.operation
def check_in_by_staff(*, booking_id: UUID, actor: Actor, clock: clocks.Clock) -> Booking:
    """Check in without a key, as the admin does; twice is once.

    :raises InvalidTransition: earlier than an hour before the start, or after the end.
    """
    with db.transaction():
        row = settling.lock_step(booking_id=booking_id, clock=clock)
        check_in_step(row, actor=actor, clock=clock)
        return row


@db.operation
def cancel_by_staff(
    *, booking_id: UUID, actor: Actor, clock: clocks.Clock, is_free: bool
) -> Booking:
    """Cancel without a key, as the admin does; twice is once.

    :raises InvalidTransition: where the booking has begun or ended.
    """
    with db.transaction():
        row = settling.lock_step(booking_id=booking_id, clock=clock)
        cancel_step(row, actor=actor, clock=clock, is_free=is_free)
    waiting.offer_freed(row=row, clock=clock)
    return row


@db.operation
def cancel_closed(*, booking_id: UUID, actor: Actor, clock: clocks.Clock) -> Booking:
    """Cancel a booking over which a closure stands; twice is once.

    All of its units return and no fee is due, also where it has begun or is over: what was
    captured is reversed.

    :raises InvalidTransition: where it was given up, has lapsed, or nobody came.
    """
    with db.transaction():
        row = settling.lock_step(booking_id=booking_id, clock=clock)
        if row.state == State.CANCELLED:
            return row
        clock = clocks.customer_clock(row.customer, clock=clock)
        asked_at = clock.now()
        if standing.effective_state(row, at=asked_at) not in Booking.CLOSABLE_STATES:
            raise _not_now(row, "cancelled", at=asked_at)
        before = noting.standing_of(row)
        at = settling.return_units_step(row, clock=clock)
        row.reason = actor.reason
        settling.move_step(row, state=State.CANCELLED, at=at)
        publishing.publish_step(row, event_type=publishing.CANCELLED, at=at)
        noting.note_step(row, what="cancelled", actor=actor, at=at, before=before)
    waiting.offer_freed(row=row, clock=clock)
    return row


def cancel_step(row: Booking, *, actor: Actor, clock: clocks.Clock, is_free: bool) -> datetime:
    """Cancel under the locks of customer and resources, and tell the instant."""
    clock = clocks.customer_clock(row.customer, clock=clock)
    asked_at = clock.now()
    if row.state == State.CANCELLED:
        return asked_at
    terms = terms_of_leaving(row, at=asked_at, is_free=is_free)
    before = noting.standing_of(row)
    at = settling.end_hold_step(row, percent=terms.percent, clock=clock)
    row.reason = actor.reason
    if terms.percent:
        row.captured_at = at
    settling.move_step(row, state=State.CANCELLED, at=at)
    publishing.publish_step(row, event_type=publishing.CANCELLED, at=at, fee_minor=terms.fee_minor)
    noting.note_step(row, what="cancelled", actor=actor, at=at, before=before)
    return at


def terms_of_leaving(row: Booking, *, at: datetime, is_free: bool = False) -> Leaving:
    """Return what a cancellation at the instant would mean; preview and execution ask here.

    :raises InvalidTransition: where the booking has begun or ended.
    """
    state = standing.effective_state(row, at=at)
    has_begun = at >= row.starts_at or row.captured_at is not None
    if state not in Booking.OPEN_STATES or has_begun:
        raise _not_now(row, "cancelled", at=at)
    return standing.leaving(row, at=at, is_free=is_free)


def check_in(
    *, row: Booking, actor: Actor, keyed: KeyedRequest, render: Render, clock: clocks.Clock
) -> Recorded:
    """Note that the customer has come: the units are captured. Twice is once.

    :raises InvalidTransition: earlier than an hour before the start, or after the end.
    """
    return _keyed(
        row=row,
        move=lambda locked: check_in_step(locked, actor=actor, clock=clock),
        keyed=keyed,
        render=render,
        clock=clock,
    )


def check_in_step(row: Booking, *, actor: Actor, clock: clocks.Clock) -> datetime:
    """Check the booking in under the locks, and tell the instant."""
    clock = clocks.customer_clock(row.customer, clock=clock)
    asked_at = clock.now()
    if row.checked_in_at is not None:
        return asked_at
    if not standing.can_check_in(row, at=asked_at):
        raise _not_now(row, "checked in", at=asked_at)
    before = noting.standing_of(row)
    at = settling.end_hold_step(row, percent=standing.ALL_PERCENT, clock=clock)
    row.checked_in_at, row.captured_at = at, row.captured_at or at
    settling.move_step(row, state=State.CONFIRMED, at=at)
    publishing.publish_step(row, event_type=publishing.STARTED, at=at)
    noting.note_step(row, what="checked_in", actor=actor, at=at, before=before)
    return at


@db.operation
def mark_no_show(*, booking_id: UUID, actor: Actor, clock: clocks.Clock) -> Booking:
    """Note that nobody came: by its terms units are captured and a fee is due. Twice is once.

    Units that the start has captured stay captured.

    :raises InvalidTransition: before the start, after a check-in, or where it has ended otherwise.
    """
    with db.transaction():
        row = settling.lock_step(booking_id=booking_id, clock=clock)
        clock = clocks.customer_clock(row.customer, clock=clock)
        asked_at = clock.now()
        if row.state == State.NO_SHOW:
            return row
        has_come = row.checked_in_at is not None
        if row.state != State.CONFIRMED or asked_at < row.starts_at or has_come:
            raise _not_now(row, "marked as not come", at=asked_at)
        due = standing.no_show(row, ended_at=asked_at)
        before = noting.standing_of(row)
        at = settling.end_hold_step(row, percent=due.percent, clock=clock)
        row.reason = actor.reason
        settling.move_step(row, state=State.NO_SHOW, at=at)
        publishing.publish_step(row, event_type=publishing.NO_SHOW, at=at, fee_minor=due.fee_minor)
        noting.note_step(row, what="no_show", actor=actor, at=at, before=before)
        return row


def _keyed(
    *, row: Booking, move: Move, keyed: KeyedRequest, render: Render, clock: clocks.Clock
) -> Recorded:
    """Move the booking once under the key, and record the rendered answer."""

    @db.operation
    def run() -> Recorded:
        with turns.of(customer_id=row.customer_id), db.transaction():
            locked = settling.lock_step(booking_id=row.pk, clock=clock)
            at = move(locked)
            return idempotency.claim_step(
                customer_id=row.customer_id,
                keyed=keyed,
                status=OK,
                body=render(locked, at),
                at=at,
            )

    return idempotency.once(customer_id=row.customer_id, keyed=keyed, run=run)


def _not_now(row: Booking, what: str, *, at: datetime) -> subscription_errors.InvalidTransition:
    state = standing.effective_state(row, at=at)
    begun = " and has begun" if state == State.CONFIRMED and at >= row.starts_at else ""
    detail = f"A booking that is {state}{begun} cannot be {what}."
    return subscription_errors.InvalidTransition(detail)
