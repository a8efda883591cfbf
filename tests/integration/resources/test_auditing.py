"""The audit names every booking whose units are not held, and every resource allocated twice."""

import pytest
from django.core.management import CommandError, call_command

from metering.models import Hold
from metering.services import auditing
from resources.models import Allocation
from tests import club

pytestmark = pytest.mark.django_db
TEN, NOON = club.local(10), club.local(12)


@pytest.fixture
def court(standing_clock):
    club.make_plan({"court_minutes": 600})
    return club.make_resource(venue=club.make_venue())


@pytest.fixture
def booking(court):
    return club.booked(club.make_member(), court, TEN, at=club.STARTED)


def found() -> list[tuple[str, str, int, int]]:
    return [
        (each.invariant, each.place, each.stored, each.recounted) for each in auditing.audit()[0]
    ]


class TestAudit:
    def test_is_clean_after_booking(self, court, booking):
        club.booked(booking.customer, court, NOON, at=club.STARTED)
        assert found() == []

    def test_names_a_booking_whose_units_are_not_held(self, booking):
        Allocation.objects.update(units=90)
        place = f"booking:{booking.pk} by {booking.hold_id}: court_minutes"
        assert found() == [("a booking's units are held", place, 90, 60)]

    def test_names_a_hold_that_no_booking_knows(self, booking):
        hold_id, booking.hold_id = booking.hold_id, None
        booking.save(update_fields=["hold_id"])
        place = f"booking:{booking.pk} by {hold_id}: court_minutes"
        assert found() == [("a booking's units are held", place, 0, 60)]

    def test_names_a_booking_whose_hold_has_ended(self, booking):
        Hold.objects.update(state=Hold.State.RELEASED, ended_at=TEN)
        place = f"booking:{booking.pk} by {booking.hold_id}: court_minutes"
        assert ("a booking's units are held", place, 60, 0) in found()

    def test_names_both_bookings_of_one_time(self, court, booking):
        other = club.booked(club.make_member(), court, NOON, at=club.STARTED)
        mine = Allocation.objects.get(booking=booking)
        Allocation.objects.filter(pk=mine.pk).update(is_exclusive=False)
        Allocation.objects.filter(booking=other).update(starts_at=mine.starts_at)
        expected = f"court-1 from {mine.starts_at}, {other.owner}"
        assert found() == [("an exclusive resource is allocated once", expected, 2, 1)]

    def test_fails_as_a_command(self, booking, capsys):
        Allocation.objects.update(units=90)
        with pytest.raises(CommandError, match="1 differences"):
            call_command("audit", "--json")
        assert '"stored":90' in capsys.readouterr().out
