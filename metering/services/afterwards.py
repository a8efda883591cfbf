"""Tell whose usage it is that is counted or taken back after its subscription has ended.

A line of the ledger counts at its own instant, unless it says otherwise (`usage_at`): then it
belongs to the subscription that stood at that instant, and to the billing period that begins there.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core import events
from metering.models import Balance, UsageEntry
from metering.services.books import Books
from subscriptions import renewals, status
from subscriptions.facts import FeatureFacts
from subscriptions.models import Subscription

RECORDED_LATE = "usage.recorded_late"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A subscription that has ended, also by the clock alone, and when."""

    row: Subscription
    ended_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Whose units some are: an ended subscription's, in the billing period that began then."""

    subscription_id: UUID
    usage_at: datetime


def list_ended(books: Books) -> list[Ended]:
    """Return the subscriptions among the books' facts that have ended; none on the fast path."""
    if books.facts is None:
        return []
    live = [row for row in books.facts.subscriptions if row.status in Subscription.SLOT_STATUSES]
    return _ended_by((*books.facts.ended, *live), at=books.at)


def find_owner(
    ended: Iterable[Ended],
    *,
    feature: FeatureFacts,
    stood_at: datetime,
    counts_at: datetime | None = None,
) -> Owner | None:
    """Return whose units of a feature are: of who stood then; None where he has not ended.

    `counts_at` is the instant that names the billing period, where it is another one.
    """
    for each in ended:
        row = each.row
        is_of_group = row.plan_group_id == feature.plan_group_id
        if is_of_group and row.start_at <= stood_at < each.ended_at:
            period = renewals.billing_period(row, at=counts_at or stood_at)
            begun_at = max(period.starts_at, row.start_at)
            return Owner(subscription_id=row.pk, usage_at=begun_at)
    return None


def give_step(line: UsageEntry, *, owner: Owner | None, books: Books) -> None:
    """Let a line belong to its owner, who will be told of with `tell_step`; None changes nothing.

    The caller holds the customer's lock, or has asked `may_have_ended`.
    """
    if owner is not None:
        line.usage_at = owner.usage_at
        books.owner_ids.add(owner.subscription_id)


def tell_step(books: Books) -> None:
    """Publish of which ended subscriptions something was counted or taken back, each once.

    The caller holds the customer's lock and called `events.lock_for` for it.
    """
    for subscription_id in sorted(books.owner_ids):
        events.publish(
            events.Event(
                event_type=RECORDED_LATE,
                customer_id=books.customer_id,
                occurred_at=books.at,
                payload={"subscription": str(subscription_id)},
            )
        )


def may_have_ended(
    rows: Iterable[Balance], *, features: Iterable[FeatureFacts], since: datetime, at: datetime
) -> bool:
    """Tell whether a subscription of the features may have ended since; it costs a statement.

    The caller holds the rows' locks, and those that decide at their places. Who ends one decides
    these anew: what nobody decided on since needs no asking. A row that does not decide any more
    tells nothing.
    """
    rows = list(rows)
    if not all(row.is_current for row in rows):
        return True
    if all(row.decided_at <= since for row in rows):
        return False
    groups: Collection[int | None] = {each.plan_group_id for each in features}
    known = Subscription.objects.filter(
        customer_id__in={row.customer_id for row in rows}, plan_group_id__in=groups
    ).exclude(ended_at__lte=since)
    return any(each.ended_at > since for each in _ended_by(known, at=at))


def _ended_by(rows: Iterable[Subscription], *, at: datetime) -> list[Ended]:
    standings = [(row, status.standing(row, at=at)) for row in rows]
    return [
        Ended(row=row, ended_at=standing.ended_at)
        for row, standing in standings
        if standing.ended_at is not None
    ]
