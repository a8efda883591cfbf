"""Judge whether a resource can be booked for a time: pure, over what a selector has read.

Availability, the pre-check and the check under the locks all ask here, so that they agree. The
order of the rules decides which reason is named where several refuse: first what is so for
everybody, then what the customer's policy says, and his units last. So the pre-check, which knows
no customer, names what the decision would.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from core import clock as clocks
from core.errors import DomainError
from resources import errors, opening, rules
from resources.models import Resource
from resources.opening import ONE_DAY, Span, WeeklyRule
from resources.rules import Asked, Own, Policy


@dataclass(frozen=True, kw_only=True)
class FeatureName:
    """The metered feature that pays, and the plan group that grants it."""

    id: int
    key: str
    plan_group_id: int | None


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a type says of all its resources."""

    id: int
    key: str
    unit: str
    minutes_min: int
    minutes_max: int
    grid_minutes: int
    feature: FeatureName


@dataclass(frozen=True, kw_only=True)
class Place:
    """One resource with all that is fixed about it."""

    id: int
    key: str
    name: str
    kind: str
    capacity: int
    gap_minutes: int
    venue_id: int
    venue_key: str
    time_zone: str
    currency: str
    terms: Terms
    hours: tuple[WeeklyRule, ...]

    @property
    def is_exclusive(self) -> bool:
        """Tell whether one booking takes all of it."""
        return self.kind == Resource.Kind.EXCLUSIVE

    def occupied(self, span: Span) -> Span:
        """Return the span with the gap that must follow it."""
        gap = timedelta(minutes=self.gap_minutes)
        return Span(starts_at=span.starts_at, ends_at=span.ends_at + gap)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Places of one resource that a booking occupies, its gap included."""

    booking_id: object
    span: Span
    quantity: int


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A closure and the reason that it gives."""

    span: Span
    reason: str


@dataclass(frozen=True, kw_only=True)
class Want:
    """So many places of one resource for a time, and the guests who come along."""

    place: Place
    span: Span
    quantity: int = 1
    guests: int = 0


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """Everything that decides about some resources at an instant, but the customer's units.

    `taken` and `closed` are by resource id; `policies` and `own` are the customer's.
    """

    at: datetime
    places: Mapping[int, Place]
    taken: Mapping[int, Sequence[Taken]]
    closed: Mapping[int, Sequence[Closed]]
    policies: Mapping[int, Policy]
    own: Collection[Own]
    is_policy_waived: bool = False
    _opened: dict[tuple[int, object], list[Span]] = field(default_factory=dict)

    def refuse(self, want: Want) -> DomainError | None:
        """Return why the resource cannot be booked so; None where it can, units aside."""
        return (
            self.refuse_shape(want)
            or self._refuse_closed(want)
            or self._refuse_taken(want)
            or self._refuse_policy(want)
        )

    def refuse_shape(self, want: Want) -> DomainError | None:
        """Return what is wrong with the wish whatever else is booked."""
        return (
            _refuse_past(want, self.at)
            or _refuse_grid(want)
            or _refuse_duration(want)
            or _refuse_quantity(want)
            or self._refuse_hours(want)
        )

    def cost_units(self, want: Want) -> int:
        """Return the units that the wish takes."""
        return rules.cost_units(
            self.policies[want.place.terms.id],
            unit=want.place.terms.unit,
            span=want.span,
            time_zone=want.place.time_zone,
            quantity=want.quantity,
        )

    def open_spans(self, place: Place, *, span: Span) -> list[Span]:
        """Return when the resource opens around the span, without closures."""
        first_day = opening.local_day(span.starts_at, time_zone=place.time_zone) - ONE_DAY
        last_day = opening.local_day(span.ends_at, time_zone=place.time_zone)
        key = (place.id, (first_day, last_day))
        if key not in self._opened:
            self._opened[key] = opening.open_spans(
                place.hours,
                time_zone=place.time_zone,
                first_day=first_day,
                days=(last_day - first_day).days + 1,
            )
        return self._opened[key]

    def _refuse_hours(self, want: Want) -> DomainError | None:
        place = want.place
        if any(each.contains(want.span) for each in self.open_spans(place, span=want.span)):
            return None
        detail = f"{place.key} is not open from {_spoken(want.span)}."
        return errors.OutsideOpeningHours(detail, facts={"resource": place.key})

    def _refuse_closed(self, want: Want) -> DomainError | None:
        for each in self.closed.get(want.place.id, ()):
            if each.span.overlaps(want.span):
                detail = f"{want.place.key} is closed: {each.reason}."
                facts = {"resource": want.place.key, "reason": each.reason}
                return errors.ResourceClosed(detail, facts=facts)
        return None

    def _refuse_taken(self, want: Want) -> DomainError | None:
        occupied = want.place.occupied(want.span)
        peak = peak_quantity(self.taken.get(want.place.id, ()), within=occupied)
        if peak + want.quantity <= want.place.capacity:
            return None
        detail = f"{want.place.key} is not free from {_spoken(want.span)}."
        facts = {"resource": want.place.key, "alternatives": []}
        return errors.SlotTaken(detail, facts=facts)

    def _refuse_policy(self, want: Want) -> DomainError | None:
        if self.is_policy_waived:
            return None
        asked = Asked(
            type_id=want.place.terms.id,
            span=want.span,
            time_zone=want.place.time_zone,
            guests=want.guests,
        )
        policy = self.policies[want.place.terms.id]
        return rules.refuse_by_policy(policy, asked=asked, own=self.own, at=self.at)


