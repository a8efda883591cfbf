"""Turn an order into what it wants of which resources: before the locks, and again under them."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core import errors as core_errors
from core.actors import Actor
from core.errors import DomainError
from metering.services.drawing import Wanted
from resources import errors, selectors
from resources.opening import Span
from resources.timetable import Place, Timetable, Want

WISHES_MAX = 10
ATTENDEES_MAX = 50


@dataclass(frozen=True, kw_only=True)
class Wish:
    """So many places of a resource by its key, or of any one of a type; 1 or more."""

    resource_key: str | None = None
    type_key: str | None = None
    quantity: int = 1


@dataclass(frozen=True, kw_only=True)
class Attendee:
    """Somebody who takes part."""

    name: str
    is_guest: bool = False


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be booked: 1 … 10 wishes for one time, all or nothing.

    With `held_seconds` the slot is only held, to be confirmed in that time. `is_policy_waived`
    lets staff book beyond the plan's policy; opening hours, capacity and units still decide.
    """

    customer_id: UUID
    span: Span
    wishes: Sequence[Wish]
    actor: Actor
    attendees: Sequence[Attendee] = ()
    venue_key: str | None = None
    held_seconds: int | None = None
    is_policy_waived: bool = False

    @property
    def guests(self) -> int:
        """Return how many guests come along."""
        return sum(each.is_guest for each in self.attendees)


def find_candidates(order: Order) -> Mapping[int, Place]:
    """Return every resource that the order may mean, all of one venue, in two statements.

    :raises NotFound: for a key that names nothing on offer.
    :raises Invalid: where the order means several venues, or one resource twice.
    """
    resource_keys = [each.resource_key for each in order.wishes if each.resource_key]
    type_keys = [each.type_key for each in order.wishes if each.type_key]
    places = selectors.find_places(resource_keys=resource_keys, type_keys=type_keys)
    _refuse_unknown(places.values(), resource_keys=resource_keys, type_keys=type_keys)
    named = {place.venue_id for place in places.values() if place.key in resource_keys}
    if order.venue_key is not None:
        named |= {each.venue_id for each in places.values() if each.venue_key == order.venue_key}
    venues = named or {place.venue_id for place in places.values()}
    if len(venues) > 1:
        detail = "One booking is of one venue: name it."
        raise core_errors.Invalid.at("/venue", code="ambiguous", detail=detail)
    kept = {key: place for key, place in places.items() if place.venue_id in venues}
    _refuse_unknown(kept.values(), resource_keys=resource_keys, type_keys=type_keys)
    if order.venue_key not in {None, *(place.venue_key for place in kept.values())}:
        detail = f"Nothing of it stands in {order.venue_key!r}."
        raise core_errors.Invalid.at("/venue", code="other_venue", detail=detail)
    return kept


def _refuse_unknown(
    places: Collection[Place], *, resource_keys: Sequence[str], type_keys: Sequence[str]
) -> None:
    repeated = [key for key, count in Counter(resource_keys).items() if count > 1]
    if repeated:
        detail = f"{repeated[0]} stands twice; ask for a quantity."
        raise core_errors.Invalid.at("/allocations", code="repeated", detail=detail)
    missing = set(resource_keys) - {place.key for place in places}
    missing |= set(type_keys) - {place.terms.key for place in places}
    if missing:
        detail = f"No {min(missing)} is on offer here."
        raise core_errors.NotFound(detail)


def choose(timetable: Timetable, *, order: Order) -> list[Want]:
    """Return one resource for each wish: the first of its type that can be booked.

    :raises DomainError: why a wish cannot be met.
    """
    wants: list[Want] = []
    for wish in order.wishes:
        chosen = {want.place.id for want in wants}
        wants.append(_choose_one(timetable, order, wish, chosen=chosen))
    return wants


def _choose_one(timetable: Timetable, order: Order, wish: Wish, *, chosen: Collection[int]) -> Want:
    refusals: list[DomainError] = []
    for place in timetable.places.values():
        if place.id in chosen or not _is_meant(place, wish):
            continue
        want = Want(place=place, span=order.span, quantity=wish.quantity, guests=order.guests)
        refusal = timetable.refuse(want)
        if refusal is None:
            return want
        refusals.append(refusal)
    raise _telling(refusals, wish)


def _is_meant(place: Place, wish: Wish) -> bool:
    if wish.resource_key is not None:
        return place.key == wish.resource_key
    return place.terms.key == wish.type_key


def _telling(refusals: Sequence[DomainError], wish: Wish) -> DomainError:
    """Return the refusal that helps most: a taken slot, for that may be free elsewhere."""
    for refusal in refusals:
        if isinstance(refusal, errors.SlotTaken):
            return refusal
    if refusals:
        return refusals[0]
    detail = f"There are not so many of {wish.type_key or wish.resource_key}."
    return core_errors.Invalid.at("/allocations", code="too_many", detail=detail)


def precheck(order: Order, *, places: Mapping[int, Place], clock: clocks.Clock) -> None:
    """Refuse without a lock what the locks would only refuse later: it never allows.

    :raises DomainError: for a wish that cannot be met whatever the customer's policy says.
    """
    timetable = selectors.get_public_timetable(places, span=order.span, at=clock.now())
    choose(timetable, order=order)


def units_by_feature(timetable: Timetable, *, wants: Sequence[Want]) -> list[Wanted]:
    """Return what the wants take, summed by feature, by its key."""
    summed: Counter[str] = Counter()
    for want in wants:
        summed[want.place.terms.feature.key] += timetable.cost_units(want)
    return [Wanted(feature_key=key, units=summed[key]) for key in sorted(summed)]


def recheck(timetable: Timetable, *, wants: Sequence[Want], at: datetime) -> None:
    """Refuse what has become too late while the last locks were waited for.

    :raises DomainError: as choosing does.
    """
    if at == timetable.at:
        return
    later = replace(timetable, at=at)
    for want in wants:
        refusal = later.refuse(want)
        if refusal is not None:
            raise refusal
