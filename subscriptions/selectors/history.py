"""Read what decided a customer's entitlements at earlier instants, from what is kept of them."""

from copy import copy
from dataclasses import dataclass
from datetime import datetime

from core.models import Customer
from subscriptions import states
from subscriptions.facts import CustomerFacts
from subscriptions.models import Subscription, TimelineEntry
from subscriptions.selectors import entitled


@dataclass(frozen=True, kw_only=True)
class History:
    """What decided about a customer at each instant up to the one that was asked for.

    `rows` are his subscriptions as each line of their timeline left them, oldest first. Add-ons,
    overrides and versions tell their own spans.
    """

    facts: CustomerFacts
    rows: tuple[tuple[datetime, Subscription], ...]

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


def get_history(*, customer: Customer, until: datetime) -> History:
    """Return what decided about the customer up to an instant, in a constant number of statements.

    A line of the timeline that was written before states were kept stands for its status alone;
    plan, price and quantity are then those that the subscription has now, or had at its next line
    that tells them.
    """
    subscriptions = Subscription.objects.filter(customer=customer).select_related(
        "price", "change_price"
    )
    by_id = {row.pk: row for row in subscriptions}
    rows: list[tuple[datetime, Subscription]] = []
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
        if line.at <= until:
            rows.append((line.at, row))
    ids = {row.plan_version_id for _, row in rows}
    ids |= {row.change_to_id for _, row in rows if row.change_to_id is not None}
    facts = entitled.facts_of(customer=customer, rows=(), version_ids=ids)
    return History(facts=facts, rows=tuple(reversed(rows)))