def peak_quantity(taken: Collection[Taken], *, within: Span) -> int:
    """Return the most places that are occupied at one instant of the span."""
    inside = [each for each in taken if each.span.overlaps(within)]
    instants = {max(each.span.starts_at, within.starts_at) for each in inside}
    return max(
        (
            sum(
                each.quantity
                for each in inside
                if each.span.starts_at <= instant < each.span.ends_at
            )
            for instant in instants
        ),
        default=0,
    )


def _refuse_past(want: Want, at: datetime) -> DomainError | None:
    if want.span.starts_at >= at:
        return None
    detail = f"{clocks.rfc3339(want.span.starts_at)} has passed."
    return errors.BookingTooSoon(detail, facts={"earliest_at": clocks.rfc3339(at)})


def _refuse_grid(want: Want) -> DomainError | None:
    terms = want.place.terms
    if opening.is_on_grid(
        want.span.starts_at, time_zone=want.place.time_zone, grid_minutes=terms.grid_minutes
    ):
        return None
    detail = f"A {terms.key} starts every {terms.grid_minutes} minutes, counted from midnight."
    return errors.OffGrid(detail, facts={"grid_minutes": terms.grid_minutes})


def _refuse_duration(want: Want) -> DomainError | None:
    terms, minutes = want.place.terms, want.span.minutes
    allowed = terms.minutes_min <= minutes <= terms.minutes_max
    if allowed and minutes % terms.grid_minutes == 0:
        return None
    detail = (
        f"A {terms.key} is booked for {terms.minutes_min} to {terms.minutes_max} minutes, "
        f"in steps of {terms.grid_minutes}."
    )
    facts = {
        "minutes_min": terms.minutes_min,
        "minutes_max": terms.minutes_max,
        "grid_minutes": terms.grid_minutes,
    }
    return errors.DurationNotAllowed(detail, facts=facts)


def _refuse_quantity(want: Want) -> DomainError | None:
    if want.quantity <= want.place.capacity:
        return None
    detail = f"{want.place.key} has {want.place.capacity} places, {want.quantity} were asked for."
    facts = {
        "resource": want.place.key,
        "requested": want.quantity,
        "capacity": want.place.capacity,
    }
    return errors.CapacityExceeded(detail, facts=facts)


def _spoken(span: Span) -> str:
    return f"{clocks.rfc3339(span.starts_at)} to {clocks.rfc3339(span.ends_at)}"
