"""Derive a subscription's status at an instant: a pure function of its row and the clock.

Nothing runs in the background for correctness; settling only writes down what is true already.
Confluence: whatever was written at t1, the status at t2 ≥ t1 is the same.
At one instant: cancel_at, end_at, start or trial end, scheduled change, resume_at, grace;
a final state ends the walk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

INCOMPLETE_WINDOW = timedelta(hours=23)
ACCESS = frozenset({"trialing", "active", "past_due"})
FINAL = frozenset({"canceled", "expired"})
CANCELABLE = frozenset({"trialing", "active", "past_due", "unpaid", "paused"})


class StatusFacts(Protocol):
    """The columns of a subscription that decide its status."""

    status: str
    anchor_at: datetime
    start_at: datetime
    requires_payment: bool
    incomplete_expires_at: datetime | None
    trial_ends_at: datetime | None
    trial_end_policy: str
    has_payment_method: bool
    grace_seconds: int
    grace_until: datetime | None
    cancel_at: datetime | None
    end_at: datetime | None
    resume_at: datetime | None
    change_at: datetime | None
    change_to_id: int | None
    plan_version_id: int
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The state of a subscription at an instant, constant until `next_change_at`."""

    status: str
    plan_version_id: int
    anchor_at: datetime
    incomplete_expires_at: datetime | None
    grace_until: datetime | None
    resume_at: datetime | None
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
    before: Standing
    after: Standing


def standing(row: StatusFacts, *, at: datetime) -> Standing:
    """Return the state in effect at the instant."""
    state = _stored(row)
    for passed in _walk(row, at=at):
        state = passed.after
    upcoming = _next_event(row, state)
    return replace(state, next_change_at=upcoming[0] if upcoming else None)


def passed_boundaries(row: StatusFacts, *, at: datetime) -> tuple[Boundary, ...]:
    """Return every change that the clock brought up to the instant, oldest first."""
    return tuple(_walk(row, at=at))


def _stored(row: StatusFacts) -> Standing:
    return Standing(
        status=row.status,
        plan_version_id=row.plan_version_id,
        anchor_at=row.anchor_at,
        incomplete_expires_at=row.incomplete_expires_at,
        grace_until=row.grace_until,
        resume_at=row.resume_at,
        change_at=row.change_at,
        ended_at=row.ended_at,
        next_change_at=None,
    )


def _walk(row: StatusFacts, *, at: datetime) -> Iterator[Boundary]:
    state = _stored(row)
    upcoming = _next_event(row, state)
    while upcoming is not None and upcoming[0] <= at:
        after = _after(row, state, event=upcoming[2], instant=upcoming[0])
        yield Boundary(at=upcoming[0], event=upcoming[2], before=state, after=after)
        state = after
        upcoming = _next_event(row, state)


def _next_event(row: StatusFacts, state: Standing) -> tuple[datetime, int, str] | None:
    """Return instant, rank at one instant and name of what the clock brings next."""
    live = state.status in CANCELABLE
    candidates = (
        (row.cancel_at if live else None, 0, "cancel_at_reached"),
        (row.end_at if live else None, 1, "term_completed"),
        (row.start_at if state.status == "scheduled" else None, 2, "start_reached"),
        (row.trial_ends_at if state.status == "trialing" else None, 2, _trial_end_event(row)),
        (
            state.incomplete_expires_at if state.status == "incomplete" else None,
            2,
            "incomplete_window_elapsed",
        ),
        (state.change_at if live else None, 3, "scheduled_change_reached"),
        (state.resume_at if state.status == "paused" else None, 4, "resume_at_reached"),
        (state.grace_until if state.status == "past_due" else None, 5, "grace_elapsed"),
    )
    return min(
        ((instant, rank, event) for instant, rank, event in candidates if instant is not None),
        default=None,
    )


def _trial_end_event(row: StatusFacts) -> str:
    return "trial_ended_with_pm" if row.has_payment_method else "trial_ended_no_pm"


def _after(row: StatusFacts, state: Standing, *, event: str, instant: datetime) -> Standing:
    """Return the state after one event of the clock. Source: the transition vectors."""
    match event:
        case "start_reached":
            after = _started(row, state, instant=instant)
        case "trial_ended_with_pm":
            after = replace(state, status="active", anchor_at=instant)
        case "trial_ended_no_pm":
            after = _trial_lapsed(row, state, instant=instant)
        case "scheduled_change_reached":
            target_id = row.change_to_id or state.plan_version_id
            after = replace(state, plan_version_id=target_id, change_at=None)
        case "resume_at_reached":
            after = replace(state, status="active", resume_at=None)
        case "grace_elapsed":
            after = replace(state, status="unpaid")
        case "cancel_at_reached":
            after = replace(state, status="canceled", ended_at=instant)
        case _:
            after = replace(state, status="expired", ended_at=instant)
    return after


def _started(row: StatusFacts, state: Standing, *, instant: datetime) -> Standing:
    if row.requires_payment:
        expires_at = row.incomplete_expires_at or instant + INCOMPLETE_WINDOW
        return replace(state, status="incomplete", incomplete_expires_at=expires_at)
    if row.trial_ends_at is not None and row.trial_ends_at > instant:
        return replace(state, status="trialing")
    return replace(state, status="active")


def _trial_lapsed(row: StatusFacts, state: Standing, *, instant: datetime) -> Standing:
    match row.trial_end_policy:
        case "pause":
            return replace(state, status="paused")
        case "create_invoice":
            grace_until = instant + timedelta(seconds=row.grace_seconds)
            return replace(state, status="past_due", anchor_at=instant, grace_until=grace_until)
        case _:
            return replace(state, status="canceled", ended_at=instant)
