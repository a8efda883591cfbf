"""What staff see of a venue's day, and what they do to it."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry

from resources.models import Booking, Closure
from tests import club, factories, staff

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock")]
HOUR = timedelta(hours=1)


@pytest.fixture
def court():
    club.make_plan({"court_minutes": 600})
    return club.make_resource(venue=club.make_venue())


def day_of(browser, venue, **query):
    answer = browser.get(staff.page(venue, "show_day"), {"day": "2026-03-11"} | query)
    assert answer.status_code == 200
    return answer.content.decode()


class TestDay:
    def test_shows_who_plays_where_what_is_closed_and_what_is_free(self, court, at):
        club.make_resource("court-2", venue=court.venue)
        customer = factories.make_customer(at=club.STARTED, name="Ann <b>")
        row = club.booked(customer, court, club.local(18, 30), at=at)
        Closure.objects.create(
            venue=court.venue,
            resource=None,
            starts_at=club.local(8),
            ends_at=club.local(9),
            reason="rain",
            created_at=at,
        )
        page = day_of(staff.client("support"), court.venue)
        for shown in ("Court-1", "Court-2", "08:00", "21:00", "closed: rain", "free"):
            assert shown in page
        assert page.count("18:30–19:30 Ann &lt;b&gt;") == 2  # in the hours of 18:00 and 19:00
        assert staff.page(row) in page
        assert ">22:00<" not in page
        assert "?day=2026-03-12" in page
        assert f"Ann &lt;b&gt; at {court.venue}, 2026-03-11 18:30 (confirmed)" in (
            staff.client("support").get(staff.page(row)).content.decode()
        )

    def test_leads_from_a_free_hour_to_its_booking_for_who_may_book(self, court, at):
        browser, customer = staff.client("support"), club.make_member()
        page = day_of(browser, court.venue)
        address = staff.page(court, "book_for_customer")
        query = "day=2026-03-11&starts_at=18%3A00&minutes=60"
        assert f'href="{address}?{query.replace("&", "&amp;")}">free<' in page
        shown = browser.get(f"{address}?{query}").context["form"]
        proposed = {name: shown[name].value() for name in ("day", "starts_at", "minutes")}
        browser.post(address, staff.confirmed(**proposed, customer=customer.external_key))
        assert Booking.objects.get().starts_at == club.local(18)
        assert ">free<" in day_of(staff.client("support"), court.venue, day="2026-03-09")
        assert address not in day_of(staff.client("support"), court.venue, day="2026-03-09")
        assert address not in day_of(staff.client("finance"), court.venue)

    def test_takes_the_same_number_of_statements_whatever_is_booked(
        self, court, at, django_assert_num_queries
    ):
        browser = staff.client("support")
        day_of(browser, court.venue)
        # session, user, two of permissions, venue; resources, hours; allocations twice, closures
        with django_assert_num_queries(10):
            day_of(browser, court.venue)
        for number in range(2, 8):
            other = club.make_resource(f"court-{number}", venue=court.venue)
            club.booked(club.make_member(), other, club.local(9 + number), at=at)
        with django_assert_num_queries(10):
            day_of(browser, court.venue)


class TestOperations:
    def test_close_over_bookings_only_when_told(self, court, at):
        row = club.booked(club.make_member(), court, club.local(18), at=at)
        browser = staff.client("support")
        form = {"day": "2026-03-11", "starts_at": "18:00", "ends_at": "20:00"}
        told = browser.post(staff.page(court.venue, "close_for_a_time"), form | {"reason": "rain"})
        assert row.customer.name in told.content.decode()
        refused = browser.post(staff.page(court.venue, "close_for_a_time"), staff.confirmed(**form))
        assert refused.status_code == 409
        assert not Closure.objects.exists()
        done = browser.post(
            staff.page(court.venue, "close_for_a_time"),
            staff.confirmed(**form, cancels_bookings="on"),
        )
        assert done.status_code == 302
        row.refresh_from_db()
        assert (row.state, row.reason) == ("cancelled", "a ticket asks for it")
        assert LogEntry.objects.count() == 1

    def test_book_for_a_customer_beyond_his_policy_but_not_his_units(self, court, at):
        club.make_policy(court.type, days_ahead=0)
        customer = club.make_member()
        browser = staff.client("support")
        form = {
            "customer": customer.external_key,
            "day": "2026-03-11",
            "starts_at": "18:00",
            "minutes": "60",
        }
        address = staff.page(court, "book_for_customer")
        assert browser.post(address, staff.confirmed(**form)).status_code == 409
        assert not Booking.objects.exists()
        done = browser.post(address, staff.confirmed(**form, is_policy_waived="on"))
        assert done.status_code == 302
        row = Booking.objects.get()
        assert (row.starts_at, row.actor[:5]) == (club.local(18), "staff")
        assert club.counted(customer) == (0, 60)
        factories.consume(customer, 540, at=at, feature="court_minutes")
        later = form | {"starts_at": "20:00"}
        refused = browser.post(address, staff.confirmed(**later, is_policy_waived="on"))
        assert refused.status_code == 409
        assert Booking.objects.count() == 1

    def test_move_cancel_and_check_in_by_the_services(self, court, at):
        customer = club.make_member()
        row = club.booked(customer, court, club.local(18), at=at)
        browser = staff.client("support")
        to = {"day": "2026-03-13", "starts_at": "10:00", "is_policy_waived": "on"}
        assert browser.post(staff.page(row, "move_to"), staff.confirmed(**to)).status_code == 302
        row.refresh_from_db()
        assert row.starts_at == club.local(10) + timedelta(days=2)
        early = browser.post(staff.page(row, "check_in"), staff.confirmed())
        assert early.status_code == 409
        done = browser.post(staff.page(row, "cancel_free"), staff.confirmed())
        assert done.status_code == 302
        assert club.counted(customer) == (0, 0)
        held = club.booked(customer, court, club.local(12), at=at, held=True)
        assert browser.post(staff.page(held, "confirm_held"), staff.confirmed()).status_code == 302
        held.refresh_from_db()
        assert held.state == "confirmed"

    def test_rules_of_a_resource_get_its_venue(self, court):
        browser = staff.client("catalog manager")
        form = {
            "name": court.name,
            "key": court.key,
            "is_active": "on",
            "venue": court.venue_id,
            "type": court.type_id,
            "kind": court.kind,
            "capacity": 1,
            "buffer_before_minutes": 0,
            "buffer_after_minutes": 10,
            "reason": "early birds",
            "opening_rules-TOTAL_FORMS": 1,
            "opening_rules-INITIAL_FORMS": 0,
            "opening_rules-0-weekday": 2,
            "opening_rules-0-opens_at": "06:00",
            "opening_rules-0-closes_at": "07:00",
        }
        answer = browser.post(staff.page(court), form)
        assert answer.status_code == 302, answer.content
        court.refresh_from_db()
        (rule,) = court.opening_rules.all()
        assert (rule.venue_id, court.buffer_after_minutes) == (court.venue_id, 10)
