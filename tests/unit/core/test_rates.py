"""Rate limits: exact, all or nothing, and told truthfully."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import rates
from core.rates import Limit, Limited

MINUTE = Limit(name="minute", requests=3, seconds=60)
HOUR = Limit(name="hour", requests=5, seconds=3600)
limits = st.builds(
    Limit,
    name=st.just("any"),
    requests=st.integers(1, 50),
    seconds=st.integers(1, 7200),
)


def limited(*limits: Limit) -> list[Limited]:
    return [Limited(key=limit.name, limit=limit) for limit in limits]


def run(limits_asked, instants_us):
    """Return the verdicts on requests at the instants, one after another."""
    marks, found = tuple(0 for _ in limits_asked), []
    for now_us in instants_us:
        verdict = rates.decide(limited(*limits_asked), marks=marks, now_us=now_us)
        marks = verdict.marks
        found.append(verdict)
    return found


class TestDecide:
    def test_allows_as_many_as_the_limit_at_once_and_tells_what_remains(self):
        found = run([MINUTE], [0] * 4)
        assert [each.is_allowed for each in found] == [True, True, True, False]
        assert [each.standings[0].remaining for each in found] == [2, 1, 0, 0]
        assert [each.standings[0].seconds_to_full for each in found] == [20, 40, 60, 60]
        assert found[-1].retry_after_seconds == 20

    def test_allows_one_more_exactly_when_it_said(self):
        found = run([MINUTE], [0, 0, 0, 19_999_999, 20_000_000])
        assert [each.is_allowed for each in found[3:]] == [False, True]

    def test_under_several_limits_takes_from_all_or_none(self):
        found = run([MINUTE, HOUR], [0] * 3 + [60_000_000] * 3)
        assert [each.is_allowed for each in found] == [True] * 5 + [False]
        assert found[-1].marks == found[-2].marks
        assert found[-1].retry_after_seconds == 660
        assert found[-1].tightest.limit == HOUR

    @given(limit=limits, gaps=st.lists(st.integers(0, 10**7), min_size=1, max_size=80))
    def test_never_allows_more_than_the_burst_and_the_flow(self, limit, gaps):
        instants, now = [], 0
        for gap in gaps:
            now += gap
            instants.append(now)
        allowed = [
            at for at, each in zip(instants, run([limit], instants), strict=True) if each.is_allowed
        ]
        for start in range(len(allowed)):
            for end in range(start, len(allowed)):
                span = allowed[end] - allowed[start]
                assert end - start + 1 <= limit.requests + span // limit.interval_us

    @given(limit=limits, instants=st.lists(st.integers(0, 10**9), min_size=1, max_size=40))
    def test_refuses_nothing_that_waited_as_told(self, limit, instants):
        marks, now = (0,), 0
        for instant in sorted(instants):
            now = max(now, instant)
            verdict = rates.decide(limited(limit), marks=marks, now_us=now)
            if not verdict.is_allowed:
                now += verdict.retry_after_us
                verdict = rates.decide(limited(limit), marks=marks, now_us=now)
                assert verdict.is_allowed
            marks = verdict.marks

    def test_without_limits_allows(self):
        verdict = rates.decide([], marks=[], now_us=0)
        assert (verdict.is_allowed, verdict.retry_after_us) == (True, 0)

    def test_that_is_allowed_waits_for_nothing_and_counts_whole_requests_and_seconds(self):
        verdict = rates.decide(limited(MINUTE), marks=[7], now_us=8)
        assert (verdict.is_allowed, verdict.retry_after_us) == (True, 0)
        standing = rates.standing(MINUTE, mark=8 + 30_000_001, now_us=8)
        assert (standing.remaining, standing.seconds_to_full) == (1, 31)
        assert rates.standing(MINUTE, mark=7, now_us=8).seconds_to_full == 0

    def test_takes_one_mark_for_each_limit(self):
        with pytest.raises(ValueError, match="zip"):
            rates.decide(limited(MINUTE), marks=[], now_us=0)
        with pytest.raises(ValueError, match="zip"):
            rates.decide(limited(MINUTE), marks=[0, 0], now_us=0)

    @pytest.mark.parametrize(("requests", "seconds"), [(3, 1), (7, 60), (1000, 1)])
    def test_rounds_the_interval_up_so_that_no_window_lets_one_more_in(self, requests, seconds):
        limit = Limit(name="x", requests=requests, seconds=seconds)
        assert limit.interval_us * requests >= seconds * rates.SECOND_US
