"""What a policy decides, and what a booking costs."""

from datetime import UTC, datetime, time, timedelta

import pytest

from resources import errors, rules
from resources.opening import Span
from resources.rules import Asked, Own, Peak, Policy

BERLIN = "Europe/Berlin"
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
EVENING = Peak(weekday=2, starts_at=time(17), ends_at=time(20), rate_percent=150, active_max=1)


def span(day: int, hour: int, minutes: int = 60) -> Span:
    starts_at = datetime(2026, 3, day, hour, tzinfo=UTC)
    return Span(starts_at=starts_at, ends_at=starts_at + timedelta(minutes=minutes))


def refusal(policy: Policy, *, asked: Span, own: tuple[Span, ...] = (), guests: int = 0):
    return rules.refuse_by_policy(
        policy,
        asked=Asked(type_id=1, span=asked, time_zone=BERLIN, guests=guests),
        own=[Own(type_id=1, span=each) for each in own] + [Own(type_id=2, span=span(11, 17))],
        at=AT,
    )


class TestPolicy:
    def test_asks_for_the_notice_and_takes_its_last_instant(self):
        policy = Policy(notice_minutes=120)
        assert refusal(policy, asked=span(10, 14)) is None
        refused = refusal(policy, asked=span(10, 13))
        assert isinstance(refused, errors.BookingTooSoon)
        assert refused.facts() == {"earliest_at": "2026-03-10T14:00:00Z"}

    def test_opens_days_by_the_local_date(self):
        policy = Policy(days_ahead=1)
        late_tomorrow = span(11, 22)  # 23:00 in Berlin
        assert refusal(policy, asked=late_tomorrow) is None
        refused = refusal(policy, asked=span(11, 23))  # midnight, the day after
        assert isinstance(refused, errors.BookingTooFar)
        assert refused.facts() == {"last_day": "2026-03-11"}

    def test_counts_what_has_not_ended_and_nothing_of_other_types(self):
        policy = Policy(active_max=2)
        ended = span(10, 10)
        assert refusal(policy, asked=span(11, 9), own=(ended, span(12, 9))) is None
        refused = refusal(policy, asked=span(11, 9), own=(span(12, 9), span(13, 9)))
        assert isinstance(refused, errors.BookingLimitReached)
        assert refused.facts() == {"rule": "active_max", "limit": 2}

    def test_counts_by_local_day(self):
        policy = Policy(per_day_max=1)
        assert refusal(policy, asked=span(11, 23), own=(span(11, 9),)) is None
        refused = refusal(policy, asked=span(11, 22), own=(span(11, 9),))
        assert refused is not None
        assert refused.facts() == {"rule": "per_day_max", "limit": 1}

    def test_counts_peak_bookings_apart(self):
        policy = Policy(peaks=(EVENING,))
        assert refusal(policy, asked=span(11, 16), own=(span(11, 9),)) is None
        refused = refusal(policy, asked=span(18, 16), own=(span(11, 18),))
        assert refused is not None
        assert refused.facts() == {"rule": "peak_active_max", "limit": 1}

    def test_bounds_guests(self):
        policy = Policy(guests_max=2)
        assert refusal(policy, asked=span(11, 9), guests=2) is None
        refused = refusal(policy, asked=span(11, 9), guests=3)
        assert refused is not None
        assert refused.facts() == {"rule": "guests_max", "limit": 2}


class TestCost:
    @pytest.mark.parametrize(
        ("unit", "minutes", "quantity", "units"),
        [
            ("minute", 90, 1, 90),
            ("minute", 60, 3, 180),
            ("hour", 60, 1, 1),
            ("hour", 90, 1, 2),
            ("visit", 90, 1, 1),
            ("visit", 90, 2, 2),
        ],
    )
    def test_follows_the_unit_and_the_places(self, unit, minutes, quantity, units):
        asked = span(11, 9, minutes)
        policy = Policy()
        found = rules.cost_units(policy, unit=unit, span=asked, time_zone=BERLIN, quantity=quantity)
        assert found == units

    def test_is_the_rate_of_the_start_rounded_up(self):
        policy = Policy(peaks=(EVENING,))
        costs = [
            rules.cost_units(policy, unit="visit", span=span(11, hour), time_zone=BERLIN)
            for hour in (15, 16, 18, 19)
        ]
        assert costs == [1, 2, 2, 1]  # 17:00 and 19:00 local lie at peak, 20:00 does not


class TestStrictest:
    def test_takes_the_harder_term_and_adds_the_fees(self):
        first = Policy(free_cancel_minutes=60, late_units_percent=50, late_fee_minor=100)
        second = Policy(free_cancel_minutes=1440, late_units_percent=0, late_fee_minor=200)
        both = rules.strictest([first, second])
        assert (both.free_cancel_minutes, both.late_units_percent, both.late_fee_minor) == (
            1440,
            50,
            300,
        )

    @pytest.mark.parametrize(
        ("units", "percent", "share"), [(60, 50, 30), (1, 50, 1), (7, 0, 0), (7, 100, 7)]
    )
    def test_shares_round_up(self, units, percent, share):
        assert rules.share_units(units, percent=percent) == share
