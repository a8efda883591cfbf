"""Replay over random timelines: against the oracle, and what holds for all of them.

`REPLAY_EXAMPLES=5000 pytest tests/unit/metering/test_replay_properties.py` tries more of them.
"""

import os
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import clock
from metering.services import replay
from tests.unit.metering.replay_oracle import Oracle

BEGIN = datetime(2024, 2, 27, tzinfo=UTC)
many = settings(
    max_examples=int(os.environ.get("REPLAY_EXAMPLES", "100")),
    derandomize="REPLAY_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def hour(number):
    return clock.rfc3339(BEGIN + timedelta(hours=number))


hours = st.integers(0, 72).map(hour)
maybe = st.booleans()
recurrences = st.fixed_dictionaries(
    {
        "interval": st.sampled_from(["PT1H", "PT5H", "PT12H", "P1D", "P2D"]),
        "anchor": st.integers(-100, 100).map(hour),
    }
)
amounts = st.lists(
    st.fixed_dictionaries({"at": hours, "amount": st.integers(0, 12)}),
    max_size=3,
    unique_by=lambda each: each["at"],
)


@st.composite
def grants(draw, name):
    grant = {
        "id": name,
        "amount": draw(st.integers(0, 12)),
        "priority": draw(st.integers(1, 2)),
        "category": draw(st.sampled_from(["paid", "promotional"])),
        "effective_at": draw(hours),
        "expires_at": draw(st.none() | hours),
        "voided_at": draw(st.none() | st.none() | hours),
        "created_at": draw(hours),
        "refill_at_reset": draw(maybe),
        "recurrence": draw(st.none() | recurrences),
        "amounts": draw(amounts),
    }
    least, most = sorted(draw(st.tuples(st.integers(0, 9), st.integers(0, 20))))
    if draw(maybe):
        grant |= {"rollover_min": least, "rollover_max": draw(st.sampled_from([most, None]))}
    return grant


@st.composite
def usages(draw, name):
    usage = {"id": name, "at": draw(hours), "value": draw(st.integers(0, 9)), "returns": []}
    left = usage["value"]
    for _ in range(draw(st.integers(0, 2))):
        units = draw(st.integers(0, left))
        usage["returns"].append({"at": draw(hours), "value": units})
        left -= units
    return usage


@st.composite
def timelines(draw):
    resets = st.fixed_dictionaries(
        {"at": hours},
        optional={"retain_anchor": maybe, "preserve_overage": maybe},
    )
    queries = st.lists(hours, min_size=1, max_size=4)
    measured_from = draw(st.integers(0, 24))
    return {
        "measure_from": hour(measured_from),
        "usage_period": draw(st.none() | recurrences),
        "preserve_overage_at_reset": draw(maybe),
        "is_soft_limit": draw(maybe),
        "grants": [draw(grants(f"g{n}")) for n in range(draw(st.integers(0, 4)))],
        "usage": [draw(usages(f"u{n}")) for n in range(draw(st.integers(0, 8)))],
        "resets": draw(st.lists(resets, max_size=2, unique_by=lambda each: each["at"])),
        "queries": [{"at": max(at, hour(measured_from))} for at in [*draw(queries), hour(75)]],
    }


def shown(answer):
    """Return an oracle's answer as JSON tells it."""
    period = answer["period"]
    ends_at = period["ends_at"] and clock.rfc3339(period["ends_at"])
    return answer | {
        "at": clock.rfc3339(answer["at"]),
        "period": {"starts_at": clock.rfc3339(period["starts_at"]), "ends_at": ends_at},
    }


class TestReplay:
    @many
    @given(timeline=timelines())
    def test_agrees_with_the_oracle(self, timeline):
        assert replay.replay(timeline) == [shown(each) for each in Oracle(timeline).answers()]

    @many
    @given(timeline=timelines(), between=st.lists(hours, max_size=6))
    def test_is_not_changed_by_looking_on_the_way(self, timeline, between):
        start = timeline["measure_from"]
        on_the_way = [{"at": max(at, start)} for at in between]
        split = timeline | {"queries": [*on_the_way, *timeline["queries"]]}
        assert replay.replay(split)[len(between) :] == replay.replay(timeline)

    @many
    @given(timeline=timelines(), data=st.data())
    def test_does_not_mind_the_order_of_the_lists(self, timeline, data):
        shuffled = dict(timeline)
        for name in ("grants", "usage", "resets"):
            shuffled[name] = data.draw(st.permutations(timeline[name]))
        assert replay.replay(shuffled) == replay.replay(timeline)

    @many
    @given(timeline=timelines(), aggregation=st.sampled_from(["sum", "latest"]))
    def test_conserves_units(self, timeline, aggregation):
        for state in replay.replay(timeline | {"aggregation": aggregation}):
            assert sum(state["balances"].values()) == state["balance"]
            assert state["grant_used_in_period"] + state["balance"] == state["granted_in_period"]
            assert state["overage"] == 0 or state["balance"] == 0
            figures = ("overage", "usage_in_period", "grant_used_in_period")
            assert min(state[name] for name in figures) >= 0
            assert min(state["balances"].values(), default=0) >= 0

    @many
    @given(timeline=timelines())
    def test_covers_what_is_used_but_for_the_overage(self, timeline):
        """Where nothing is cut or carried into the period, used is covered or overage."""
        kept = [grant | {"amounts": []} for grant in timeline["grants"]]
        whole = timeline | {"grants": kept, "resets": [], "usage_period": None}
        for state in replay.replay(whole):
            covered = state["usage_in_period"] - state["overage"]
            assert state["grant_used_in_period"] == covered
