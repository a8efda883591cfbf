"""Periods: every vector, and what holds for all anchors."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import periods
from core.periods import Interval, Period, Recurrence

PATH = Path(__file__).parents[2] / "vectors" / "billing_periods.json"
VECTORS = json.loads(PATH.read_text())["vectors"]
BERLIN = "Europe/Berlin"


def instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def recurrence_of(vector) -> Recurrence:
    return Recurrence(
        anchor=instant(vector["anchor"]),
        time_zone=vector["timezone"],
        interval=Interval(vector["interval"]),
        count=vector["interval_count"],
    )


def check_boundaries(vector):
    recurrence, first = recurrence_of(vector), vector["first_index"]
    expected = [instant(each) for each in vector["expected"]]
    found = [periods.boundary(recurrence, index=first + n) for n in range(len(expected))]
    assert found == expected


def check_period_at(vector):
    recurrence, at = recurrence_of(vector), instant(vector["at"])
    period = periods.clipped(
        periods.period_at(recurrence, at=at),
        starts_at=instant(vector.get("subscription_start")),
        ends_at=instant(vector.get("subscription_end")),
    )
    expected = vector["expected"]
    assert period == Period(starts_at=instant(expected["start"]), ends_at=instant(expected["end"]))
    if "expected_index" in vector:
        assert periods.index_at(recurrence, at=at) == vector["expected_index"]


def check_first_boundary(vector):
    found = periods.first_boundary_on_or_after(
        start=date.fromisoformat(vector["start"]),
        anchor_day=vector["anchor_day"],
        interval=Interval(vector["interval"]),
        count=vector["interval_count"],
    )
    assert found == date.fromisoformat(vector["expected"])


def check_rolling_window(vector):
    found = periods.in_rolling_window(
        times=[instant(each) for each in vector["event_times"]],
        at=instant(vector["at"]),
        seconds=vector["window_seconds"],
    )
    assert found == vector["expected_counted"]


def check_late_event(vector):
    event_at = instant(vector["event_time"])
    is_accepted = periods.is_accepted(
        event_at=event_at,
        received_at=instant(vector["received_at"]),
        late_horizon_seconds=vector["late_horizon_seconds"],
        future_skew_seconds=vector["future_skew_seconds"],
    )
    assert is_accepted is vector["expected"]["accepted"]
    if vector["expected"].get("window_start"):
        starts_at = periods.period_at(recurrence_of(vector), at=event_at).starts_at
        assert starts_at == instant(vector["expected"]["window_start"])


CHECKS = {
    "boundaries": check_boundaries,
    "period_at": check_period_at,
    "lifetime": check_period_at,
    "first_boundary_on_or_after": check_first_boundary,
    "rolling_window": check_rolling_window,
    "late_event": check_late_event,
}


@pytest.mark.parametrize("vector", VECTORS, ids=[each["id"] for each in VECTORS])
def test_vector_holds(vector):
    CHECKS[vector["kind"]](vector)


instants = st.datetimes(
    min_value=datetime(1990, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    max_value=datetime(2060, 1, 1),  # noqa: DTZ001 - as above
    timezones=st.just(UTC),
)
zones = st.sampled_from(["UTC", BERLIN, "America/New_York", "Asia/Kolkata", "Pacific/Apia"])
recurring = [each for each in Interval if each is not Interval.LIFETIME]
recurrences = st.builds(
    Recurrence,
    anchor=instants,
    time_zone=zones,
    interval=st.sampled_from(recurring),
    count=st.integers(1, 5),
)


class TestPeriods:
    @given(recurrence=recurrences, at=instants)
    def test_hold_their_instant_and_meet_without_gap(self, recurrence, at):
        period = periods.period_at(recurrence, at=at)
        assert period.starts_at <= at < period.ends_at
        following = periods.period_at(recurrence, at=period.ends_at)
        assert following.starts_at == period.ends_at

    @given(anchor=instants, zone=zones, years=st.integers(-20, 20))
    def test_of_twelve_months_end_with_the_year(self, anchor, zone, years):
        monthly = Recurrence(anchor=anchor, time_zone=zone, interval=Interval.MONTH)
        yearly = Recurrence(anchor=anchor, time_zone=zone, interval=Interval.YEAR)
        assert periods.boundary(monthly, index=12 * years) == periods.boundary(yearly, index=years)

    def test_keep_the_wall_clock_over_both_changes_of_the_hour(self):
        daily = Recurrence(
            anchor=datetime(2027, 3, 27, 1, 30, tzinfo=UTC),
            time_zone=BERLIN,
            interval=Interval.DAY,
        )
        assert periods.boundary(daily, index=1) == datetime(2027, 3, 28, 1, 30, tzinfo=UTC)
        assert periods.boundary(daily, index=2) == datetime(2027, 3, 29, 0, 30, tzinfo=UTC)

    def test_are_told_in_utc(self):
        anchor = datetime(2026, 3, 1, 9, tzinfo=ZoneInfo(BERLIN))
        for interval in Interval:
            recurrence = Recurrence(anchor=anchor, time_zone=BERLIN, interval=interval)
            assert periods.boundary(recurrence, index=0).tzinfo is UTC
            assert periods.period_at(recurrence, at=anchor).starts_at.tzinfo is UTC
        assert periods.boundary(recurrence, index=1).tzinfo is UTC

    def test_of_a_lifetime_never_end(self):
        anchor = datetime(2024, 5, 5, tzinfo=UTC)
        forever = Recurrence(anchor=anchor, time_zone="UTC", interval=Interval.LIFETIME)
        at = anchor + timedelta(days=10_000)
        assert periods.index_at(forever, at=at) == 0
        assert periods.period_at(forever, at=at) == Period(starts_at=anchor, ends_at=None)
        with pytest.raises(ValueError, match="no boundary"):
            periods.boundary(forever, index=1)

    @pytest.mark.parametrize("interval", [Interval.HOUR, Interval.WEEK, Interval.YEAR])
    def test_end_with_the_calendar(self, interval):
        endless = Recurrence(
            anchor=datetime(2026, 1, 1, tzinfo=UTC), time_zone="UTC", interval=interval
        )
        with pytest.raises(OverflowError):
            periods.boundary(endless, index=10**8)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"anchor": datetime(2024, 1, 1)},  # noqa: DTZ001 - the naive one is the point
            {"time_zone": "Mars/Olympus"},
            {"time_zone": "../etc"},
            {"count": 0},
        ],
    )
    def test_are_refused_for_what_is_no_recurrence(self, wrong):
        fields = {
            "anchor": datetime(2024, 1, 1, tzinfo=UTC),
            "time_zone": "UTC",
            "interval": Interval.DAY,
        }
        with pytest.raises(ValueError, match=r"offset|IANA|at least"):
            Recurrence(**(fields | wrong))


class TestBounds:
    """What lies exactly on a bound."""

    def test_a_billing_day_may_be_the_start_itself_and_is_clamped_to_short_months(self):
        def first(*start, day):
            return periods.first_boundary_on_or_after(
                start=date(*start), anchor_day=day, interval=Interval.MONTH
            )

        assert first(2027, 1, 15, day=15) == date(2027, 1, 15)
        assert first(2027, 1, 14, day=15) == date(2027, 1, 15)
        assert first(2027, 1, 16, day=15) == date(2027, 2, 15)
        assert first(2027, 1, 31, day=30) == date(2027, 2, 28)
        assert first(2027, 12, 31, day=30) == date(2028, 1, 30)

    def test_a_rolling_window_holds_its_end_and_not_its_beginning(self):
        at = datetime(2026, 3, 1, tzinfo=UTC)
        times = [at - timedelta(seconds=each) for each in (-1, 0, 59, 60, 61)]
        assert periods.in_rolling_window(times=times, at=at, seconds=60) == 2

    @pytest.mark.parametrize(("seconds", "is_accepted"), [(-61, 0), (-60, 1), (5, 1), (6, 0)])
    def test_an_event_is_accepted_on_both_bounds(self, seconds, is_accepted):
        received_at = datetime(2026, 3, 1, tzinfo=UTC)
        found = periods.is_accepted(
            event_at=received_at + timedelta(seconds=seconds),
            received_at=received_at,
            late_horizon_seconds=60,
            future_skew_seconds=5,
        )
        assert found == bool(is_accepted)
