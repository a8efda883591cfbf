"""Book week after week at one wall time: all occurrences, or those that can be had.

Each occurrence is decided in a transaction of its own, for each may be paid by another usage
period. They are only held at first, and confirmed together in one commit: a crash in between
leaves held bookings that lapse by themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from uuid import UUID

from core import clock as clocks
from core import db
from core import errors as core_errors
from core.errors import Category, DomainError
from core.services import audit, idempotency
from core.services.idempotency import KeyedRequest, Recorded
from metering.services import denials, owned_holds
from resources import opening
from resources.models import Booking, BookingSeries
from resources.opening import Span
from resources.services import booking, ending, planning, settling, turns
from resources.services.planning import Order
from resources.timetable import Place

CREATED = 201
OCCURRENCES_MAX = 52
INTERVAL_WEEKS_MAX = 4
HELD_SECONDS = 300
WALL_TIME_MISSING = "wall_time_missing"
SKIPPABLE = {Category.CONFLICT, Category.UNPROCESSABLE, Category.DENIED}


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """An order repeated every so many weeks (1 … 4), so many times (2 … 52), its first included.

    `skips_conflicts` books what can be had; else one refusal refuses all.
    """

    order: Order
    occurrences: int
    interval_weeks: int = 1
    skips_conflicts: bool = False


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A local day without a booking, and the code of why."""

    day: date
    code: str


@dataclass(kw_only=True)
class Booked:
    """What a series came to."""

    row: BookingSeries
    booking_ids: list[UUID] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


Render = Callable[[Booked, datetime], Mapping[str, object]]


def book_series(
    repetition: Repetition, *, keyed: KeyedRequest, render: Render, clock: clocks.Clock
) -> Recorded:
    """Book every occurrence at the first's wall time, once under the key.

    A day whose clocks leave the wall time out is reported and nothing is shifted; of a time that
    occurs twice the first counts.

    :raises DomainError: as booking does, naming the day; with `skips_conflicts` only where
        nothing could be booked at all. Nothing stays booked.
    :raises IdempotencyInProgress: while the key's first request runs, or until what a crash left
        of it has lapsed.
    """

    def run() -> Recorded:
        places = planning.find_candidates(repetition.order)
        booked = Booked(row=_begin(repetition, keyed=keyed, clock=clock))
        try:
            _hold_all(repetition, places, booked, clock=clock)
            return _confirm_all(repetition, booked, keyed=keyed, render=render, clock=clock)
        except DomainError:
            _release(booked, clock=clock)
            raise

    return denials.once(
        customer_id=repetition.order.customer_id,
        keyed=keyed,
        request_id=repetition.order.actor.request_id,
        run=run,
        clock=clock,
    )


@db.operation
def _begin(repetition: Repetition, *, keyed: KeyedRequest, clock: clocks.Clock) -> BookingSeries:
    """Write that the request runs; a twin that finds it waits until it ends or lapses."""
    customer_id = repetition.order.customer_id
    with turns.of(customer_id=customer_id), db.transaction():
        customer = owned_holds.lock_customer_step(customer_id=customer_id)
        at = clocks.customer_clock(customer, clock=clock).now()
        row = BookingSeries.objects.filter(customer=customer_id, key=keyed.key).first()
        if row is None:
            return BookingSeries.objects.create(
                customer_id=customer_id,
                key=keyed.key,
                first_starts_at=repetition.order.span.starts_at,
                interval_weeks=repetition.interval_weeks,
                occurrences=repetition.occurrences,
                created_at=at,
            )
        if row.confirmed_at is not None or at < row.created_at + _seconds(HELD_SECONDS):
            detail = "The first request with this key is still running; try again."
            raise core_errors.IdempotencyInProgress(detail)
        row.first_starts_at = repetition.order.span.starts_at
        row.interval_weeks = repetition.interval_weeks
        row.occurrences = repetition.occurrences
        row.created_at = at
        row.save()
        return row


