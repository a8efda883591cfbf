"""Close a resource or a venue for a time, and give the bookings within it back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from core import clock as clocks
from core import db
from core import errors as core_errors
from core.actors import SYSTEM, Actor
from core.services import audit
from resources import errors, locks, selectors
from resources.models import Booking, Closure, Resource, Venue
from resources.opening import Span
from resources.services import ending
from subscriptions import errors as subscription_errors


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A closure to be made: of one resource by its key, or of the whole venue.

    `cancels_bookings` cancels each booking that it touches, begun and over ones too.
    """

    venue_key: str
    span: Span
    reason: str
    resource_key: str | None = None
    cancels_bookings: bool = False


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A closure made, and the bookings that it cancelled."""

    closure: Closure
    cancelled: Sequence[Booking]


def close(planned: Planned, *, actor: Actor, clock: clocks.Clock) -> Closed:
    """Close for the time; where told so, cancel each booking within it and return its units.

    The closure commits under the resources' lock alone, so that nothing is booked into it from
    then on; each booking is then cancelled free of charge in a transaction of its own. Who played
    until the rain came gets all of his units back, as who would have played later. What a crash
    leaves undone `finish` does.

    :raises NotFound: for a venue or resource that is not there.
    :raises Invalid: for a time that has passed.
    :raises ClosureConflict: where bookings stand within it and it was not told to cancel them.
    """
    closure = _close(planned, actor=actor, clock=clock)
    cancelled = _cancel_affected(closure, clock=clock) if closure.is_pending else []
    return Closed(closure=closure, cancelled=cancelled)


def finish(*, closure_id: UUID, clock: clocks.Clock) -> Sequence[Booking]:
    """Cancel what a closure was told to cancel and has not, after a crash; return the bookings."""
    closure = selectors.list_pending_closures().filter(pk=closure_id).first()
    return [] if closure is None else _cancel_affected(closure, clock=clock)


@db.operation
def _close(planned: Planned, *, actor: Actor, clock: clocks.Clock) -> Closure:
    venue = Venue.objects.filter(key=planned.venue_key).first()
    if venue is None:
        detail = f"There is no venue {planned.venue_key!r}."
        raise core_errors.NotFound(detail)
    resources = find_closed(venue=venue, resource_key=planned.resource_key)
    with db.transaction():
        locks.lock_resources(resource_ids=[each.pk for each in resources])
        at = clock.now()
        if planned.span.ends_at <= at:
            detail = "The closure lies in the past."
            raise core_errors.Invalid.at("/ends_at", code="past", detail=detail)
        if not planned.cancels_bookings:
            _refuse_affected(resources, planned.span, clock=clock)
        closure = Closure.objects.create(
            venue=venue,
            resource=resources[0] if planned.resource_key else None,
            starts_at=planned.span.starts_at,
            ends_at=planned.span.ends_at,
            reason=planned.reason,
            actor=actor.name,
            created_at=at,
            is_pending=planned.cancels_bookings,
        )
        why = replace(actor, reason=actor.reason or planned.reason)
        after = audit.snapshot(closure)
        audit.record_step(actor=why, action="closure.made", row=closure, at=at, after=after)
        return closure


def find_closed(*, venue: Venue, resource_key: str | None) -> list[Resource]:
    """Return what a closure of the venue or of one resource closes.

    :raises NotFound: where the venue has no such resource.
    """
    rows = Resource.objects.filter(venue=venue).order_by("id")
    found = list(rows.filter(key=resource_key) if resource_key else rows)
    if resource_key and not found:
        detail = f"{venue.key} has no resource {resource_key!r}."
        raise core_errors.NotFound(detail)
    return found


def _refuse_affected(resources: Sequence[Resource], span: Span, *, clock: clocks.Clock) -> None:
    affected = selectors.list_affected(
        resource_ids=[each.pk for each in resources], span=span, at=clock.now()
    )
    if affected:
        detail = f"{len(affected)} bookings stand within it; say that they shall be cancelled."
        raise errors.ClosureConflict(detail, facts={"bookings": len(affected)})


def _cancel_affected(closure: Closure, *, clock: clocks.Clock) -> list[Booking]:
    actor = Actor(name=closure.actor, reason=closure.reason)
    cancelled = []
    for row in _affected(closure, clock=clock):
        try:
            cancelled.append(ending.cancel_closed(booking_id=row.pk, actor=actor, clock=clock))
        except subscription_errors.InvalidTransition:
            continue  # it ended by other means in between, or nobody came
    Closure.objects.filter(pk=closure.pk).update(is_pending=False)
    return cancelled


def _affected(closure: Closure, *, clock: clocks.Clock) -> list[Booking]:
    rows = Resource.objects.filter(venue=closure.venue_id)
    if closure.resource_id:
        rows = rows.filter(pk=closure.resource_id)
    return selectors.list_affected(
        resource_ids=list(rows.values_list("pk", flat=True)),
        span=Span(starts_at=closure.starts_at, ends_at=closure.ends_at),
        at=clock.now(),
        states=Booking.CLOSABLE_STATES,
    )


@db.operation
def lift(*, closure_id: UUID, actor: Actor = SYSTEM, clock: clocks.Clock) -> Closure:
    """Open again what a closure closed; what it cancelled stays cancelled. Twice is once.

    :raises NotFound: where there is no such closure.
    """
    with db.transaction():
        closure = Closure.objects.filter(pk=closure_id).select_related("venue").first()
        if closure is None:
            raise core_errors.NotFound("There is no such closure.")
        rows = Resource.objects.filter(venue=closure.venue_id)
        locks.lock_resources(resource_ids=list(rows.values_list("pk", flat=True)))
        if closure.lifted_at is None:
            closure.lifted_at = at = clock.now()
            closure.is_pending = False
            closure.save(update_fields=["lifted_at", "is_pending"])
            audit.record_step(
                actor=actor,
                action="closure.lifted",
                row=closure,
                at=at,
                before={"lifted_at": None},
                after={"lifted_at": clocks.rfc3339(at)},
            )
        return closure
