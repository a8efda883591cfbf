"""Show what is set aside; release it by hand."""

from django.contrib import admin

from core.admin import base
from core.admin.operations import Asked, Consequence, Done, Operation
from core.admin.text import instant
from metering.models import Hold
from metering.services import endings

COLORS = {
    Hold.State.LIVE: "info",
    Hold.State.CAPTURED: "success",
    Hold.State.RELEASED: "default",
    Hold.State.EXPIRED: "warning",
}


class ReleaseHold(Operation[Hold]):
    """Give back what is set aside."""

    name = "release_hold"
    title = "Release"
    permission = "metering.release_hold"
    icon = "lock_open"
    is_dangerous = True

    def is_offered(self, row: Hold) -> bool:
        """Offer it for what is live and nobody's own."""
        return row.state == Hold.State.LIVE and not row.owner

    def consequence(self, asked: Asked[Hold]) -> Consequence:
        """Tell what comes back."""
        row = asked.row
        return Consequence(
            sentences=(
                f"{row.customer.name} can use {row.units:,} {row.feature.key} again at once.",
                f"Left alone, the hold would expire {instant(row.expires_at)}.",
                "Whoever holds them can capture them no more.",
            )
        )

    def run(self, asked: Asked[Hold]) -> Done:
        """Release it."""
        endings.release(
            endings.Ending(
                customer_id=asked.row.customer_id,
                hold_id=asked.row.operation_id,
                keyed=asked.keyed,
                actor=asked.actor,
            ),
            clock=asked.clock,
        )
        return Done(message="The hold is released.")


@admin.register(Hold)
class HoldAdmin(base.LedgerAdmin[Hold]):
    """Holds, newest first."""

    operations = (ReleaseHold,)
    empty_text = "Units that a backend sets aside stand here until they are captured or released."
    list_display = ("customer", "feature", "units", "captured_units", "what", "owner", "expires_at")
    list_filter = ("state", "feature")
    list_select_related = ("customer", "feature")

    @base.label(description="State", colors=COLORS)
    def what(self, hold: Hold) -> str:
        """Return the stored state."""
        return hold.state
