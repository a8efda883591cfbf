"""Pools by their peak, gaps by the larger buffer."""

from datetime import UTC, datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources import timetable
from resources.opening import Span
from resources.timetable import Taken


def taken(first: int, last: int, quantity: int = 1) -> Taken:
    return Taken(booking_id=None, span=hours(first, last), quantity=quantity)


def hours(first: int, last: int) -> Span:
    return Span(
        starts_at=datetime(2026, 3, 11, first, tzinfo=UTC),
        ends_at=datetime(2026, 3, 11, last, tzinfo=UTC),
    )


class TestPeakQuantity:
    def test_counts_places_at_one_instant_not_bookings_of_the_span(self):
        """[8,9) + [9,10) + [8,10) fit into two places."""
        both = [taken(8, 9), taken(9, 10)]
        assert timetable.peak_quantity(both, within=hours(8, 10)) == 1
        assert timetable.peak_quantity([*both, taken(8, 10)], within=hours(8, 10)) == 2

    def test_looks_at_the_span_alone(self):
        crowd = [taken(6, 8, 5), taken(10, 12, 5), taken(9, 10, 2)]
        assert timetable.peak_quantity(crowd, within=hours(8, 10)) == 2
        assert timetable.peak_quantity([], within=hours(8, 10)) == 0

    @settings(
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        max_examples=50,
    )
    @given(
        st.lists(
            st.tuples(st.integers(0, 22), st.integers(1, 23), st.integers(1, 3)).filter(
                lambda each: each[0] < each[1]
            ),
            max_size=12,
        )
    )
    def test_equals_a_count_hour_by_hour(self, rows):
        crowd = [taken(first, last, quantity) for first, last, quantity in rows]
        by_hour = [
            sum(quantity for first, last, quantity in rows if first <= hour < last)
            for hour in range(5, 18)
        ]
        assert timetable.peak_quantity(crowd, within=hours(5, 18)) == max(by_hour)
