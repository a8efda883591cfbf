"""Show coupons, and archive them; they are made by the API."""

from typing import ClassVar

from django.contrib import admin

from billing.models import Coupon
from billing.services import coupons
from core import clock as clocks
from core import money
from core.admin import base
from core.admin.operations import Asked, Consequence, Done, Operation

COLORS = {"valid": "success", "expired": "danger", "used up": "warning"}


class ArchiveCoupon(Operation[Coupon]):
    """Let nobody redeem a coupon any more."""

    name = "archive_coupon"
    title = "Archive"
    permission = "billing.archive_coupon"
    icon = "archive"
    is_dangerous = True

    def is_offered(self, row: Coupon) -> bool:
        """Offer it until it is done."""
        return row.archived_at is None

    def consequence(self, asked: Asked[Coupon]) -> Consequence:
        """Tell who keeps it."""
        row = asked.row
        return Consequence(
            sentences=(
                f"{row.key} is refused from now on (422 coupon_invalid).",
                f"Who redeemed it keeps it: {row.redemptions} so far.",
            )
        )

    def run(self, asked: Asked[Coupon]) -> Done:
        """Archive it."""
        row = coupons.archive(key=asked.row.key, actor=asked.actor, clock=asked.clock)
        return Done(message=f"{row.key} is archived.")


@admin.register(Coupon)
class CouponAdmin(base.ReadOnlyAdmin[Coupon]):
    """Coupons, newest first."""

    operations: ClassVar = (ArchiveCoupon,)
    empty_text = "Coupons are made by POST /api/coupons/."
    list_display = ("key", "name", "off_text", "duration", "state", "redemptions", "expires_at")
    list_filter = ("duration",)
    search_fields = ("key", "name")
    ordering = ("-id",)
    fields = (
        ("key", "name", "state"),
        ("off_text", "duration", "invoices_max"),
        ("redemptions", "redemptions_max", "expires_at"),
        ("created_at", "archived_at"),
    )
    readonly_fields = ("off_text", "state")

    @admin.display(description="Takes off")
    def off_text(self, row: Coupon) -> str:
        """Return what it takes off."""
        if row.percent_off is not None:
            return f"{row.percent_off.normalize():f} %"
        return money.display(row.amount_off_minor or 0, currency=row.currency)

    @base.label(description="State", colors=COLORS)
    def state(self, row: Coupon) -> str:
        """Return whether it may be redeemed now."""
        if row.is_expired(at=clocks.process_clock().now()):
            return "expired"
        is_used_up = row.redemptions_max is not None and row.redemptions >= row.redemptions_max
        return "used up" if is_used_up else "valid"
