"""Derive a subscription's status at an instant: a pure function of its row and the clock.

Nothing runs in the background for correctness; settling only writes down what is true already.
Confluence: whatever was written at t1, the status at t2 ≥ t1 is the same.
At one instant: cancel_at, end_at, start or trial end, scheduled change, resume_at, grace;
a final state ends the walk. What each does stands in `subscriptions.transitions`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from subscriptions import transitions
from subscriptions.states import Facts, State, state_of

ACCESS = frozenset({"trialing", "active", "past_due"})


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The state of a subscription at an instant, constant until `next_change_at`."""

    status: str
    plan_version_id: int
    price_id: int | None
    quantity: int
    anchor_at: datetime
    cancel_at: datetime | None
    change_at: datetime | None
    ended_at: datetime | None
    next_change_at: datetime | None

    @property
    def access(self) -> bool:
        """Tell whether the state gives access; what is past due beyond grace is unpaid here."""
        return self.status in ACCESS


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """One change that the clock brought: what happened when, and the state after it."""

    at: datetime
    event: str
    before: State
    after: State


@dataclass(frozen=True, kw_only=True)
class Upcoming:
    """What the clock brings next, and its rank among what it brings at the same instant."""

    at: datetime
    rank: int
    event: str


def standing(row: Facts, *, at: datetime) -> Standing:
    """Return the state in effect at the instant."""
    state = state_of(row)
    for passed in _walk(state, at=at):
        state = passed.after
    following = upcoming(state)
    return Standing(
        status=state.status,
        plan_version_id=state.plan_version_id,
        price_id=state.price_id,
        quantity=state.quantity,
        anchor_at=state.anchor_at,
        cancel_at=state.cancel_at,
        change_at=state.change_at,
        ended_at=state.ended_at,
        next_change_at=following.at if following else None,
    )


def passed_boundaries(row: Facts, *, at: datetime) -> tuple[Boundary, ...]:
    """Return every change that the clock brought up to the instant, oldest first."""
    return tuple(_walk(state_of(row), at=at))


def _walk(state: State, *, at: datetime) -> Iterator[Boundary]:
    following = upcoming(state)
    while following is not None and following.at <= at:
        after = replace(state)
        transitions.take(after, event=following.event, at=following.at)
        yield Boundary(at=following.at, event=following.event, before=state, after=after)
        state = after
        following = upcoming(state)


def upcoming(row: Facts) -> Upcoming | None:
    """Return what the clock brings next; None where nothing changes by itself."""
    live = row.status in transitions.SLOT
    is_trial = row.status == "trialing"
    candidates = (
        (row.cancel_at if live else None, 0, "cancel_at_reached"),
        (row.end_at if live else None, 1, "term_completed"),
        (row.start_at if row.status == "scheduled" else None, 2, "start_reached"),
        (row.trial_ends_at if is_trial else None, 2, _trial_end_event(row)),
        (
            row.incomplete_expires_at if row.status == "incomplete" else None,
            2,
            "incomplete_window_elapsed",
        ),
        (row.change_at if live else None, 3, "scheduled_change_reached"),
        (row.resume_at if row.status == "paused" else None, 4, "resume_at_reached"),
        (row.grace_until if row.status == "past_due" else None, 5, "grace_elapsed"),
    )
    return min(
        (
            Upcoming(at=instant, rank=rank, event=event)
            for instant, rank, event in candidates
            if instant is not None
        ),
        key=lambda each: (each.at, each.rank),
        default=None,
    )


def _trial_end_event(row: Facts) -> str:
    return "trial_ended_with_pm" if row.has_payment_method else "trial_ended_no_pm"
