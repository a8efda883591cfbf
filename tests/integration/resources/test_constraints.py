"""What the database refuses by itself, whatever the code forgot."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from resources.models import Allocation, Booking, Resource, Venue
from tests import club

pytestmark = pytest.mark.django_db
TEN = club.local(10)


@pytest.fixture
def venue():
    return club.make_venue()


def insert(resource, starts_at, *, minutes=60, is_live=True, state="confirmed"):
    ends_at = starts_at + timedelta(minutes=minutes)
    booking = Booking.objects.create(
        customer=club.make_member(),
        venue=resource.venue,
        state=state,
        starts_at=starts_at,
        ends_at=ends_at,
        created_at=club.STARTED,
        free_cancel_until=starts_at,
    )
    return Allocation.objects.create(
        booking=booking,
        resource=resource,
        starts_at=starts_at,
        ends_at=ends_at,
        occupied_until=ends_at,
        is_exclusive=resource.kind == Resource.Kind.EXCLUSIVE,
        is_live=is_live,
        feature=resource.type.feature,
        units=minutes,
    )


class TestNoOverlap:
    def test_refuses_a_direct_insert_over_a_live_allocation(self, venue):
        court = club.make_resource(venue=venue)
        insert(court, TEN)
        with pytest.raises(IntegrityError, match="allocation_no_overlap"), transaction.atomic():
            insert(court, TEN + timedelta(minutes=30))
        assert Allocation.objects.count() == 1

    def test_refuses_to_bring_one_back_to_life(self, venue):
        court = club.make_resource(venue=venue)
        insert(court, TEN)
        given_up = insert(court, TEN, is_live=False)
        with pytest.raises(IntegrityError, match="allocation_no_overlap"), transaction.atomic():
            Allocation.objects.filter(pk=given_up.pk).update(is_live=True)
        assert not Allocation.objects.get(pk=given_up.pk).is_live

    def test_lets_neighbours_other_resources_and_pools_be(self, venue):
        court = club.make_resource(venue=venue)
        insert(court, TEN)
        insert(court, TEN + timedelta(minutes=60))
        insert(club.make_resource("court-2", venue=venue), TEN)
        pool = club.make_resource("yoga", venue=venue, capacity=2)
        insert(pool, TEN)
        insert(pool, TEN)
        assert Allocation.objects.filter(is_live=True).count() == 5


class TestChecks:
    def test_bind_a_booking_s_columns_to_its_state(self, venue):
        court = club.make_resource(venue=venue)
        booking = insert(court, TEN).booking
        for change in (
            {"state": "held"},
            {"state": "cancelled"},
            {"expires_at": TEN},
            {"ends_at": booking.starts_at},
        ):
            with pytest.raises(IntegrityError), transaction.atomic():
                Booking.objects.filter(pk=booking.pk).update(**change)
        assert Booking.objects.get(pk=booking.pk).state == "confirmed"

    def test_bind_the_capacity_to_the_kind(self, venue):
        with pytest.raises(IntegrityError), transaction.atomic():
            club.make_resource(venue=venue, kind="exclusive", capacity=2)
        assert not Resource.objects.exists()

    def test_accept_iana_zones_alone(self):
        venue = Venue(key="x", name="X", time_zone="Europe/Berlyn")
        with pytest.raises(ValidationError, match="no IANA time zone"):
            venue.full_clean()
