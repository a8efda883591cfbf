"""Opening hours in wall time, over the days on which the clocks change."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from resources import opening
from resources.opening import Span, WeeklyRule

BERLIN = "Europe/Berlin"
SPRING, AUTUMN = date(2027, 3, 28), date(2026, 10, 25)
HOUR = timedelta(hours=1)


def all_day(day: date) -> WeeklyRule:
    return WeeklyRule(weekday=day.weekday(), opens_at=time(), closes_at=time())


def walls(day: date, *, grid_minutes: int = 30) -> list[str]:
    starts = opening.grid_starts(time_zone=BERLIN, first_day=day, days=1, grid_minutes=grid_minutes)
    return [each.astimezone(ZoneInfo(BERLIN)).strftime("%H:%M") for each in starts]


class TestOpenSpans:
    @pytest.mark.parametrize(
        ("day", "hours"), [(SPRING, 23), (AUTUMN, 25), (date(2026, 3, 11), 24)]
    )
    def test_of_a_whole_day_last_as_long_as_the_day(self, day, hours):
        (span,) = opening.open_spans([all_day(day)], time_zone=BERLIN, first_day=day, days=1)
        assert span.ends_at - span.starts_at == hours * HOUR

    def test_follow_the_wall_clock_not_utc(self):
        rules = [
            WeeklyRule(weekday=weekday, opens_at=time(8), closes_at=time(22)) for weekday in (5, 6)
        ]
        spans = opening.open_spans(
            rules, time_zone=BERLIN, first_day=SPRING - timedelta(days=1), days=2
        )
        assert [(each.starts_at.hour, each.ends_at.hour) for each in spans] == [(7, 21), (6, 20)]

    def test_shift_an_opening_in_the_gap_forward(self):
        rule = WeeklyRule(weekday=SPRING.weekday(), opens_at=time(2, 30), closes_at=time(6))
        (span,) = opening.open_spans([rule], time_zone=BERLIN, first_day=SPRING, days=1)
        assert span.starts_at == datetime(2027, 3, 28, 1, 30, tzinfo=UTC)  # 03:30 summer time

    def test_close_on_the_next_day_where_the_closing_is_not_later(self):
        rule = WeeklyRule(weekday=2, opens_at=time(20), closes_at=time(2))
        (span,) = opening.open_spans([rule], time_zone="UTC", first_day=date(2026, 3, 11), days=1)
        assert span.ends_at == datetime(2026, 3, 12, 2, tzinfo=UTC)

    def test_join_what_touches_and_keep_a_break(self):
        day = date(2026, 3, 11)
        hours = [(8, 12), (12, 14), (15, 18)]
        rules = [
            WeeklyRule(weekday=2, opens_at=time(first), closes_at=time(last))
            for first, last in hours
        ]
        spans = opening.open_spans(rules, time_zone="UTC", first_day=day, days=1)
        assert [(each.starts_at.hour, each.ends_at.hour) for each in spans] == [(8, 14), (15, 18)]

    def test_hold_from_the_first_day_to_before_the_last(self):
        rule = WeeklyRule(
            weekday=2,
            opens_at=time(8),
            closes_at=time(9),
            starts_on=date(2026, 3, 11),
            ends_on=date(2026, 3, 25),
        )
        spans = opening.open_spans([rule], time_zone="UTC", first_day=date(2026, 3, 1), days=40)
        assert [each.starts_at.day for each in spans] == [11, 18]


class TestGrid:
    def test_has_no_half_past_two_in_the_gap(self):
        assert "02:00" not in walls(SPRING)
        assert "02:30" not in walls(SPRING)
        assert len(walls(SPRING)) == 46

    def test_has_half_past_two_twice_in_the_repeated_hour(self):
        assert walls(AUTUMN).count("02:30") == 2
        assert len(walls(AUTUMN)) == 50

    def test_agrees_with_the_check_of_one_start(self):
        for day in (SPRING, AUTUMN):
            starts = set(
                opening.grid_starts(time_zone=BERLIN, first_day=day, days=1, grid_minutes=90)
            )
            whole = opening.day_span(day=day, days=1, time_zone=BERLIN)
            minute = whole.starts_at
            while minute < whole.ends_at:
                on_grid = opening.is_on_grid(minute, time_zone=BERLIN, grid_minutes=90)
                assert on_grid == (minute in starts)
                minute += timedelta(minutes=1)

    def test_refuses_seconds(self):
        at = datetime(2026, 3, 11, 8, 0, 1, tzinfo=UTC)
        assert not opening.is_on_grid(at, time_zone="UTC", grid_minutes=30)


class TestSeries:
    def test_keeps_the_wall_time_over_the_change(self):
        first = datetime(2026, 3, 22, 17, tzinfo=UTC)  # 18:00 in Berlin's winter
        starts = opening.weekly_starts(
            first=first, time_zone=BERLIN, interval_weeks=1, occurrences=3
        )
        assert [each.hour for each in starts] == [17, 16, 16]

    def test_reports_an_occurrence_in_the_gap_and_shifts_nothing(self):
        first = datetime(2027, 3, 21, 1, 30, tzinfo=UTC)  # 02:30
        starts = opening.weekly_starts(
            first=first, time_zone=BERLIN, interval_weeks=1, occurrences=3
        )
        assert starts == [first, SPRING, datetime(2027, 4, 4, 0, 30, tzinfo=UTC)]

    def test_takes_the_first_of_two_occurrences(self):
        first = datetime(2026, 10, 18, 0, 30, tzinfo=UTC)  # 02:30 summer time
        starts = opening.weekly_starts(
            first=first, time_zone=BERLIN, interval_weeks=1, occurrences=2
        )
        assert starts[1] == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


class TestSpan:
    def test_is_half_open(self):
        at = datetime(2026, 3, 11, tzinfo=UTC)
        first = Span(starts_at=at, ends_at=at + HOUR)
        second = Span(starts_at=at + HOUR, ends_at=at + 2 * HOUR)
        assert not first.overlaps(second)
        assert first.overlaps(Span(starts_at=at, ends_at=at + 2 * HOUR))
        assert opening.joined([second, first]) == [Span(starts_at=at, ends_at=at + 2 * HOUR)]
