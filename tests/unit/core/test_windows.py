"""Cut a span into the calendar's windows: half-open, in a zone, over DST and month ends."""

from datetime import UTC, datetime

import pytest

from core import periods
from core.periods import Interval


def cut(starts_at, ends_at, interval, zone="UTC"):
    return [
        (each.starts_at, each.ends_at)
        for each in periods.windows(
            starts_at=starts_at, ends_at=ends_at, interval=interval, time_zone=zone
        )
    ]


def at(*parts) -> datetime:
    return datetime(*parts, tzinfo=UTC)


class TestWindows:
    @pytest.mark.parametrize(
        ("interval", "inner"),
        [
            (Interval.MINUTE, [at(2026, 3, 4, 23, 59), at(2026, 3, 5), at(2026, 3, 5, 0, 1)]),
            (Interval.HOUR, [at(2026, 3, 4, 23), at(2026, 3, 5), at(2026, 3, 5, 1)]),
            (Interval.DAY, [at(2026, 3, 4), at(2026, 3, 5), at(2026, 3, 6)]),
            (Interval.WEEK, [at(2026, 3, 2), at(2026, 3, 9), at(2026, 3, 16)]),
            (Interval.MONTH, [at(2026, 2, 1), at(2026, 3, 1), at(2026, 4, 1)]),
        ],
    )
    def test_begin_on_the_calendar_and_are_cut_to_the_span(self, interval, inner):
        first, second, third = inner
        early = first + (second - first) / 2
        late = second + (third - second) / 2
        assert cut(early, late, interval) == [(early, second), (second, late)]
        assert cut(first, third, interval) == [(first, second), (second, third)]

    def test_of_a_span_that_begins_within_a_second_end_on_the_whole_minute(self):
        begins_at = datetime(2026, 3, 4, 12, 0, 30, 5, tzinfo=UTC)
        assert cut(begins_at, at(2026, 3, 4, 12, 2), Interval.MINUTE) == [
            (begins_at, at(2026, 3, 4, 12, 1)),
            (at(2026, 3, 4, 12, 1), at(2026, 3, 4, 12, 2)),
        ]

    def test_of_days_have_23_and_25_hours_where_the_clock_moves(self):
        spring = cut(at(2027, 3, 27, 23), at(2027, 3, 29, 22), Interval.DAY, "Europe/Berlin")
        autumn = cut(at(2026, 10, 24, 22), at(2026, 10, 26, 23), Interval.DAY, "Europe/Berlin")
        assert [(end - start).total_seconds() / 3600 for start, end in spring] == [23, 24]
        assert [(end - start).total_seconds() / 3600 for start, end in autumn] == [25, 24]

    def test_of_hours_are_elapsed_where_a_wall_time_occurs_twice(self):
        begins_at = at(2026, 10, 25, 1, 30)  # 02:30 in Berlin for the second time
        assert cut(begins_at, at(2026, 10, 25, 3), Interval.HOUR, "Europe/Berlin") == [
            (begins_at, at(2026, 10, 25, 2)),
            (at(2026, 10, 25, 2), at(2026, 10, 25, 3)),
        ]

    def test_of_hours_begin_at_the_zones_own_hours(self):
        assert cut(at(2026, 3, 1), at(2026, 3, 1, 1), Interval.HOUR, "Asia/Kolkata") == [
            (at(2026, 3, 1), at(2026, 3, 1, 0, 30)),
            (at(2026, 3, 1, 0, 30), at(2026, 3, 1, 1)),
        ]

    def test_of_days_without_a_midnight_begin_where_the_clock_goes_on(self):
        # in Beirut 2026-03-29 begins at 01:00
        days = cut(at(2026, 3, 27, 22), at(2026, 3, 30, 21), Interval.DAY, "Asia/Beirut")
        assert [start for start, _ in days] == [
            at(2026, 3, 27, 22),
            at(2026, 3, 28, 22),
            at(2026, 3, 29, 21),
        ]

    def test_of_an_empty_span_are_none(self):
        assert cut(at(2026, 3, 1), at(2026, 3, 1), Interval.DAY) == []
