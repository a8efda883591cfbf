"""Replay: every vector, and that long timelines are leapt over."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.periods import Interval, Recurrence
from metering import burndown
from metering.services import replay
from metering.services.replay.timelines import Grant, Timeline, Usage
from metering.sources import Source

PATH = Path(__file__).parents[2] / "vectors" / "replay.json"
CASES = json.loads(PATH.read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_vector_holds(case):
    answer = replay.replay(case["timeline"])
    if "error" in case:
        assert answer["error"]["code"] == case["error"], answer
        return
    assert isinstance(answer, list), answer
    told = zip(answer, case["states"], strict=True)
    assert [{name: state[name] for name in facts} for state, facts in told] == case["states"]


REFUSED = {
    "The timeline": ({"measure_from": None}, "/measure_from is required."),
    "a grant": (
        {"grants": [{"id": "g", "amount": -1, "effective_at": "2024-01-01T00:00:00Z"}]},
        "/grants/0/amount must be an integer or a decimal string, at least 0.",
    ),
    "a return": (
        {
            "usage": [
                {
                    "id": "u",
                    "at": "2024-01-01T00:00:00Z",
                    "value": 5,
                    "returns": [{"at": "2024-01-02T00:00:00", "value": 1}],
                }
            ]
        },
        "/usage/0/returns/0/at has no offset.",
    ),
    "an unknown field": ({"resets": [{"when": 1}]}, "/resets/0/when is not known."),
}


@pytest.mark.parametrize(("wrong", "detail"), REFUSED.values(), ids=REFUSED)
def test_refusal_names_its_place(wrong, detail):
    timeline = {"measure_from": "2024-01-01T00:00:00Z"} | wrong
    assert replay.replay(timeline)["error"]["detail"] == detail


START = datetime(2024, 1, 1, tzinfo=UTC)
END = datetime(2025, 1, 1, tzinfo=UTC)
MINUTELY = Recurrence(anchor=START, time_zone="UTC", interval=Interval.MINUTE)


@pytest.fixture
def work(monkeypatch):
    """Count the resets and recurrences that a replay really applies."""
    done = {"reset": 0, "recur": 0}

    def counted(name):
        applied = getattr(burndown, name)

        def count(*args, **kwargs):
            done[name] += 1
            return applied(*args, **kwargs)

        monkeypatch.setattr(burndown, name, count)

    for name in done:
        counted(name)
    return done


def year_of_minutes(**fields):
    source = Source(id="g", amount=10, priority=1, effective_at=START, created_at=START, **fields)
    return Timeline(
        measure_from=START,
        queries=(END,),
        usage_period=MINUTELY,
        grants=(Grant(source=source),),
        usage=(Usage(id="u", at=START, units=4),),
    )


class TestLongTimelines:
    def test_leap_over_what_changes_nothing(self, work):
        (state,) = replay.states(year_of_minutes(recurrence=MINUTELY))
        assert (state.balances, state.usage_in_period) == ({"g": 10}, 0)
        assert state.period.starts_at == END
        assert state.period.ends_at == datetime(2025, 1, 1, 0, 1, tzinfo=UTC)
        assert work == {"reset": 2, "recur": 2}

    def test_count_the_refills_between(self, work):
        (state,) = replay.states(year_of_minutes(refills=True, rollover_max=None))
        assert state.balances == {"g": 6 + 10 * 366 * 24 * 60}
        assert work == {"reset": 2, "recur": 0}

    def test_are_walked_while_overage_waits(self, work):
        timeline = year_of_minutes(refills=True, rollover_max=0)
        usage = (Usage(id="u", at=START, units=10_000),)
        hungry = Timeline(
            measure_from=START,
            queries=(datetime(2024, 1, 2, tzinfo=UTC),),
            usage_period=MINUTELY,
            grants=timeline.grants,
            usage=usage,
            preserve_overage_at_reset=True,
        )
        (state,) = replay.states(hungry)
        assert (state.balance, state.overage, state.grant_used_in_period) == (10, 0, 0)
        assert 1000 <= work["reset"] <= 1002

    def test_do_not_touch_their_facts(self):
        timeline = year_of_minutes(recurrence=MINUTELY)
        before = [(grant.source.balance, grant.source.epoch) for grant in timeline.grants]
        first = replay.states(timeline)
        assert replay.states(timeline) == first
        assert [(each.source.balance, each.source.epoch) for each in timeline.grants] == before
