"""Prorations held to the vectors; what is consumed and credited adds up to what was billed."""

import json
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import proration
from billing.proration import Share

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "proration.json").read_text())


def instant(text) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def share_of(vector) -> Share:
    period = {
        "starts_at": instant(vector["period"]["start"]),
        "ends_at": instant(vector["period"]["end"]),
        "at": instant(vector["at"]),
    }
    if vector["method"] == "day":
        return proration.by_day(**period, time_zone=vector["timezone"])
    return proration.by_second(**period)


class TestVectors:
    @pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["id"])
    def test_give_back_and_charge_what_they_say(self, vector):
        share = share_of(vector)
        assert (share.remaining, share.total) == (vector["remaining"], vector["total"])
        given_back = proration.proration_credit(
            billed_minor=vector["old_line_amount"], credited_minor=0, share=share
        )
        charged = proration.charge(amount_minor=vector["new_period_amount"], share=share)
        expected = vector["expected"]
        assert (given_back, charged) == (expected["credit"], expected["charge"])
        assert given_back + charged == expected["net"]
        if "full_new_period_charge" in vector:
            new_period = proration.charge(
                amount_minor=vector["full_new_period_charge"], share=proration.WHOLE
            )
            assert given_back + new_period == vector["expected_net_with_new_period"]

    @pytest.mark.parametrize("vector", VECTORS["ratio_vectors"], ids=lambda vector: vector["id"])
    def test_count_local_days(self, vector):
        share = proration.days(
            first=date.fromisoformat(vector["from"]),
            end=date.fromisoformat(vector["to"]),
            starts_on=date.fromisoformat(vector["period"][0]),
            ends_on=date.fromisoformat(vector["period"][1]),
        )
        assert (share.remaining, share.total) == (vector["days"], vector["total"])
        expected = vector["expected_ratio_9dp_half_up"]
        assert int(share.ratio * 10**9 + Fraction(1, 2)) == int(Fraction(expected) * 10**9)


class TestConservation:
    @pytest.mark.parametrize("vector", VECTORS["conservation"], ids=lambda vector: vector["id"])
    def test_holds_over_several_changes_of_one_period(self, vector):
        starts_at, ends_at = (instant(each) for each in vector["period"])
        billed: dict[str, int] = {}
        since: dict[str, datetime] = {}
        credited: dict[str, int] = {}
        for step in vector["steps"]:
            at = instant(step["at"])
            if "credit_on" in step:
                plan = step["credit_on"]
                share = proration.by_second(starts_at=since[plan], ends_at=ends_at, at=at)
                credited[plan] = -proration.proration_credit(
                    billed_minor=billed[plan], credited_minor=0, share=share
                )
                assert -credited[plan] == step["credit"]
            plan = step["line"]["plan"]
            share = proration.by_second(starts_at=starts_at, ends_at=ends_at, at=at)
            billed[plan] = proration.charge(amount_minor=vector["plan_amount"][plan], share=share)
            since[plan] = at
            assert billed[plan] == step["line"]["amount"]
        consumed = {plan: amount - credited.get(plan, 0) for plan, amount in billed.items()}
        assert consumed == vector["expected"]["consumed"]
        assert sum(consumed.values()) == vector["expected"]["sum"]

    @given(st.integers(0, 10**9), st.lists(st.integers(0, 2_592_000), min_size=1, max_size=5))
    def test_never_gives_back_more_than_was_billed(self, billed_minor, seconds):
        starts_at = datetime(2025, 4, 1, tzinfo=UTC)
        ends_at = starts_at + timedelta(days=30)
        credited = 0
        for second in seconds:
            share = proration.by_second(
                starts_at=starts_at, ends_at=ends_at, at=starts_at + timedelta(seconds=second)
            )
            credited -= proration.proration_credit(
                billed_minor=billed_minor, credited_minor=credited, share=share
            )
            assert 0 <= credited <= billed_minor

    def test_clamps_an_instant_before_the_period_to_all_of_it(self):
        starts_at = datetime(2025, 4, 1, tzinfo=UTC)
        share = proration.by_second(
            starts_at=starts_at,
            ends_at=starts_at + timedelta(days=30),
            at=starts_at - timedelta(days=1),
        )
        assert share.ratio == 1
