"""Say in one table what every event does to a subscription in every state: pure.

A move that is not in the table does not exist. Services act from it, the clock's walk in
`subscriptions.status` acts from it, and a test holds it equal to the exhaustive vectors.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from subscriptions import errors
from subscriptions.states import NOTHING, Facts, Given

INCOMPLETE_WINDOW = timedelta(hours=23)
FINAL = frozenset({"canceled", "expired"})
SLOT = ("trialing", "active", "past_due", "unpaid", "paused")
OPEN = ("scheduled", "incomplete", *SLOT)
CANCELABLE = ("trialing", "active", "past_due", "paused")


Guard = Callable[[Facts, datetime, Given], str]
Choice = Callable[[Facts, datetime], str]
Effect = Callable[[Facts, datetime, Given], None]


def _allow(_: Facts, __: datetime, ___: Given) -> str:
    return ""


def _leave(_: Facts, __: datetime, ___: Given) -> None:
    """Change no column but the status."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """What one event does in one state: the reason that refuses it or "", targets, effect."""

    to: tuple[str, ...]
    guard: Guard = _allow
    choice: Choice | None = None
    effect: Effect = _leave


def take(row: Facts, *, event: str, at: datetime, given: Given = NOTHING) -> None:
    """Apply the event to the row: its effect, then its new status. Nothing is stored.

    :raises SubscriptionEnded: for an event that a final state does not know.
    :raises InvalidTransition: for one that another state does not know, or a guard refuses.
    """
    move = TABLE.get((row.status, event))
    if move is None:
        raise _refusal(row.status, event)
    reason = move.guard(row, at, given)
    if reason:
        raise errors.InvalidTransition(reason, facts={"status": row.status, "event": event})
    target = move.to[0] if move.choice is None else move.choice(row, at)
    move.effect(row, at, given)
    row.status = target


def _refusal(status: str, event: str) -> errors.SubscriptionEnded | errors.InvalidTransition:
    facts = {"status": status, "event": event}
    if status in FINAL:
        return errors.SubscriptionEnded(f"The subscription is {status}.", facts=facts)
    return errors.InvalidTransition(
        f"A subscription that is {status} knows no {event.replace('_', ' ')}.", facts=facts
    )


def _may_pause(row: Facts, at: datetime, given: Given) -> str:
    if given.resume_at is not None and given.resume_at <= at:
        return "A pause ends after it begins."
    if row.cancel_at is None or (given.resume_at is not None and given.resume_at < row.cancel_at):
        return ""
    return "The subscription is canceled before the pause would end."


def _may_resume(row: Facts, _: datetime, given: Given) -> str:
    if row.requires_payment and not (row.has_payment_method or given.is_payment_secured):
        return "A payment method is needed before the subscription goes on."
    return ""


def _may_cancel_at(row: Facts, at: datetime, given: Given) -> str:
    if row.cancel_at is not None:
        return "The subscription is to be canceled already."
    if given.cancel_at is None or given.cancel_at <= at:
        return "The period has no end ahead; cancel now instead."
    return ""


def _may_undo_cancel(row: Facts, at: datetime, _: Given) -> str:
    if row.cancel_at is None or at >= row.cancel_at:
        return "No cancellation is scheduled."
    return ""


def _may_release(row: Facts, _: datetime, __: Given) -> str:
    return "" if row.change_at is not None else "No change is scheduled."


def _may_change(_: Facts, __: datetime, given: Given) -> str:
    return "" if given.change is not None else "The change names no target."


def _reached(column: str) -> Guard:
    """Return the guard of an event of the clock: its instant is set and not ahead."""

    def guard(row: Facts, at: datetime, _: Given) -> str:
        instant: datetime | None = getattr(row, column)
        return "" if instant is not None and instant <= at else f"{column} is not reached."

    return guard


def _trial_lapses(row: Facts, at: datetime, given: Given) -> str:
    if row.has_payment_method:
        return "There is a payment method."
    return _reached("trial_ends_at")(row, at, given)


def _trial_converts(row: Facts, at: datetime, given: Given) -> str:
    if not row.has_payment_method:
        return "There is no payment method."
    return _reached("trial_ends_at")(row, at, given)


def _after_start(row: Facts, at: datetime) -> str:
    if row.trial_ends_at is not None and row.trial_ends_at > at:
        return "trialing"
    return "incomplete" if row.requires_payment and not row.has_payment_method else "active"


def _after_lapse(row: Facts, _: datetime) -> str:
    return {"pause": "paused", "create_invoice": "past_due"}.get(row.trial_end_policy, "canceled")


def _after_retries(row: Facts, _: datetime) -> str:
    return "canceled" if row.past_due_policy == "cancel" else "unpaid"


def _start(row: Facts, at: datetime, _: Given) -> None:
    if _after_start(row, at) == "incomplete":
        row.incomplete_expires_at = row.incomplete_expires_at or at + INCOMPLETE_WINDOW


def _first_payment(row: Facts, at: datetime, given: Given) -> None:
    row.anchor_at = given.anchor_at or at
    row.has_payment_method = True


def _convert(row: Facts, at: datetime, _: Given) -> None:
    row.anchor_at = at


def _convert_early(row: Facts, at: datetime, _: Given) -> None:
    row.trial_ends_at = at
    row.anchor_at = at
    row.has_payment_method = True


def _lapse(row: Facts, at: datetime, _: Given) -> None:
    target = _after_lapse(row, at)
    if target == "canceled":
        _close(row, at)
    elif target == "past_due":
        row.anchor_at = at
        _open_grace(row, at)
    else:
        row.paused_at = at


def _lose_payment_method(row: Facts, _: datetime, __: Given) -> None:
    row.has_payment_method = False


def _fail_first(row: Facts, at: datetime, _: Given) -> None:
    row.failed_payments = 1
    _open_grace(row, at)


def _fail_again(row: Facts, _: datetime, __: Given) -> None:
    """Count the retry; grace is set once and never extended."""
    row.failed_payments += 1


def _open_grace(row: Facts, at: datetime) -> None:
    row.past_due_since = at
    row.grace_until = at + timedelta(seconds=row.grace_seconds)


def _recover(row: Facts, _: datetime, __: Given) -> None:
    row.past_due_since, row.grace_until, row.failed_payments = None, None, 0
    row.has_payment_method = True


def _exhaust(row: Facts, at: datetime, _: Given) -> None:
    if _after_retries(row, at) == "canceled":
        _close(row, at)


def _pause(row: Facts, at: datetime, given: Given) -> None:
    row.paused_at, row.resume_at = at, given.resume_at


def _resume(row: Facts, _: datetime, given: Given) -> None:
    row.paused_at, row.resume_at = None, None
    row.has_payment_method = row.has_payment_method or given.is_payment_secured


def _end(row: Facts, at: datetime, _: Given) -> None:
    _close(row, at)


def _close(row: Facts, at: datetime) -> None:
    row.ended_at = at
    row.resume_at = None
    _drop_change(row)


def _drop_change(row: Facts) -> None:
    row.change_at, row.change_to_id, row.change_price_id = None, None, None
    row.change_quantity, row.change_kind, row.change_resets_anchor = None, "", False


def _schedule_cancel(row: Facts, _: datetime, given: Given) -> None:
    row.cancel_at = given.cancel_at


def _undo_cancel(row: Facts, _: datetime, __: Given) -> None:
    row.cancel_at = None


def _release(row: Facts, _: datetime, __: Given) -> None:
    _drop_change(row)


def _schedule_change(row: Facts, _: datetime, given: Given) -> None:
    if given.change is not None:
        row.change_at = given.change.effective_at
        row.change_to_id = given.change.plan_version_id
        row.change_price_id = given.change.price_id
        row.change_quantity = given.change.quantity
        row.change_kind = given.change.kind
        row.change_resets_anchor = given.change.resets_anchor


def _change(row: Facts, at: datetime, given: Given) -> None:
    """Move to the target at once; a scheduled change is cleared."""
    if given.change is not None:
        _schedule_change(row, at, given)
        _take_change(row, given.change.effective_at, given)


def _take_change(row: Facts, at: datetime, _: Given) -> None:
    row.plan_version_id = row.change_to_id or row.plan_version_id
    row.price_id = row.change_price_id
    row.quantity = row.change_quantity or row.quantity
    if row.change_resets_anchor:
        row.anchor_at = at
    _drop_change(row)


def _migrate(row: Facts, at: datetime, given: Given) -> None:
    """Move to the new version's limits now; its price follows when the next period begins.

    A change that is scheduled already stays, from the new version where it keeps the plan.
    """
    change = given.change
    if change is None:
        return
    old = row.plan_version_id
    row.plan_version_id = change.plan_version_id
    if row.change_at is None and change.price_id != row.price_id:
        _schedule_change(row, at, given)
    elif row.change_to_id == old:
        row.change_to_id, row.change_price_id = change.plan_version_id, change.price_id


def _each(states: Iterable[str], event: str, move: Move) -> dict[tuple[str, str], Move]:
    """Return the same move for each of the states."""
    return {(state, event): move for state in states}


def _stay(
    states: Iterable[str], event: str, *, guard: Guard = _allow, effect: Effect = _leave
) -> dict[tuple[str, str], Move]:
    """Return a move that leaves each of the states as it is."""
    return {(state, event): Move(to=(state,), guard=guard, effect=effect) for state in states}


TABLE: Mapping[tuple[str, str], Move] = {
    ("scheduled", "start_reached"): Move(
        to=("active", "incomplete", "trialing"),
        guard=_reached("start_at"),
        choice=_after_start,
        effect=_start,
    ),
    ("incomplete", "payment_succeeded"): Move(to=("active",), effect=_first_payment),
    **_stay(("incomplete",), "payment_failed"),
    **_stay(("incomplete",), "payment_action_required"),
    ("incomplete", "incomplete_window_elapsed"): Move(
        to=("expired",), guard=_reached("incomplete_expires_at"), effect=_end
    ),
    ("trialing", "trial_ended_with_pm"): Move(
        to=("active",), guard=_trial_converts, effect=_convert
    ),
    ("trialing", "trial_ended_no_pm"): Move(
        to=("canceled", "past_due", "paused"),
        guard=_trial_lapses,
        choice=_after_lapse,
        effect=_lapse,
    ),
    ("trialing", "trial_converted_early"): Move(to=("active",), effect=_convert_early),
    **_stay(("trialing",), "payment_succeeded"),
    **_stay(("trialing",), "payment_failed", effect=_lose_payment_method),
    **_stay(("active",), "payment_succeeded", effect=_recover),
    ("active", "payment_failed"): Move(to=("past_due",), effect=_fail_first),
    ("active", "payment_action_required"): Move(to=("past_due",), effect=_fail_first),
    ("past_due", "payment_succeeded"): Move(to=("active",), effect=_recover),
    **_stay(("past_due",), "payment_failed", effect=_fail_again),
    ("past_due", "grace_elapsed"): Move(to=("unpaid",), guard=_reached("grace_until")),
    ("past_due", "retries_exhausted"): Move(
        to=("canceled", "unpaid"), choice=_after_retries, effect=_exhaust
    ),
    ("unpaid", "payment_succeeded"): Move(to=("active",), effect=_recover),
    **_stay(("unpaid",), "payment_failed", effect=_fail_again),
    ("active", "pause"): Move(to=("paused",), guard=_may_pause, effect=_pause),
    ("paused", "resume"): Move(to=("active",), guard=_may_resume, effect=_resume),
    ("paused", "resume_at_reached"): Move(
        to=("active",), guard=_reached("resume_at"), effect=_resume
    ),
    **_stay(("paused",), "resume_payment_failed"),
    **_each(OPEN, "cancel_now", Move(to=("canceled",), effect=_end)),
    **_each(OPEN, "gateway_deleted", Move(to=("canceled",), effect=_end)),
    **_stay(FINAL, "cancel_now"),
    **_stay(FINAL, "gateway_deleted"),
    **_stay(FINAL, "payment_succeeded"),
    **_stay(CANCELABLE, "schedule_cancel", guard=_may_cancel_at, effect=_schedule_cancel),
    **_stay(CANCELABLE, "undo_cancel", guard=_may_undo_cancel, effect=_undo_cancel),
    **_each(
        SLOT,
        "cancel_at_reached",
        Move(to=("canceled",), guard=_reached("cancel_at"), effect=_end),
    ),
    **_each(SLOT, "term_completed", Move(to=("expired",), guard=_reached("end_at"), effect=_end)),
    **_stay(("active",), "period_ended_renew"),
    **_stay(SLOT, "scheduled_change_reached", guard=_reached("change_at"), effect=_take_change),
    **_stay(("active", "trialing"), "change_plan_now", guard=_may_change, effect=_change),
    **_stay(("active", "trialing"), "change_quantity", guard=_may_change, effect=_change),
    **_stay(
        ("active", "trialing", "past_due"),
        "schedule_change",
        guard=_may_change,
        effect=_schedule_change,
    ),
    **_stay(CANCELABLE, "release_schedule", guard=_may_release, effect=_release),
    **_stay(SLOT, "migrate_version", guard=_may_change, effect=_migrate),
}
