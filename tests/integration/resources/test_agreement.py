"""Availability never offers what an immediate booking refuses, and refuses with the same code."""

import os
from dataclasses import replace
from datetime import date, time, timedelta
from itertools import combinations, count

import pytest
from django.conf import settings as engine_settings
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.actors import Actor
from core.errors import DomainError
from core.models import Customer
from core.services.idempotency import KeyedRequest
from metering.errors import UsageDenied
from resources.models import Booking, Closure, Resource, ResourceType, Venue
from resources.opening import Span
from resources.services import availability, booking, ending, planning
from subscriptions.services import actions
from tests import club, factories

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]
ACTOR = Actor(name="test")
LIMIT = 300
EXAMPLES = int(os.environ.get("AGREEMENT_EXAMPLES", "6"))
_numbers = count(1)
HALF_HOURS = st.integers(min_value=0, max_value=12)
STANDINGS = ("served", "served", "paused", "without the feature", "leaving")
# In this usage period, at its end, and in the next.
DAYS = [date(2026, 3, 11) + timedelta(days=day) for day in (0, 1, 2, 20, 21)]


@pytest.fixture(autouse=True)
def _plan():
    club.make_plan({"court_minutes": LIMIT})
    factories.make_plan("gold", at=club.STARTED, limits={"court_minutes": LIMIT}, rank=1)
    factories.make_plan("mail", at=club.STARTED, limits={"api_calls": 5}, rank=2)


def key() -> KeyedRequest:
    return KeyedRequest(key=f"agree{next(_numbers)}", fingerprint="f")


def book(customer: Customer, wish: planning.Wish, span: Span, *, at, venue_key: str) -> str:
    """Book and return the booking's id, or raise the refusal."""
    answer = booking.book(
        planning.Order(
            customer_id=customer.pk, span=span, wishes=[wish], actor=ACTOR, venue_key=venue_key
        ),
        keyed=key(),
        render=lambda row, _: {"id": str(row.pk)},
        clock=factories.standing(at),
    )
    return str(answer.body["id"])


def try_to_book(customer: Customer, wish: planning.Wish, span: Span, scene: "Club") -> str:
    """Return the code that refuses the booking; where nothing does, book, cancel, and say so."""
    try:
        made = book(customer, wish, span, at=scene.at, venue_key=scene.venue.key)
    except DomainError as refusal:
        return refusal.code
    cancel(made, at=scene.at)
    return ""


def cancel(booking_id: str, *, at) -> None:
    ending.cancel(
        row=Booking.objects.get(pk=booking_id),
        actor=ACTOR,
        keyed=key(),
        render=lambda row, _: {"state": row.state},
        clock=factories.standing(at),
    )


def stand(customer: Customer, *, as_: str, at) -> None:
    """Let the customer's plan give him access, or refuse it in one of its ways."""
    clock = factories.standing(at)
    if as_ == "paused":
        row = factories.subscribe(customer, "gold", at=at)
        actions.pause(subscription_id=row.pk, actor=factories.ACTOR, clock=clock)
    elif as_ == "without the feature":
        factories.subscribe(customer, "mail", at=at)
    elif as_ == "leaving":
        row = factories.subscribe(customer, "gold", at=at - timedelta(days=5))
        actions.cancel_at_period_end(subscription_id=row.pk, actor=factories.ACTOR, clock=clock)


class Club:
    """A small club in a random state at one instant."""

    def __init__(self, data: st.DataObject, at) -> None:
        number = next(_numbers)
        self.at = at
        self.venue: Venue = club.make_venue(
            key=f"club{number}", opens=time(9), closes=time(data.draw(st.integers(11, 15)))
        )
        self.type: ResourceType = club.make_type(
            f"court{number}", minutes_min=30, minutes_max=90, grid_minutes=30
        )
        club.make_policy(
            self.type,
            notice_minutes=data.draw(st.sampled_from([0, 60, 1440])),
            days_ahead=data.draw(st.sampled_from([0, 1, 40])),
            active_max=data.draw(st.sampled_from([None, 1, 3])),
            per_day_max=data.draw(st.sampled_from([None, 1, 2])),
            free_cancel_minutes=0,
        )
        self.courts: list[Resource] = [
            club.make_resource(
                f"court{number}-{each}",
                venue=self.venue,
                type_=self.type,
                capacity=data.draw(st.sampled_from([1, 1, 3])),
                buffer_after_minutes=data.draw(st.sampled_from([0, 15, 30])),
            )
            for each in range(2)
        ]
        self.customers = [club.make_member(), club.make_member()]
        for _ in range(data.draw(st.integers(0, 6))):
            self._book_something(data)
        if data.draw(st.booleans()):
            self._close_something(data)
        used = data.draw(st.sampled_from([0, 0, 200, LIMIT]))
        if used:
            try:
                factories.consume(self.customers[0], used, at=at, feature="court_minutes")
            except UsageDenied:
                used = 0

        stand(self.customers[0], as_=data.draw(st.sampled_from(STANDINGS)), at=at)

    def span(self, data: st.DataObject, minutes: int = 60) -> Span:
        day = data.draw(st.sampled_from(DAYS))
        start = club.local(9, 30 * data.draw(HALF_HOURS), day=day)
        return club.span(start, minutes)

    def _book_something(self, data: st.DataObject) -> None:
        wish = planning.Wish(resource_key=data.draw(st.sampled_from(self.courts)).key)
        try:
            book(
                data.draw(st.sampled_from(self.customers)),
                wish,
                self.span(data),
                at=self.at,
                venue_key=self.venue.key,
            )
        except DomainError:
            return

    def _close_something(self, data: st.DataObject) -> None:
        span = self.span(data, minutes=data.draw(st.sampled_from([60, 3 * 24 * 60])))
        Closure.objects.create(
            venue=self.venue,
            resource=data.draw(st.sampled_from([None, *self.courts])),
            starts_at=span.starts_at,
            ends_at=span.ends_at,
            reason="rain",
            created_at=self.at,
        )


