"""The table of moves: equal to the vectors' exhaustive matrix, and nothing moves besides."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.api import problems
from subscriptions import errors, transitions
from subscriptions.states import Change, Given, State

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "transitions.json").read_text())
MATRIX = VECTORS["matrix"]
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CHANGE = Change(
    plan_version_id=2,
    price_id=2,
    quantity=3,
    kind="upgrade",
    resets_anchor=True,
    effective_at=AT,
)
GIVEN = Given(resume_at=AT + DAY, cancel_at=AT + DAY, change=CHANGE, is_payment_secured=True)


def state(**changes) -> State:
    """Return a row at which every event of the clock has just been reached."""
    row = State(
        status="active",
        plan_version_id=1,
        price_id=1,
        quantity=1,
        anchor_at=AT - 40 * DAY,
        start_at=AT,
        requires_payment=False,
        has_payment_method=False,
        incomplete_expires_at=AT,
        trial_ends_at=AT,
        trial_end_policy="cancel",
        grace_seconds=604_800,
        grace_until=AT,
        past_due_since=None,
        past_due_policy="unpaid",
        failed_payments=0,
        cancel_at=AT,
        end_at=AT,
        paused_at=None,
        resume_at=AT,
        change_at=AT,
        change_to_id=2,
        change_price_id=2,
        change_quantity=3,
        change_kind="downgrade",
        change_resets_anchor=False,
        ended_at=None,
    )
    return replace(row, **changes)


def fitting(event: str, status: str) -> State:
    """Return a row that every guard of the event lets pass."""
    fits = {
        "undo_cancel": {"cancel_at": AT + DAY},
        "schedule_cancel": {"cancel_at": None},
        "pause": {"cancel_at": None},
        "trial_ended_with_pm": {"has_payment_method": True},
    }
    return state(status=status, **fits.get(event, {}))


def taken(row: State, event: str, given: Given = GIVEN) -> State:
    transitions.take(row, event=event, at=AT, given=given)
    return row


class TestTable:
    def test_is_the_matrix_of_the_vectors(self):
        allowed = {
            (each["from"], each["event"]): sorted(each["to"])
            for each in MATRIX
            if each["result"] == "ok"
        }
        assert {key: sorted(move.to) for key, move in transitions.TABLE.items()} == allowed
        assert len(MATRIX) == len(VECTORS["states"]) * len(VECTORS["events"]) == 243

    def test_has_a_choice_exactly_where_a_guard_decides_among_targets(self):
        for key, move in transitions.TABLE.items():
            assert (move.choice is not None) == (len(move.to) > 1), key

    @pytest.mark.parametrize(
        "vector", MATRIX, ids=[f"{each['from']}-{each['event']}" for each in MATRIX]
    )
    def test_moves_or_refuses_as_the_vector_says(self, vector):
        row = fitting(vector["event"], vector["from"])
        before = asdict(row)
        if vector["result"] == "ok":
            assert taken(row, vector["event"]).status in vector["to"]
            return
        with pytest.raises((errors.InvalidTransition, errors.SubscriptionEnded)) as refusal:
            taken(row, vector["event"])
        assert refusal.value.code == vector["code"]
        assert problems.STATUS_BY_CATEGORY[refusal.value.category] == vector["http"]
        assert asdict(row) == before


class TestGuards:
    @pytest.mark.parametrize(
        ("row", "event", "given"),
        [
            (state(cancel_at=AT + DAY), "pause", Given()),
            (state(cancel_at=AT + DAY), "pause", Given(resume_at=AT + DAY)),
            (state(cancel_at=None), "pause", Given(resume_at=AT)),
            (state(status="paused", requires_payment=True), "resume", Given()),
            (state(cancel_at=AT), "schedule_cancel", GIVEN),
            (state(cancel_at=None), "schedule_cancel", Given(cancel_at=AT)),
            (state(cancel_at=None), "schedule_cancel", Given()),
            (state(cancel_at=AT), "undo_cancel", Given()),
            (state(cancel_at=None), "undo_cancel", Given()),
            (state(change_at=None), "release_schedule", Given()),
            (state(), "change_plan_now", Given()),
            (state(cancel_at=AT + DAY), "cancel_at_reached", Given()),
            (state(end_at=None), "term_completed", Given()),
            (state(status="scheduled", start_at=AT + DAY), "start_reached", Given()),
            (
                state(status="trialing", trial_ends_at=AT + DAY, has_payment_method=True),
                "trial_ended_with_pm",
                Given(),
            ),
            (state(status="trialing"), "trial_ended_with_pm", Given()),
            (state(status="trialing", has_payment_method=True), "trial_ended_no_pm", Given()),
        ],
    )
    def test_refuse_and_change_nothing(self, row, event, given):
        before = asdict(row)
        with pytest.raises(errors.InvalidTransition):
            taken(row, event, given)
        assert asdict(row) == before

    def test_let_a_pause_end_before_the_cancellation(self):
        row = taken(state(cancel_at=AT + 2 * DAY), "pause", Given(resume_at=AT + DAY))
        assert (row.status, row.paused_at, row.resume_at) == ("paused", AT, AT + DAY)

    def test_let_a_paid_one_resume_where_its_payment_is_secured(self):
        row = state(status="paused", requires_payment=True)
        taken(row, "resume", Given(is_payment_secured=True))
        assert (row.status, row.has_payment_method, row.resume_at) == ("active", True, None)


class TestChoices:
    @pytest.mark.parametrize(
        ("row", "event", "target"),
        [
            (state(status="scheduled", trial_ends_at=AT + DAY), "start_reached", "trialing"),
            (state(status="scheduled"), "start_reached", "active"),
            (state(status="scheduled", requires_payment=True), "start_reached", "incomplete"),
            (
                state(status="scheduled", requires_payment=True, has_payment_method=True),
                "start_reached",
                "active",
            ),
            (state(status="trialing"), "trial_ended_no_pm", "canceled"),
            (state(status="trialing", trial_end_policy="pause"), "trial_ended_no_pm", "paused"),
            (
                state(status="trialing", trial_end_policy="create_invoice"),
                "trial_ended_no_pm",
                "past_due",
            ),
            (state(status="past_due"), "retries_exhausted", "unpaid"),
            (state(status="past_due", past_due_policy="cancel"), "retries_exhausted", "canceled"),
        ],
    )
    def test_follow_the_row(self, row, event, target):
        assert taken(row, event).status == target


class TestEffects:
    def test_of_a_start_that_waits_for_payment_open_its_window(self):
        row = state(status="scheduled", requires_payment=True, incomplete_expires_at=None)
        assert taken(row, "start_reached").incomplete_expires_at == AT + timedelta(hours=23)

    def test_of_the_first_payment_anchor_the_periods(self):
        row = taken(state(status="incomplete"), "payment_succeeded", Given())
        assert (row.anchor_at, row.has_payment_method) == (AT, True)
        row = taken(state(status="incomplete"), "payment_succeeded", Given(anchor_at=AT - DAY))
        assert row.anchor_at == AT - DAY

    def test_of_a_failure_open_grace_once(self):
        row = taken(state(grace_until=None), "payment_failed")
        assert (row.past_due_since, row.grace_until) == (AT, AT + 7 * DAY)
        transitions.take(row, event="payment_failed", at=AT + DAY, given=Given())
        assert (row.grace_until, row.failed_payments, row.status) == (AT + 7 * DAY, 2, "past_due")

    def test_of_a_success_clear_what_was_due_and_keep_the_anchor(self):
        row = state(status="unpaid", past_due_since=AT, failed_payments=3)
        taken(row, "payment_succeeded")
        assert (row.past_due_since, row.grace_until, row.failed_payments) == (None, None, 0)
        assert (row.status, row.anchor_at) == ("active", AT - 40 * DAY)

    def test_of_a_trial_move_the_anchor_to_its_end(self):
        row = taken(state(status="trialing", has_payment_method=True), "trial_ended_with_pm")
        assert row.anchor_at == AT
        row = taken(state(status="trialing", trial_ends_at=AT + DAY), "trial_converted_early")
        assert (row.trial_ends_at, row.anchor_at, row.has_payment_method) == (AT, AT, True)
        row = taken(state(status="trialing", has_payment_method=True), "payment_failed")
        assert row.has_payment_method is False

    @pytest.mark.parametrize("event", ["cancel_now", "gateway_deleted", "cancel_at_reached"])
    def test_of_an_end_stamp_it_and_drop_the_scheduled_change(self, event):
        row = taken(state(status="paused"), event)
        assert (row.ended_at, row.change_at, row.change_to_id, row.resume_at) == (AT, *[None] * 3)

    def test_of_a_change_move_everything_and_clear_the_schedule(self):
        row = taken(state(), "change_plan_now")
        assert (row.plan_version_id, row.price_id, row.quantity, row.anchor_at) == (2, 2, 3, AT)
        assert (row.change_at, row.change_kind, row.change_quantity) == (None, "", None)

    def test_of_a_scheduled_change_wait_and_let_the_latest_win(self):
        later = replace(CHANGE, effective_at=AT + DAY, plan_version_id=9)
        row = taken(state(), "schedule_change", Given(change=later))
        assert (row.plan_version_id, row.change_at, row.change_to_id) == (1, AT + DAY, 9)
        row.change_at = AT
        taken(row, "scheduled_change_reached")
        assert (row.plan_version_id, row.anchor_at, row.change_at) == (9, AT, None)

    def test_of_cancelling_ahead_can_be_undone(self):
        row = taken(state(cancel_at=None), "schedule_cancel")
        assert row.cancel_at == AT + DAY
        assert taken(row, "undo_cancel").cancel_at is None

    def test_of_releasing_drop_the_change_alone(self):
        row = taken(state(), "release_schedule")
        assert (row.change_at, row.change_to_id, row.cancel_at) == (None, None, AT)
