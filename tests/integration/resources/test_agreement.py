"""Availability never offers what an immediate booking refuses, and refuses with the same code."""

import os
from datetime import date, time, timedelta
from itertools import count

import pytest
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
from tests import club, factories

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]
ACTOR = Actor(name="test")
LIMIT = 300
EXAMPLES = int(os.environ.get("AGREEMENT_EXAMPLES", "3"))
_numbers = count(1)
HALF_HOURS = st.integers(min_value=0, max_value=12)


@pytest.fixture(autouse=True)
def _plan():
    club.make_plan({"court_minutes": LIMIT})


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
            days_ahead=data.draw(st.integers(0, 3)),
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

    def span(self, data: st.DataObject, minutes: int = 60) -> Span:
        day = date(2026, 3, 11) + timedelta(days=data.draw(st.integers(0, 2)))
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
        span = self.span(data)
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
    derandomize=EXAMPLES == 3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_availability_and_booking_agree_on_every_slot(at, data):
    scene = Club(data, at)
    customer = scene.customers[0]
    quantity = data.draw(st.sampled_from([1, 1, 2]))
    query = availability.Query(
        type_key=scene.type.key,
        venue_key=scene.venue.key,
        first_day=date(2026, 3, 10) + timedelta(days=data.draw(st.integers(0, 3))),
        days=2,
        minutes=data.draw(st.sampled_from([30, 60, 90])),
        quantity=quantity,
    )
    found = availability.find(customer=customer, query=query, clock=factories.standing(at))
    slots = data.draw(st.lists(st.sampled_from(found.slots), min_size=1, max_size=4))

    for slot in slots:
        wish = planning.Wish(resource_key=slot.place.key, quantity=quantity)
        assert try_to_book(customer, wish, slot.span, scene) == slot.code
    after = availability.find(customer=customer, query=query, clock=factories.standing(at))
    assert [slot.code for slot in after.slots] == [slot.code for slot in found.slots]
