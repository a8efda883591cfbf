"""Periods: every vector, and what holds for all anchors."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import periods
from core.periods import FormerZone, Interval, Period, Recurrence

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


def moved(recurrence: Recurrence, to: str, *, at: datetime) -> Recurrence:
    """Return the recurrence of somebody whose billing period it is, in another zone since then."""
    former = FormerZone(
        time_zone=recurrence.time_zone,
        changed_at=at,
        renews_at=periods.period_at(recurrence, at=at).ends_at,
    )
    return replace(recurrence, time_zone=to, former_zones=(*recurrence.former_zones, former))


zones = st.sampled_from(
    ["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Auckland"]
)
counted = st.sampled_from([each for each in Interval if each is not Interval.LIFETIME])
instants = st.integers(0, 3 * 366 * 24 * 60).map(
    lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)


class TestAnotherZone:
    def test_counts_from_the_end_of_the_month_that_runs(self):
        anchor = datetime(2026, 1, 15, 10, tzinfo=UTC)
        before = Recurrence(anchor=anchor, time_zone="UTC", interval=Interval.MONTH)
        after = moved(before, BERLIN, at=datetime(2026, 5, 20, tzinfo=UTC))
        assert [periods.boundary(after, index=index) for index in range(3, 7)] == [
            datetime(2026, 4, 15, 10, tzinfo=UTC),
            datetime(2026, 5, 15, 10, tzinfo=UTC),
            datetime(2026, 6, 15, 10, tzinfo=UTC),  # 11:00 in Berlin would be an hour earlier
            datetime(2026, 7, 15, 9, tzinfo=UTC),
        ]
        winter = periods.boundary(after, index=10)
        assert winter == datetime(2026, 11, 15, 10, tzinfo=UTC)
        assert periods.zone_at(after, at=datetime(2026, 6, 15, 9, tzinfo=UTC)) == "UTC"
        assert periods.zone_at(after, at=datetime(2026, 6, 15, 10, tzinfo=UTC)) == BERLIN

    def test_moves_the_day_that_a_month_begins_on_and_leaves_no_stump(self):
        anchor = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)  # 28 February in New York
        before = Recurrence(anchor=anchor, time_zone="UTC", interval=Interval.MONTH)
        after = moved(before, "America/New_York", at=datetime(2026, 3, 10, tzinfo=UTC))
        period = periods.period_at(after, at=datetime(2026, 4, 1, 0, 30, tzinfo=UTC))
        assert period == Period(
            starts_at=datetime(2026, 4, 1, 0, 30, tzinfo=UTC),
            ends_at=datetime(2026, 4, 28, 23, 30, tzinfo=UTC),
        )

    @given(counted, zones, zones, zones, instants, st.lists(st.integers(0, 400), max_size=3))
    def test_leaves_what_runs_and_every_boundary_before_it(
        self, interval, zone, other, third, anchor, days
    ):
        former = Recurrence(anchor=anchor, time_zone=zone, interval=interval)
        for number, after in enumerate(sorted(days)):
            at = anchor + timedelta(days=after, hours=7)
            now = moved(former, (other, third, zone)[number], at=at)
            assert periods.period_at(now, at=at) == periods.period_at(former, at=at)
            index = periods.index_at(former, at=at)
            for earlier in range(max(index - 3, -2), index + 2):
                assert periods.boundary(now, index=earlier) == periods.boundary(
                    former, index=earlier
                )
            following = [periods.boundary(now, index=index + n) for n in range(1, 6)]
            assert following == sorted(set(following))
            former = now

    @given(instants, zones, zones, st.integers(0, 700))
    def test_never_lets_a_month_straddle_the_renewal_of_a_year(self, anchor, zone, other, days):
        year = Recurrence(anchor=anchor, time_zone=zone, interval=Interval.YEAR)
        year = moved(year, other, at=anchor + timedelta(days=days))
        month = replace(year, interval=Interval.MONTH)
        for index in range(5):
            assert periods.boundary(month, index=12 * index) == periods.boundary(year, index=index)

    def test_counts_days_from_the_next_one_though_a_year_runs(self):
        anchor = datetime(2026, 1, 15, 10, tzinfo=UTC)
        year = Recurrence(anchor=anchor, time_zone="UTC", interval=Interval.YEAR)
        day = replace(
            moved(year, BERLIN, at=datetime(2026, 7, 1, 12, tzinfo=UTC)), interval=Interval.DAY
        )
        assert periods.period_at(day, at=datetime(2026, 7, 1, 12, tzinfo=UTC)) == Period(
            starts_at=datetime(2026, 7, 1, 10, tzinfo=UTC),
            ends_at=datetime(2026, 7, 2, 10, tzinfo=UTC),
        )
        assert periods.period_at(day, at=datetime(2026, 7, 2, 10, tzinfo=UTC)) == Period(
            starts_at=datetime(2026, 7, 2, 10, tzinfo=UTC),
            ends_at=datetime(2026, 7, 3, 9, tzinfo=UTC),
        )

    def test_before_the_anchor_counts_nothing(self):
        anchor = datetime(2026, 6, 15, 10, tzinfo=UTC)
        old = FormerZone(
            time_zone="UTC",
            changed_at=anchor - timedelta(microseconds=1),
            renews_at=anchor + timedelta(days=9),
        )
        month = Recurrence(
            anchor=anchor, time_zone=BERLIN, interval=Interval.MONTH, former_zones=(old,)
        )
        assert periods.boundary(month, index=5) == datetime(2026, 11, 15, 11, tzinfo=UTC)
        assert periods.zone_at(month, at=anchor) == BERLIN
        life = replace(month, interval=Interval.LIFETIME)
        assert periods.zone_at(life, at=anchor) == BERLIN

    def test_is_an_iana_zone_too(self):
        with pytest.raises(ValueError, match="Mars"):
            moved(
                Recurrence(
                    anchor=datetime(2026, 1, 1, tzinfo=UTC), time_zone="UTC", interval=Interval.DAY
                ),
                "Mars/Olympus",
                at=datetime(2026, 1, 2, tzinfo=UTC),
            )


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
