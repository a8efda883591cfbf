"""Read what decides whether a time can be booked, and what stands in its way."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from core import statements
from core.models import Customer
from resources.models import (
    Allocation,
    Booking,
    Closure,
)
from resources.opening import ONE_DAY, Span
from resources.rules import Own, Policy
from resources.selectors.policies import get_policies
from resources.timetable import Closed, Place, Taken, Timetable

GAP_MAX = ONE_DAY


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is fixed for one customer's look at some resources, read once per operation."""

    customer: Customer
    places: Mapping[int, Place]
    policies: Mapping[int, Policy]


def get_scene(*, customer: Customer, places: Mapping[int, Place], at: datetime) -> Scene:
    """Return the terms that the customer's plans give him, in at most five statements."""
    policies = get_policies(customer=customer, places=places.values(), at=at)
    return Scene(customer=customer, places=places, policies=policies)


def get_timetable(
    scene: Scene,
    *,
    span: Span,
    at: datetime,
    without: UUID | None = None,
    is_policy_waived: bool = False,
) -> Timetable:
    """Return what decides about the scene's resources in the span at the instant.

    Three statements: closures, allocations, the customer's own bookings. Where the caller
    decides, it holds the locks of customer and resources. `without` leaves one booking out, the
    one that is being moved.
    """
    return Timetable(
        at=at,
        places=scene.places,
        taken=_list_taken(scene.places, span=span, at=at, without=without),
        closed=_list_closed(scene.places.values(), span=span),
        policies=scene.policies,
        own=_list_own(scene, span=span, at=at, without=without),
        is_policy_waived=is_policy_waived,
    )


def get_public_timetable(
    places: Mapping[int, Place], *, span: Span, at: datetime, without: UUID | None = None
) -> Timetable:
    """Return what decides about the resources for anybody, in two statements."""
    return Timetable(
        at=at,
        places=places,
        taken=_list_taken(places, span=span, at=at, without=without),
        closed=_list_closed(places.values(), span=span),
        policies={},
        own=(),
        is_policy_waived=True,
    )


def list_lapsed(
    *, customer_id: UUID, places: Collection[int], span: Span, at: datetime
) -> list[UUID]:
    """Return the bookings that waited in vain and still stand in the way as stored.

    Those of the customer keep his units, those of the resources their time.
    """
    return _list_lapsed(
        customer_id=customer_id,
        resource_ids=places,
        before=span.ends_at + GAP_MAX,
        after=span.starts_at,
        at=at,
    )


@statements.compiled
def _list_lapsed(
    *,
    customer_id: UUID,
    resource_ids: Collection[int],
    before: datetime,
    after: datetime,
    at: datetime,
) -> "QuerySet[Booking, UUID]":
    in_the_way = Allocation.objects.filter(
        is_live=True,
        resource_id__in=resource_ids,
        starts_at__lt=before,
        occupied_until__gt=after,
    )
    found = Booking.objects.filter(state=Booking.State.HELD, expires_at__lte=at).filter(
        Q(customer_id=customer_id) | Q(pk__in=in_the_way.values("booking"))
    )
    return found.order_by("due_at", "id").values_list("pk", flat=True)


def _list_taken(
    places: Mapping[int, Place], *, span: Span, at: datetime, without: UUID | None
) -> dict[int, list[Taken]]:
    rows = _list_occupying(
        resource_ids=places,
        before=span.ends_at + GAP_MAX,
        after=span.starts_at,
        at=at,
        without=without,
    )
    taken: dict[int, list[Taken]] = defaultdict(list)
    for resource_id, booking_id, starts_at, occupied_until, quantity in rows:
        occupied = Span(starts_at=starts_at, ends_at=occupied_until)
        taken[resource_id].append(Taken(booking_id=booking_id, span=occupied, quantity=quantity))
    return taken


@statements.compiled
def _list_occupying(
    *,
    resource_ids: Collection[int],
    before: datetime,
    after: datetime,
    at: datetime,
    without: UUID | None,
) -> "QuerySet[Allocation, tuple[int, UUID, datetime, datetime, int]]":
    rows = occupying(at=at).filter(
        resource_id__in=resource_ids, starts_at__lt=before, occupied_until__gt=after
    )
    if without is not None:
        rows = rows.exclude(booking_id=without)
    return rows.values_list("resource_id", "booking_id", "starts_at", "occupied_until", "quantity")


def occupying(*, at: datetime) -> "QuerySet[Allocation]":
    """Return the allocations that occupy at the instant: not those that waited in vain."""
    return Allocation.objects.filter(
        Q(booking__expires_at__isnull=True) | Q(booking__expires_at__gt=at), is_live=True
    )


def list_allocations(
    places: Collection[int], *, span: Span, at: datetime
) -> "QuerySet[Allocation]":
    """Return what is played in the span, with bookings and customers, in order of time."""
    rows = occupying(at=at).filter(
        resource__in=places, starts_at__lt=span.ends_at, ends_at__gt=span.starts_at
    )
    return rows.select_related("booking__customer").order_by("starts_at", "id")


def _list_closed(places: Iterable[Place], *, span: Span) -> dict[int, list[Closed]]:
    known = list(places)
    rows = _list_closures(
        resource_ids=[place.id for place in known],
        venue_ids={place.venue_id for place in known},
        before=span.ends_at,
        after=span.starts_at,
    )
    closed: dict[int, list[Closed]] = defaultdict(list)
    for row in rows:
        each = Closed(span=Span(starts_at=row.starts_at, ends_at=row.ends_at), reason=row.reason)
        for place in known:
            if place.venue_id == row.venue_id and row.resource_id in {None, place.id}:
                closed[place.id].append(each)
    return closed


@statements.compiled
def _list_closures(
    *,
    resource_ids: Collection[int],
    venue_ids: Collection[int],
    before: datetime,
    after: datetime,
) -> "QuerySet[Closure]":
    rows = Closure.objects.filter(
        Q(resource__isnull=True) | Q(resource_id__in=resource_ids),
        venue_id__in=venue_ids,
        lifted_at__isnull=True,
        starts_at__lt=before,
        ends_at__gt=after,
    )
    return rows.order_by("starts_at", "id")


def _list_own(scene: Scene, *, span: Span, at: datetime, without: UUID | None) -> list[Own]:
    found = _list_owned(
        customer_id=scene.customer.pk,
        type_ids={place.terms.id for place in scene.places.values()},
        after=min(at, span.starts_at - ONE_DAY),
        at=at,
        without=without,
    )
    return [
        Own(type_id=type_id, span=Span(starts_at=starts_at, ends_at=ends_at))
        for _, type_id, starts_at, ends_at in found
    ]


@statements.compiled
def _list_owned(
    *,
    customer_id: UUID,
    type_ids: Collection[int],
    after: datetime,
    at: datetime,
    without: UUID | None,
) -> "QuerySet[Allocation, tuple[UUID, int, datetime, datetime]]":
    rows = occupying(at=at).filter(
        booking__customer_id=customer_id,
        booking__ends_at__gt=after,
        resource__type_id__in=type_ids,
    )
    if without is not None:
        rows = rows.exclude(booking_id=without)
    return rows.values_list("booking_id", "resource__type_id", "starts_at", "ends_at").distinct()
