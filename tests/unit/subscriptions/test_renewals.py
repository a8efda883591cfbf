"""Billing periods open once, in order, and it does not matter when that is written down."""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from core.zones import Zones
from subscriptions import renewals, status
from subscriptions.states import State
from tests.unit.subscriptions.test_transitions import state

START = datetime(2026, 1, 31, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class Price:
    interval: str = "month"
    interval_count: int = 1


@dataclass(kw_only=True)
class Row(State):
    renewed_until: datetime | None = None
    prices = {1: Price(), 2: Price("week"), None: None}

    @property
    def zones(self):
        return Zones(time_zone="UTC")

    @property
    def price(self):
        return self.prices[self.price_id]


def row_of(**changes) -> Row:
    quiet = dict.fromkeys(
        ("cancel_at", "end_at", "resume_at", "change_at", "change_to_id", "grace_until")
    )
    base = {"anchor_at": START, "start_at": START, "trial_ends_at": None, "change_kind": ""}
    return Row(**(asdict(state()) | quiet | base | changes))


def walk(row: Row, *, at: datetime) -> tuple[Row, list[tuple]]:
    """Return the row as settling would write it, and what it would tell."""
    row, told = replace(row), []
    while (due := renewals.next_due(row)) is not None and due.at <= at:
        passed = renewals.advance(row, due=due)
        told.append((passed.at, passed.event, row.status, passed.opened))
    return row, told


offsets = st.none() | st.integers(0, 40).map(lambda days: START + timedelta(days=days))
rows = st.builds(
    row_of,
    status=st.sampled_from(
        ["scheduled", "incomplete", "trialing", "past_due", "unpaid", "paused", "canceled"]
    ),
    price_id=st.sampled_from([1, 2, None]),
    start_at=st.integers(0, 30).map(lambda days: START + timedelta(days=days)),
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
    change_price_id=st.sampled_from([1, 2, None]),
    change_resets_anchor=st.booleans(),
)
actives = st.builds(
    lambda row, price_id: replace(
        row, status="active", price_id=price_id, anchor_at=START, renewed_until=START + 7 * DAY
    ),
    rows,
    st.just(2),
)
moments = st.integers(0, 80 * 24).map(lambda hours: START + timedelta(hours=hours))


class TestWalk:
    @given(row=rows | actives, first=moments, second=moments)
    def test_ends_the_same_whenever_it_was_written_down(self, row, first, second):
        first, second = sorted((first, second))
        settled, told = walk(row, at=first)
        settled, told_later = walk(settled, at=second)
        assert (settled, told + told_later) == walk(row, at=second)

    @given(row=rows | actives, at=moments)
    def test_agrees_with_the_status_that_is_read_without_it(self, row, at):
        settled, _ = walk(row, at=at)
        read = status.standing(row, at=at)
        assert (read.status, read.plan_version_id, read.price_id, read.anchor_at) == (
            settled.status,
            settled.plan_version_id,
            settled.price_id,
            settled.anchor_at,
        )

    @given(row=rows | actives, at=moments)
    def test_opens_no_billing_period_twice(self, row, at):
        is_same_interval = row.change_price_id in {None, row.price_id}
        is_anew = row.change_resets_anchor or row.status == "trialing"
        assume(row.change_at is None or is_same_interval or is_anew)  # planning writes no other
        _, told = walk(row, at=at)
        opened = [period.starts_at for *_, period in told if period is not None]
        assert len(set(opened)) == len(opened)


class TestRenewal:
    def test_walks_each_boundary_from_the_anchor_oldest_first(self):
        row = row_of(renewed_until=datetime(2026, 2, 28, tzinfo=UTC))
        settled, told = walk(row, at=datetime(2026, 5, 1, tzinfo=UTC))
        assert [(at.month, at.day, event) for at, event, *_ in told] == [
            (2, 28, "period_ended_renew"),
            (3, 31, "period_ended_renew"),
            (4, 30, "period_ended_renew"),
        ]
        assert settled.renewed_until == datetime(2026, 5, 31, tzinfo=UTC)

    def test_is_none_where_the_subscription_ends_at_the_boundary(self):
        ends_at = datetime(2026, 2, 28, tzinfo=UTC)
        _, told = walk(row_of(renewed_until=ends_at, cancel_at=ends_at), at=ends_at + 9 * DAY)
        assert [event for _, event, *_ in told] == ["cancel_at_reached"]

    def test_follows_the_change_of_its_instant(self):
        ends_at = datetime(2026, 2, 28, tzinfo=UTC)
        row = row_of(
            renewed_until=ends_at,
            change_at=ends_at,
            change_to_id=2,
            change_price_id=2,
            change_resets_anchor=True,
        )
        settled, told = walk(row, at=ends_at)
        assert [event for _, event, *_ in told] == [
            "scheduled_change_reached",
            "period_ended_renew",
        ]
        assert told[-1][3].ends_at == settled.renewed_until == ends_at + 7 * DAY

    def test_of_a_period_that_began_in_a_pause_comes_when_it_resumes(self):
        ends_at = datetime(2026, 2, 28, tzinfo=UTC)
        resume_at = datetime(2026, 4, 2, tzinfo=UTC)
        row = row_of(status="paused", renewed_until=ends_at, resume_at=resume_at)
        settled, told = walk(row, at=resume_at)
        assert [(at, event) for at, event, *_ in told] == [(resume_at, "resume_at_reached")]
        assert told[0][3].starts_at == datetime(2026, 3, 31, tzinfo=UTC)
        assert settled.renewed_until == datetime(2026, 4, 30, tzinfo=UTC)

    def test_of_a_pause_within_one_period_is_none(self):
        ends_at = datetime(2026, 2, 28, tzinfo=UTC)
        row = row_of(status="paused", renewed_until=ends_at, resume_at=ends_at - DAY)
        settled, told = walk(row, at=ends_at - DAY)
        assert [period for *_, period in told] == [None]
        assert settled.renewed_until == ends_at

    def test_of_a_trial_opens_the_first_period_at_its_end(self):
        for policy, method, after in (
            ("cancel", True, "active"),
            ("create_invoice", False, "past_due"),
        ):
            row = row_of(
                status="trialing",
                trial_ends_at=START + 14 * DAY,
                trial_end_policy=policy,
                has_payment_method=method,
            )
            settled, told = walk(row, at=START + 14 * DAY)
            assert (settled.status, told[0][3].starts_at) == (after, START + 14 * DAY)

    def test_never_comes_without_a_price(self):
        row = row_of(price_id=None)
        assert renewals.next_due(row) is None
        assert renewals.open_period(row, at=START) is None