@given(data=st.data())
@settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == 6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_availability_and_booking_agree_on_every_slot(at, data):
    at += timedelta(minutes=1)  # what begins at this very instant could not be cancelled again
    scene = Club(data, at)
    customer = scene.customers[0]
    quantity = data.draw(st.sampled_from([1, 1, 2]))
    query = availability.Query(
        type_key=scene.type.key,
        venue_key=scene.venue.key,
        first_day=data.draw(st.sampled_from([date(2026, 3, 10), *DAYS])),
        days=2,
        minutes=data.draw(st.sampled_from([30, 60, 90])),
        quantity=quantity,
    )
    default = data.draw(st.sampled_from(["free", "free", ""]))
    with override_settings(ENGINE=replace(engine_settings.ENGINE, default_plan_key=default)):
        agree(data, scene, customer, query)


def agree(data: st.DataObject, scene: Club, customer: Customer, query: availability.Query) -> None:
    """Book one slot of each reason that is named, and a free one, and compare."""
    clock = factories.standing(scene.at)
    found = availability.find(customer=customer, query=query, clock=clock)
    for code in sorted({slot.code for slot in found.slots}):
        slot = data.draw(st.sampled_from([each for each in found.slots if each.code == code]))
        wish = planning.Wish(resource_key=slot.place.key, quantity=query.quantity)
        assert try_to_book(customer, wish, slot.span, scene) == code
    after = availability.find(customer=customer, query=query, clock=clock)
    assert [slot.code for slot in after.slots] == [slot.code for slot in found.slots]


CAUSES = (
    "too soon",
    "too far",
    "closed",
    "taken",
    "one booking at a time",
    "no units",
    "no access",
)


@pytest.mark.parametrize("causes", list(combinations(CAUSES, 2)), ids=" and ".join)
def test_where_two_reasons_refuse_both_name_the_same(at, causes):
    court = club.make_resource(venue=club.make_venue())
    customer, other = club.make_member(), club.make_member()
    start = club.local(10, day=date(2026, 3, 12))
    if "taken" in causes:
        club.booked(other, court, start, at=at)
    if "one booking at a time" in causes:
        club.booked(customer, court, start + timedelta(hours=3), at=at)
    if "closed" in causes:
        Closure.objects.create(
            venue=court.venue,
            starts_at=start,
            ends_at=start + timedelta(hours=1),
            reason="rain",
            created_at=at,
        )
    if "no units" in causes:
        used = LIMIT - sum(club.counted(customer))
        factories.consume(customer, used, at=at, feature="court_minutes")
    if "no access" in causes:
        stand(customer, as_="paused", at=at)
    club.make_policy(
        court.type,
        notice_minutes=3 * 24 * 60 if "too soon" in causes else 0,
        days_ahead=1 if "too far" in causes else 31,
        active_max=1 if "one booking at a time" in causes else None,
    )
    query = availability.Query(type_key="court", first_day=date(2026, 3, 12), minutes=60)
    found = availability.find(customer=customer, query=query, clock=factories.standing(at))
    (slot,) = [each for each in found.slots if each.span.starts_at == start]
    before = Booking.objects.count()

    with pytest.raises(DomainError) as refused:
        book(
            customer,
            planning.Wish(resource_key=court.key),
            slot.span,
            at=at,
            venue_key=court.venue.key,
        )

    assert refused.value.code == slot.code != ""
    assert Booking.objects.count() == before
