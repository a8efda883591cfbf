"""Read what can be booked, on which terms, and what is booked; nothing here writes or locks."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from uuid import UUID

from django.db.models import F, Prefetch, Q, QuerySet

from core.models import Customer
from metering import derivation
from resources.models import (
    Allocation,
    Booking,
    BookingPolicy,
    Closure,
    OpeningRule,
    Participant,
    PeakWindow,
    Resource,
    WaitlistEntry,
)
from resources.opening import ONE_DAY, Span, WeeklyRule
from resources.rules import Own, Peak, Policy
from resources.timetable import Closed, FeatureName, Place, Taken, Terms, Timetable
from subscriptions import selectors as subscription_selectors

GAP_MAX = ONE_DAY
POLICY_FIELDS = [each.name for each in fields(Policy) if each.name != "peaks"]


def list_resources(*, type_key: str | None = None, venue_key: str | None = None) -> list[Resource]:
    """Return the resources on offer with their types and venues, by venue, type and name."""
    rows = _offered()
    if type_key is not None:
        rows = rows.filter(type__key=type_key)
    if venue_key is not None:
        rows = rows.filter(venue__key=venue_key)
    return list(rows.order_by("venue__key", "type__key", "name", "id"))


def find_places(
    *,
    resource_ids: Collection[int] = (),
    resource_keys: Collection[str] = (),
    type_keys: Collection[str] = (),
) -> dict[int, Place]:
    """Return the resources on offer that are named by id, by key or by type, in two statements."""
    rows = _offered().filter(
        Q(pk__in=resource_ids) | Q(key__in=resource_keys) | Q(type__key__in=type_keys)
    )
    return _places(list(rows.order_by("name", "id")))


def _offered() -> "QuerySet[Resource]":
    return Resource.objects.filter(is_active=True).select_related("venue", "type__feature")


def places_of(rows: Sequence[Resource]) -> dict[int, Place]:
    """Return the resources with their opening hours, in one statement."""
    return _places(rows)


def _places(rows: Sequence[Resource]) -> dict[int, Place]:
    hours = _list_hours(rows)
    return {row.pk: _place(row, hours) for row in rows}


@dataclass(frozen=True, kw_only=True)
class _Hours:
    """Opening rules by venue, and those of resources that have their own."""

    by_venue: Mapping[int, Sequence[WeeklyRule]]
    by_resource: Mapping[int, Sequence[WeeklyRule]]


def _list_hours(rows: Sequence[Resource]) -> _Hours:
    by_venue: dict[int, list[WeeklyRule]] = defaultdict(list)
    by_resource: dict[int, list[WeeklyRule]] = defaultdict(list)
    found = OpeningRule.objects.filter(
        Q(resource__isnull=True) | Q(resource__in=[row.pk for row in rows]),
        venue__in={row.venue_id for row in rows},
    )
    for each in found.order_by("id"):
        rule = WeeklyRule(
            weekday=each.weekday,
            opens_at=each.opens_at,
            closes_at=each.closes_at,
            starts_on=each.starts_on,
            ends_on=each.ends_on,
        )
        if each.resource_id is None:
            by_venue[each.venue_id].append(rule)
        else:
            by_resource[each.resource_id].append(rule)
    return _Hours(by_venue=by_venue, by_resource=by_resource)


def _place(row: Resource, hours: _Hours) -> Place:
    own = hours.by_resource.get(row.pk)
    return Place(
        id=row.pk,
        key=row.key,
        name=row.name,
        kind=row.kind,
        capacity=row.capacity,
        gap_minutes=max(row.buffer_before_minutes, row.buffer_after_minutes),
        venue_id=row.venue_id,
        venue_key=row.venue.key,
        time_zone=row.venue.time_zone,
        currency=row.venue.currency,
        terms=Terms(
            id=row.type_id,
            key=row.type.key,
            unit=row.type.unit,
            minutes_min=row.type.minutes_min,
            minutes_max=row.type.minutes_max,
            grid_minutes=row.type.grid_minutes,
            feature=FeatureName(
                id=row.type.feature_id,
                key=row.type.feature.key,
                plan_group_id=row.type.feature.plan_group_id,
            ),
        ),
        hours=tuple(own or hours.by_venue.get(row.venue_id, ())),
    )


def get_policies(
    *, customer: Customer, places: Collection[Place], at: datetime
) -> dict[int, Policy]:
    """Return the terms of each type under the customer's plans at the instant, by type id.

    A plan without terms of its own has those of the rest; a type without any has the defaults.
    The customer's plans are read only where terms differ by plan.
    """
    terms = {place.terms.id: place.terms for place in places}
    rows = list(
        BookingPolicy.objects.filter(type__in=terms)
        .annotate(plan_key=F("plan__key"))
        .prefetch_related(Prefetch("peaks", PeakWindow.objects.order_by("starts_at", "id")))
    )
    plan_keys: dict[int, str | None] = {}
    if any(row.plan_id is not None for row in rows):
        facts = subscription_selectors.get_customer_facts(customer=customer)
        for type_id, each in terms.items():
            group_id = each.feature.plan_group_id
            version = derivation.in_force(facts, plan_group_id=group_id, at=at).version
            plan_keys[type_id] = version.plan_key if version else None
    found = {(row.type_id, row.plan_key): row for row in rows}
    policies: dict[int, Policy] = {}
    for type_id in terms:
        row = found.get((type_id, plan_keys.get(type_id))) or found.get((type_id, None))
        policies[type_id] = policy_of(row) if row else Policy()
    return policies


def policy_of(row: BookingPolicy) -> Policy:
    """Return the terms of a stored policy and its peak windows."""
    peaks = tuple(
        Peak(
            weekday=each.weekday,
            starts_at=each.starts_at,
            ends_at=each.ends_at,
            rate_percent=each.rate_percent,
            active_max=each.active_max,
        )
        for each in row.peaks.all()
    )
    return replace(Policy(**{name: getattr(row, name) for name in POLICY_FIELDS}), peaks=peaks)


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
    in_the_way = Allocation.objects.filter(
        is_live=True,
        resource__in=places,
        starts_at__lt=span.ends_at + GAP_MAX,
        occupied_until__gt=span.starts_at,
    )
    found = Booking.objects.filter(state=Booking.State.HELD, expires_at__lte=at).filter(
        Q(customer=customer_id) | Q(pk__in=in_the_way.values("booking"))
    )
    return list(found.order_by("due_at", "id").values_list("pk", flat=True))


def _list_taken(
    places: Mapping[int, Place], *, span: Span, at: datetime, without: UUID | None
) -> dict[int, list[Taken]]:
    rows = occupying(at=at).filter(
        resource__in=places,
        starts_at__lt=span.ends_at + GAP_MAX,
        occupied_until__gt=span.starts_at,
    )
    if without is not None:
        rows = rows.exclude(booking=without)
    taken: dict[int, list[Taken]] = defaultdict(list)
    columns = ("resource_id", "booking_id", "starts_at", "occupied_until", "quantity")
    for resource_id, booking_id, starts_at, occupied_until, quantity in rows.values_list(*columns):
        occupied = Span(starts_at=starts_at, ends_at=occupied_until)
        taken[resource_id].append(Taken(booking_id=booking_id, span=occupied, quantity=quantity))
    return taken


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
    rows = Closure.objects.filter(
        Q(resource__isnull=True) | Q(resource__in=[place.id for place in known]),
        venue__in={place.venue_id for place in known},
        lifted_at__isnull=True,
        starts_at__lt=span.ends_at,
        ends_at__gt=span.starts_at,
    )
    closed: dict[int, list[Closed]] = defaultdict(list)
    for row in rows.order_by("starts_at", "id"):
        each = Closed(span=Span(starts_at=row.starts_at, ends_at=row.ends_at), reason=row.reason)
        for place in known:
            if place.venue_id == row.venue_id and row.resource_id in {None, place.id}:
                closed[place.id].append(each)
    return closed


def _list_own(scene: Scene, *, span: Span, at: datetime, without: UUID | None) -> list[Own]:
    rows = occupying(at=at).filter(
        booking__customer=scene.customer,
        booking__ends_at__gt=min(at, span.starts_at - ONE_DAY),
        resource__type__in={place.terms.id for place in scene.places.values()},
    )
    if without is not None:
        rows = rows.exclude(booking=without)
    found = rows.values_list("booking_id", "resource__type_id", "starts_at", "ends_at").distinct()
    return [
        Own(type_id=type_id, span=Span(starts_at=starts_at, ends_at=ends_at))
        for _, type_id, starts_at, ends_at in found
    ]


def list_bookings(*, customer: Customer) -> "QuerySet[Booking]":
    """Return the customer's bookings with all that is shown of them."""
    return shown(Booking.objects.filter(customer=customer))


