"""Show balances and the usage ledger: nobody edits usage by hand."""

from typing import Any

from django.contrib import admin

from core.admin import base
from core.admin.operations import Asked, Consequence, Done, Operation
from metering.models import Balance, UsageEntry
from metering.services import reversing

KIND_COLORS = {
    UsageEntry.Kind.CONSUME: "success",
    UsageEntry.Kind.RECORD: "success",
    UsageEntry.Kind.CAPTURE: "success",
    UsageEntry.Kind.DENIED: "danger",
    UsageEntry.Kind.HOLD: "info",
    UsageEntry.Kind.REVERSAL: "warning",
}


class ReverseEntry(Operation[UsageEntry]):
    """Take counted usage back."""

    name = "reverse_entry"
    title = "Reverse"
    permission = "metering.reverse_usageentry"
    icon = "undo"
    is_dangerous = True

    def is_offered(self, row: UsageEntry) -> bool:
        """Offer it for what counted units itself."""
        return row.kind in reversing.REVERSIBLE and row.drawn_for is None

    def consequence(self, asked: Asked[UsageEntry]) -> Consequence:
        """Tell what comes back, and where to."""
        row = asked.row
        return Consequence(
            sentences=(
                f"{row.units:,} {row.feature.key} leave the period that counted them.",
                "They return to the sources that gave them, as far as these still stand.",
                "The entry stays, and a reversal stands beside it. It can be reversed once.",
            )
        )

    def run(self, asked: Asked[UsageEntry]) -> Done:
        """Reverse it."""
        reversing.reverse(
            reversing.Reversal(
                customer_id=asked.row.customer_id,
                entry_id=asked.row.pk,
                keyed=asked.keyed,
                reason=asked.reason,
                actor=asked.actor,
            ),
            clock=asked.clock,
        )
        return Done(message=f"{asked.row.units:,} {asked.row.feature.key} are taken back.")


@admin.register(Balance)
class BalanceAdmin(base.LedgerAdmin[Balance]):
    """Balances, newest first: the counters that decide, one per customer, feature, period."""

    empty_text = "A balance is made when a customer first uses a metered feature."
    list_display = (
        "customer",
        "feature",
        "used_units",
        "held_units",
        "limit",
        "percent",
        "period_ends_at",
        "is_current",
    )
    list_filter = ("is_current", "mode", "feature")
    list_select_related = ("customer", "feature")
    fields = (
        ("customer", "feature", "scope"),
        ("used_units", "held_units", "limit"),
        ("mode", "overage_cap_units", "ceiling_units"),
        ("period_starts_at", "period_ends_at", "generation"),
        ("is_current", "denial_code"),
        ("decided_at", "valid_until"),
    )
    readonly_fields = ("limit",)

    @admin.display(description="Limit")
    def limit(self, balance: Balance) -> str:
        """Return the limit in words."""
        return limit_text(balance.limit_units)

    @admin.display(description="Used %")
    def percent(self, balance: Balance) -> str:
        """Return how much of the limit is used and held."""
        return percent_text(
            counted_units=balance.used_units + balance.held_units, limit_units=balance.limit_units
        )


@admin.register(UsageEntry)
class UsageEntryAdmin(base.LedgerAdmin[UsageEntry]):
    """The usage ledger, newest first; append-only, by the database too."""

    operations = (ReverseEntry,)
    empty_text = "Every consumed unit and every denial will stand here."
    list_display = (
        "consumed_at",
        "customer",
        "feature",
        "what",
        "units",
        "used_units",
        "limit",
        "code",
    )
    list_filter = ("kind", "feature")
    list_select_related = ("customer", "feature")
    fields = (
        ("id", "operation_id", "item"),
        ("customer", "feature", "kind"),
        ("units", "used_units", "held_units", "limit"),
        ("consumed_at", "period_starts_at", "period_ends_at"),
        ("key", "balance"),
        ("metadata", "denial"),
    )
    readonly_fields = ("id", "limit", "metadata", "denial")

    @base.label(description="Kind", colors=KIND_COLORS)
    def what(self, entry: UsageEntry) -> str:
        """Return the kind."""
        return entry.kind

    @admin.display(description="Limit")
    def limit(self, entry: UsageEntry) -> str:
        """Return the limit in words."""
        return limit_text(entry.limit_units)

    @admin.display(description="Code")
    def code(self, entry: Any) -> str:  # noqa: ANN401 - a document's value
        """Return why it was denied."""
        return str(entry.denial["code"]) if entry.denial else ""


def limit_text(limit_units: int | None) -> str:
    """Return a limit as people read it."""
    return "unlimited" if limit_units is None else f"{limit_units:,}"


def percent_text(*, counted_units: int, limit_units: int | None) -> str:
    """Return the used share of a limit, rounded down; nothing where there is no limit."""
    if limit_units is None:
        return "–"
    return f"{counted_units * 100 // limit_units} %" if limit_units else "100 %"
