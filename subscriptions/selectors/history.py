"""Read what decided a customer's entitlements at earlier instants, from what is kept of them."""

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core.models import Customer
from subscriptions import planning, states
from subscriptions.facts import CustomerFacts
from subscriptions.models import Subscription, TimelineEntry
from subscriptions.selectors import entitled


@dataclass(frozen=True, kw_only=True)
class UsageChange:
    """A change by hand that did not keep the usage so far, but treated it by its policy."""

    at: datetime
    policy: str
    before: Subscription
    after: Subscription


@dataclass(frozen=True, kw_only=True)
class History:
    """What decided about a customer at each instant.

    `rows` are his subscriptions as each line of their timeline left them, oldest first. Add-ons,
    overrides and versions tell their own spans. `usage_changes` are oldest first.
    """

    facts: CustomerFacts
    rows: tuple[tuple[datetime, Subscription], ...]
    usage_changes: tuple[UsageChange, ...]

    @property
    def changes(self) -> tuple[datetime, ...]:
        """Return the instants at which a subscription was changed, by hand or by the clock."""
        return tuple(at for at, _ in self.rows)

    def facts_at(self, at: datetime) -> CustomerFacts:
        """Return the facts of an instant, as the operations of that instant left them.

        Before the customer was there, nothing served him.
        """
        is_known = at >= self.facts.customer.created_at
        latest = {row.pk: row for changed_at, row in self.rows if changed_at <= at}
        return CustomerFacts(
            customer=self.facts.customer,
            subscriptions=tuple(latest[each] for each in sorted(latest)),
            versions=self.facts.versions,
            default_versions=tuple(
                each
                for each in self.facts.default_versions
                if is_known and each.published_at is not None and each.published_at <= at
            ),
            additions=self.facts.additions,
        )


def get_history(*, customer: Customer) -> History:
    """Return what decided about the customer so far, in a constant number of statements.

    A line of the timeline that was written before states were kept stands for its status alone;
    plan, price and quantity are then those that the subscription has now, or had at its next line
    that tells them.
    """
    subscriptions = Subscription.objects.filter(customer=customer).select_related(
        "price", "change_price"
    )
    by_id = {row.pk: row for row in subscriptions}
    told: list[tuple[TimelineEntry, Subscription]] = []
    known = {pk: copy(row) for pk, row in by_id.items()}
    lines = TimelineEntry.objects.filter(customer=customer).order_by("-at", "-id")
    for line in lines:
        row = copy(known[line.subscription_id])
        if line.state is not None:
            states.take_document(row, line.state)
        row.status = line.to_status
        if row.status not in Subscription.FINAL_STATUSES:
            row.ended_at = None
        known[row.pk] = row
        told.append((line, row))
    told.reverse()
    ids = {row.plan_version_id for _, row in told}
    ids |= {row.change_to_id for _, row in told if row.change_to_id is not None}
    return History(
        facts=entitled.facts_of(customer=customer, rows=(), version_ids=ids),
        rows=tuple((line.at, row) for line, row in told),
        usage_changes=tuple(_usage_changes(told)),
    )


def _usage_changes(told: Iterable[tuple[TimelineEntry, Subscription]]) -> Iterator[UsageChange]:
    latest: dict[UUID, Subscription] = {}
    for line, row in told:
        if line.usage_policy != planning.KEEP:
            before = latest[row.pk]
            yield UsageChange(at=line.at, policy=line.usage_policy, before=before, after=row)
        latest[row.pk] = row
