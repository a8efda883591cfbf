"""Write down what the clock has brought about already, each at its own instant."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from core import db, faults
from core.services import customers
from subscriptions import renewals, states
from subscriptions.models import Subscription
from subscriptions.services import timeline
from subscriptions.states import State
from subscriptions.status import Upcoming


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A row that boundaries moved, and what decided about its state before them."""

    row: Subscription
    former: State


def settle_step(
    *, rows: Sequence[Subscription], at: datetime, boundaries_max: int | None = None
) -> list[Settled]:
    """Persist every boundary that the rows passed up to the instant, oldest first.

    Each has its timeline line, events and figures at its own instant. Return the rows that
    changed, each once. The caller holds the locks of the customer and the rows, took the locks
    of all events before it read the instant, and calls `tell_step`. Only the sweeper stops after
    so many boundaries, since it comes again.
    """
    db.transaction_required()
    moved: dict[object, Settled] = {}
    for _ in count() if boundaries_max is None else range(boundaries_max):
        due = _oldest(rows, at=at)
        if due is None:
            break
        row, upcoming = due
        moved.setdefault(row.pk, Settled(row=row, former=states.state_of(row)))
        _pass(row, upcoming)
    return list(moved.values())


def tell_step(settled: Iterable[Settled], *, at: datetime) -> None:
    """Tell of the rows that were settled whether what is in force has changed."""
    for each in settled:
        tell_of_step(each.row, former=each.former, at=at)


def tell_of_step(row: Subscription, *, former: State, at: datetime) -> None:
    """Publish `subscription.changed` where a row's state is another than before.

    A period that opened, or a payment that was expected, leaves it as it was: that raises the
    customer's revision alone, since nothing is derived from it.
    """
    if states.state_of(row) != former:
        timeline.changed_step(row, at=at)
    else:
        customers.revise_step(customer_id=row.customer_id, at=at)


def _oldest(rows: Sequence[Subscription], *, at: datetime) -> tuple[Subscription, Upcoming] | None:
    due = [
        (upcoming.at, upcoming.rank, str(row.pk), row, upcoming)
        for row in rows
        if (upcoming := renewals.next_due(row)) is not None and upcoming.at <= at
    ]
    if not due:
        return None
    *_, row, upcoming = min(due, key=lambda each: each[:3])
    return row, upcoming


def _pass(row: Subscription, due: Upcoming) -> None:
    content, kind = timeline.content_of(row), row.change_kind
    passed = renewals.advance(row, due=due)
    save_step(row)
    faults.point("boundary_stored")
    timeline.record_step(
        row, before=passed.before, event=passed.event, actor=timeline.CLOCK, at=passed.at
    )
    faults.point("boundary_recorded")
    if content != timeline.content_of(row):
        timeline.plan_changed_step(
            row, before=content, kind=kind, effective_at=passed.at, at=passed.at
        )
    if passed.opened is not None:
        timeline.renewed_step(row, period=passed.opened, at=passed.at)
        faults.point("renewal_published")


def save_step(row: Subscription) -> None:
    """Store the row with the instant at which the clock changes it next; add-ons end with it."""
    upcoming = renewals.next_due(row)
    row.due_at = upcoming.at if upcoming else None
    row.save()
    if row.ended_at is not None:
        row.add_ons.filter(ends_at__isnull=True).update(ends_at=row.ended_at)
