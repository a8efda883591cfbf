"""Show subscriptions with their timeline; confirm payments and end them, by the services."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from core import clock as clocks
from core.admin import base
from core.admin.operations import Asked, Consequence, Done, Operation
from core.admin.text import instant
from subscriptions import status
from subscriptions.admin import collection, comparison, moves
from subscriptions.models import Subscription, TimelineEntry
from subscriptions.services import lifecycle

Status = Subscription.Status
COLORS = {
    Status.ACTIVE: "success",
    Status.TRIALING: "info",
    Status.PAST_DUE: "warning",
    Status.UNPAID: "danger",
    Status.INCOMPLETE: "warning",
}


class MarkPaid(Operation[Subscription]):
    """Confirm the first payment."""

    name = "mark_paid"
    title = "Mark paid"
    permission = "subscriptions.pay_subscription"
    icon = "paid"

    def is_offered(self, row: Subscription) -> bool:
        """Offer it while a first payment is awaited."""
        return row.status == Status.INCOMPLETE

    def consequence(self, asked: Asked[Subscription]) -> Consequence:
        """Tell what starts."""
        row = asked.row
        price = comparison.price_text(row.price) if row.price else "nothing"
        return Consequence(
            sentences=(
                f"You confirm that {row.customer.name} paid {price} for {_plan_text(row)}.",
                "Access and the first period start now; limits change at once.",
            )
        )

    def run(self, asked: Asked[Subscription]) -> Done:
        """Confirm it."""
        lifecycle.mark_paid(subscription_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message="The payment is confirmed; the subscription is active.")


class TimelineInline(base.ReadOnlyInline):
    """Every transition of a subscription, oldest first."""

    model = TimelineEntry
    fields = ("at", "from_status", "to_status", "event", "actor", "reason")
    ordering = ("at", "id")
    verbose_name_plural = "Timeline"


@admin.register(Subscription)
class SubscriptionAdmin(base.LedgerAdmin[Subscription]):
    """Subscriptions, newest first; the status shown is the one in effect now."""

    operations = (MarkPaid, *moves.OPERATIONS, *collection.OPERATIONS)
    inlines = (TimelineInline,)
    empty_text = "Customers subscribe by the API; start a plan for one on his page."
    list_display = ("customer", "plan", "state", "quantity", "price_text", "renews_or_ends")
    list_filter = ("status", "plan_group")
    list_select_related = ("customer", "plan_version__plan", "price")
    fields = (
        ("customer_link", "version_link", "state"),
        ("price_text", "quantity", "time_zone"),
        ("start_at", "anchor_at", "trial_ends_at"),
        ("cancel_at", "ended_at", "grace_until"),
        ("incomplete_expires_at", "paused_at", "resume_at"),
        "collection_paused_at",
        ("change_at", "change_to"),
    )
    readonly_fields = ("customer_link", "version_link", "state", "price_text")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscription]:
        """Return the subscriptions with what their columns name."""
        return (
            super().get_queryset(request).select_related("customer", "plan_version__plan", "price")
        )

    def prepare_page(self, rows: Sequence[Subscription]) -> None:
        """Derive every status at one instant."""
        at = clocks.process_clock().now()
        for row in rows:
            row.standing = status.standing(row, at=at)  # type: ignore[attr-defined] # for the page

    @admin.display(description="Plan")
    def plan(self, row: Subscription) -> str:
        """Return plan and version."""
        return _plan_text(row)

    @admin.display(description="Customer")
    def customer_link(self, row: Subscription) -> str:
        """Return the customer with a way to him."""
        return base.link(to=row.customer, text=row.customer.name)

    @admin.display(description="Plan version")
    def version_link(self, row: Subscription) -> str:
        """Return the version with a way to it."""
        return base.link(to=row.plan_version, text=_plan_text(row))

    @base.label(description="Status", colors=COLORS)
    def state(self, row: Subscription) -> str:
        """Return the status in effect."""
        return _standing(row).status

    @admin.display(description="Price")
    def price_text(self, row: Subscription) -> str:
        """Return what it costs."""
        return comparison.price_text(row.price) if row.price else "free"

    @admin.display(description="Next")
    def renews_or_ends(self, row: Subscription) -> str:
        """Return the next thing that the clock brings, or when it ended."""
        standing = _standing(row)
        if standing.ended_at is not None:
            return f"ended {instant(standing.ended_at)}"
        if row.cancel_at is not None:
            return f"ends {instant(row.cancel_at)}"
        return (
            f"changes {instant(standing.next_change_at)}" if standing.next_change_at else "renews"
        )


@admin.register(TimelineEntry)
class TimelineEntryAdmin(base.LedgerAdmin[TimelineEntry]):
    """Every transition of every subscription, newest first."""

    empty_text = "Every transition of a subscription will stand here."
    list_display = ("at", "customer", "from_status", "to_status", "event", "actor", "reason")
    list_select_related = ("customer",)
    fields = (
        ("customer", "subscription", "at"),
        ("from_status", "to_status", "event"),
        ("actor", "reason", "request_id"),
    )


def _plan_text(row: Subscription) -> str:
    return f"{row.plan_version.plan.name} v{row.plan_version.number}"


def _standing(row: Any) -> status.Standing:  # noqa: ANN401 - prepared on lists
    prepared: status.Standing | None = getattr(row, "standing", None)
    return prepared or status.standing(row, at=clocks.process_clock().now())