def _hold_all(
    repetition: Repetition,
    places: Mapping[int, Place],
    booked: Booked,
    *,
    clock: clocks.Clock,
) -> None:
    first_refusal: DomainError | None = None
    for starts in _starts(repetition, places):
        if not isinstance(starts, datetime):
            booked.skipped.append(Skipped(day=starts, code=WALL_TIME_MISSING))
            continue
        order = _occurrence(repetition.order, starts_at=starts)
        try:
            booked.booking_ids.append(_hold(order, places, booked.row, clock=clock))
        except DomainError as refusal:
            if not repetition.skips_conflicts or refusal.category not in SKIPPABLE:
                raise
            first_refusal = first_refusal or refusal
            booked.skipped.append(Skipped(day=_day(starts, places), code=refusal.code))
    if not booked.booking_ids and first_refusal is not None:
        raise first_refusal


def _starts(repetition: Repetition, places: Mapping[int, Place]) -> Sequence[datetime | date]:
    return opening.weekly_starts(
        first=repetition.order.span.starts_at,
        time_zone=_time_zone(places),
        interval_weeks=repetition.interval_weeks,
        occurrences=repetition.occurrences,
    )


def _time_zone(places: Mapping[int, Place]) -> str:
    return next(iter(places.values())).time_zone


def _day(at: datetime, places: Mapping[int, Place]) -> date:
    return opening.local_day(at, time_zone=_time_zone(places))


def _occurrence(order: Order, *, starts_at: datetime) -> Order:
    duration = order.span.ends_at - order.span.starts_at
    span = Span(starts_at=starts_at, ends_at=starts_at + duration)
    return replace(order, span=span, held_seconds=HELD_SECONDS)


@db.operation
def _hold(
    order: Order, places: Mapping[int, Place], row: BookingSeries, *, clock: clocks.Clock
) -> UUID:
    def attempt() -> UUID:
        with db.transaction():
            return booking.book_step(order, places=places, clock=clock, series=row).row.pk

    with turns.of(customer_id=order.customer_id, resource_ids=list(places)):
        planning.precheck(order, places=places, clock=clock)
        return booking.clearing(attempt=attempt, clock=clock)


@db.operation
def _confirm_all(
    repetition: Repetition,
    booked: Booked,
    *,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Confirm every held occurrence in one commit, with the claim of the key."""
    customer_id = repetition.order.customer_id
    with turns.of(customer_id=customer_id), db.transaction():
        customer = owned_holds.lock_customer_step(customer_id=customer_id)
        at = clocks.customer_clock(customer, clock=clock).now()
        rows = Booking.objects.filter(pk__in=booked.booking_ids).select_related("venue")
        for row in rows.order_by("starts_at", "id"):
            ending.confirm_held_step(row, at=at)
        booked.row.confirmed_at = at
        booked.row.save(update_fields=["confirmed_at"])
        bookings = [str(each) for each in booked.booking_ids]
        audit.record_step(
            actor=repetition.order.actor,
            action="booking_series.booked",
            row=booked.row,
            at=at,
            after={**audit.snapshot(booked.row), "bookings": bookings},
        )
        return idempotency.claim_step(
            customer_id=customer_id,
            keyed=keyed,
            status=CREATED,
            body=render(booked, at),
            at=at,
        )


def _release(booked: Booked, *, clock: clocks.Clock) -> None:
    """Give back what was held, and let the key be tried again at once."""
    for booking_id in booked.booking_ids:
        settling.release(booking_id=booking_id, clock=clock)
    with db.transaction():
        lapsed = clock.now() - _seconds(HELD_SECONDS)
        BookingSeries.objects.filter(pk=booked.row.pk, confirmed_at__isnull=True).update(
            created_at=lapsed
        )


def _seconds(seconds: int) -> timedelta:
    return timedelta(seconds=seconds)
