"""Effective status: every vector, and confluence."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subscriptions import status

PATH = Path(__file__).parents[2] / "vectors" / "transitions.json"
VECTORS = json.loads(PATH.read_text())
EFFECTIVE = VECTORS["effective_status_vectors"]
ALLOWED = {
    (each["from"], each["event"]): each["to"]
    for each in VECTORS["matrix"]
    if each["result"] == "ok"
}
START = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(kw_only=True)
class Row:
    status: str = "active"
    price_id: int | None = 1
    quantity: int = 1
    past_due_since: datetime | None = None
    past_due_policy: str = "unpaid"
    failed_payments: int = 0
    paused_at: datetime | None = None
    change_price_id: int | None = None
    change_quantity: int | None = None
    change_kind: str = ""
    change_resets_anchor: bool = False
    anchor_at: datetime = START
    start_at: datetime = START
    requires_payment: bool = False
    incomplete_expires_at: datetime | None = None
    trial_ends_at: datetime | None = None
    trial_end_policy: str = "cancel"
    has_payment_method: bool = False
    grace_seconds: int = 604_800
    grace_until: datetime | None = None
    cancel_at: datetime | None = None
    end_at: datetime | None = None
    resume_at: datetime | None = None
    change_at: datetime | None = None
    change_to_id: int | None = None
    plan_version_id: int = 1
    ended_at: datetime | None = None


def row_of(vector) -> Row:
    given_row = dict(vector["row"])
    if "trial_end" in given_row:
        given_row["trial_ends_at"] = given_row.pop("trial_end")
    return Row(
        **{
            name: datetime.fromisoformat(value)
            if name.endswith(("_at", "_until")) and value
            else value
            for name, value in given_row.items()
        }
    )


def settled(row: Row, *, at: datetime) -> Row:
    """Return the row as settling would write it."""
    for passed in status.passed_boundaries(row, at=at):
        after = passed.after
        row = replace(row, **asdict(after))
    return row


@pytest.mark.parametrize("vector", EFFECTIVE, ids=[each["id"] for each in EFFECTIVE])
def test_vector_holds(vector):
    standing = status.standing(row_of(vector), at=datetime.fromisoformat(vector["at"]))
    assert {
        "effective_status": standing.status,
        "access": standing.access,
    } == vector["expected"]


offsets = st.none() | st.integers(0, 40).map(lambda days: START + timedelta(days=days))
rows = st.builds(
    Row,
    status=st.sampled_from(VECTORS and sorted(VECTORS["states"])),
    start_at=st.integers(0, 40).map(lambda days: START + timedelta(days=days)),
    requires_payment=st.booleans(),
    incomplete_expires_at=offsets,
    trial_ends_at=offsets,
    trial_end_policy=st.sampled_from(["cancel", "pause", "create_invoice"]),
    has_payment_method=st.booleans(),
    grace_seconds=st.sampled_from([0, 86_400, 604_800]),
    grace_until=offsets,
    cancel_at=offsets,
    end_at=offsets,
    resume_at=offsets,
    change_at=offsets,
    change_to_id=st.just(2),
)
moments = st.integers(0, 45 * 24).map(lambda hours: START + timedelta(hours=hours))


class TestStanding:
    @given(row=rows, first=moments, second=moments)
    def test_is_the_same_whenever_it_was_written_down(self, row, first, second):
        first, second = sorted((first, second))
        assert status.standing(settled(row, at=first), at=second) == status.standing(row, at=second)

    @given(row=rows, at=moments)
    def test_stays_the_same_until_its_next_change(self, row, at):
        standing = status.standing(row, at=at)
        if standing.next_change_at is not None:
            assert standing.next_change_at > at
            just_before = standing.next_change_at - timedelta(microseconds=1)
            assert status.standing(row, at=just_before) == standing

    @given(row=rows, at=moments)
    def test_moves_only_as_the_matrix_allows(self, row, at):
        for passed in status.passed_boundaries(row, at=at):
            allowed = ALLOWED[passed.before.status, passed.event]
            assert passed.after.status in allowed

    def test_walks_every_boundary_at_its_own_instant_oldest_first(self):
        day = timedelta(days=1)
        row = Row(
            status="trialing",
            trial_ends_at=START + day,
            trial_end_policy="create_invoice",
            grace_seconds=86_400,
            cancel_at=START + 5 * day,
        )
        passed = status.passed_boundaries(row, at=START + 10 * day)
        assert [(each.at, each.event, each.after.status) for each in passed] == [
            (START + day, "trial_ended_no_pm", "past_due"),
            (START + 2 * day, "grace_elapsed", "unpaid"),
            (START + 5 * day, "cancel_at_reached", "canceled"),
        ]
        assert passed[-1].after.ended_at == START + 5 * day

    def test_of_a_converted_trial_counts_from_the_trials_end(self):
        row = Row(
            status="trialing",
            trial_ends_at=START,
            has_payment_method=True,
            anchor_at=START - timedelta(14),
        )
        assert status.standing(row, at=START).anchor_at == START

    def test_takes_the_scheduled_plan_at_its_instant(self):
        row = Row(change_at=START, change_to_id=2)
        before = status.standing(row, at=START - timedelta(microseconds=1))
        assert (before.plan_version_id, status.standing(row, at=START).plan_version_id) == (1, 2)