SHOWN = (
    Prefetch(
        "allocations", Allocation.objects.select_related("resource", "feature").order_by("id")
    ),
    Prefetch("participants", Participant.objects.order_by("id")),
)


def shown(bookings: "QuerySet[Booking]") -> "QuerySet[Booking]":
    """Add what is shown of a booking, in a constant number of statements."""
    return bookings.select_related("venue", "customer").prefetch_related(*SHOWN)


def list_waitlist(*, customer: Customer) -> "QuerySet[WaitlistEntry]":
    """Return the customer's places in waiting lists."""
    return WaitlistEntry.objects.filter(customer=customer).select_related(
        "type", "venue", "resource"
    )


def list_due(*, at: datetime) -> "QuerySet[Booking]":
    """Return the bookings that the clock has moved, oldest first; test clocks are passed by."""
    return Booking.objects.due(at=at).filter(customer__test_clock_at__isnull=True)


def list_pending_closures() -> "QuerySet[Closure]":
    """Return the closures that still have bookings to cancel, oldest first."""
    return Closure.objects.filter(is_pending=True).order_by("id")


def list_affected(
    *,
    resource_ids: Iterable[int],
    span: Span,
    at: datetime,
    states: Collection[str] = Booking.OPEN_STATES,
) -> list[Booking]:
    """Return the bookings of the resources that the span touches, oldest first.

    Those that are open as stored, or in the states that are named.
    """
    rows = occupying(at=at).filter(
        resource__in=resource_ids,
        booking__state__in=states,
        starts_at__lt=span.ends_at,
        ends_at__gt=span.starts_at,
    )
    found = Booking.objects.filter(pk__in=rows.values("booking")).select_related("customer")
    return list(found.order_by("starts_at", "id"))
