"""Show bookings and who waits; cancel, move, check in and note who did not come."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from core import clock as clocks
from core import money
from core.admin import base
from core.admin.operations import Asked, Consequence, Done, Operation
from resources import standing
from resources.admin import forms
from resources.models import Allocation, Booking, Participant, WaitlistEntry
from resources.opening import Span
from resources.services import ending, moving
from resources.services.planning import Order, Wish

State = Booking.State
COLORS = {
    State.HELD: "warning",
    State.CONFIRMED: "success",
    State.COMPLETED: "info",
    State.NO_SHOW: "danger",
}


class CancelBooking(Operation[Booking]):
    """Cancel on the booking's own terms."""

    name = "cancel_on_terms"
    title = "Cancel on its terms"
    permission = "resources.cancel_booking"
    icon = "event_busy"
    is_dangerous = True
    is_free = False

    def is_offered(self, row: Booking) -> bool:
        """Offer it until it has begun or ended."""
        return row.state in Booking.OPEN_STATES and row.captured_at is None

    def consequence(self, asked: Asked[Booking]) -> Consequence:
        """Tell what returns and what does not."""
        row = asked.row
        terms = ending.terms_of_leaving(row, at=asked.clock.now(), is_free=self.is_free)
        kept = (
            f"{terms.percent} % of its units stay used."
            if terms.percent
            else "All of its units return."
        )
        fee = (
            f"A fee of {_money(row, terms.fee_minor)} is published."
            if terms.fee_minor
            else "No fee is due."
        )
        return Consequence(sentences=(f"{row.customer.name} loses {_when(row)}.", kept, fee))

    def run(self, asked: Asked[Booking]) -> Done:
        """Cancel it."""
        ending.cancel_by_staff(
            booking_id=asked.row.pk,
            actor=asked.actor,
            clock=asked.clock,
            is_free=self.is_free,
        )
        return Done(message="The booking is cancelled.")


class CancelFree(CancelBooking):
    """Cancel and give everything back."""

    name = "cancel_free"
    title = "Cancel free of charge"
    icon = "undo"
    is_free = True


class ConfirmBooking(Operation[Booking]):
    """Confirm a held booking."""

    name = "confirm_held"
    title = "Confirm"
    permission = "resources.attend_booking"
    icon = "check"

    def is_offered(self, row: Booking) -> bool:
        """Offer it while it is held."""
        return row.state == State.HELD

    def consequence(self, asked: Asked[Booking]) -> Consequence:
        """Tell what is confirmed."""
        return Consequence(sentences=(f"{asked.row.customer.name} keeps {_when(asked.row)}.",))

    def run(self, asked: Asked[Booking]) -> Done:
        """Confirm it."""
        ending.confirm_by_staff(booking_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message="The booking is confirmed.")


class CheckIn(Operation[Booking]):
    """Note that the customer has come."""

    name = "check_in"
    title = "Check in"
    permission = "resources.attend_booking"
    icon = "how_to_reg"

    def is_offered(self, row: Booking) -> bool:
        """Offer it once."""
        return row.state == State.CONFIRMED and row.checked_in_at is None

    def consequence(self, asked: Asked[Booking]) -> Consequence:
        """Tell what is captured."""
        name = asked.row.customer.name
        return Consequence(sentences=(f"The units of {name} are used from now on.",))

    def run(self, asked: Asked[Booking]) -> Done:
        """Check in."""
        ending.check_in_by_staff(booking_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message="Checked in.")


class MarkNoShow(Operation[Booking]):
    """Note that nobody came."""

    name = "mark_no_show"
    title = "Did not come"
    permission = "resources.attend_booking"
    icon = "person_off"
    is_dangerous = True

    def is_offered(self, row: Booking) -> bool:
        """Offer it until somebody has come."""
        return row.state == State.CONFIRMED and row.checked_in_at is None

    def consequence(self, asked: Asked[Booking]) -> Consequence:
        """Tell what it costs."""
        row = asked.row
        units = (
            "What the start has captured stays used."
            if row.captured_at
            else f"{row.no_show_units_percent} % of its units are used."
        )
        fee = f"A fee of {_money(row, row.no_show_fee_minor)} is published."
        return Consequence(sentences=(units, fee if row.no_show_fee_minor else "No fee is due."))

    def run(self, asked: Asked[Booking]) -> Done:
        """Note it."""
        ending.mark_no_show(booking_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message="Noted.")


class MoveBooking(Operation[Booking]):
    """Move to another time on the same resources."""

    name = "move_to"
    title = "Move"
    permission = "resources.move_booking"
    icon = "event_repeat"
    form = forms.MoveForm
    previews = True

    def is_offered(self, row: Booking) -> bool:
        """Offer it until it has begun or ended."""
        return row.state in Booking.OPEN_STATES and row.captured_at is None

    def consequence(self, asked: Asked[Booking]) -> Consequence:
        """Tell from when to when."""
        order, zone = _order(asked), asked.row.venue.time_zone
        later = forms.span_text(order.span, time_zone=zone)
        return Consequence(
            sentences=(
                f"{_when(asked.row)} becomes {later} {zone}.",
                "Where the new time cannot be had, the booking stays as it is.",
            )
        )

    def run(self, asked: Asked[Booking]) -> Done:
        """Move it."""
        moving.move_by_staff(booking_id=asked.row.pk, order=_order(asked), clock=asked.clock)
        return Done(message="The booking is moved.")


def _order(asked: Asked[Booking]) -> Order:
    row, values = asked.row, asked.values
    minutes = int(Span(starts_at=row.starts_at, ends_at=row.ends_at).minutes)
    return Order(
        customer_id=row.customer_id,
        span=forms.span_from(
            day=values["day"],
            starts_at=values["starts_at"],
            minutes=minutes,
            time_zone=row.venue.time_zone,
        ),
        wishes=[
            Wish(resource_key=each.resource.key, quantity=each.quantity)
            for each in row.allocations.select_related("resource")
        ],
        actor=asked.actor,
        is_policy_waived=values["is_policy_waived"],
    )


def _money(row: Booking, amount_minor: int) -> str:
    return money.display(amount_minor, currency=row.venue.currency)


def _when(row: Booking) -> str:
    span = Span(starts_at=row.starts_at, ends_at=row.ends_at)
    return forms.span_text(span, time_zone=row.venue.time_zone)


class AllocationInline(base.ReadOnlyInline):
    """What is booked."""

    model = Allocation
    fields = ("resource", "quantity", "units", "feature", "is_live")
    verbose_name_plural = "Resources"


class ParticipantInline(base.ReadOnlyInline):
    """Who takes part."""

    model = Participant
    fields = ("name", "is_guest")
    verbose_name_plural = "Participants"


@admin.register(Booking)
class BookingAdmin(base.LedgerAdmin[Booking]):
    """Bookings, newest first; the state shown is the one in effect now."""

    operations = (CheckIn, ConfirmBooking, MoveBooking, MarkNoShow, CancelBooking, CancelFree)
    inlines = (AllocationInline, ParticipantInline)
    empty_text = "Customers book by the API; book for one on a resource's page."
    list_display = ("customer", "venue", "when", "what", "state_now")
    list_filter = ("venue", "state")
    list_select_related = ("customer", "venue")
    fields = (
        ("customer", "venue", "state_now"),
        ("when", "series", "actor"),
        ("free_cancel_until", "left_late"),
        ("requires_check_in", "not_come"),
        ("checked_in_at", "captured_at", "expires_at"),
        ("ended_at", "reason"),
    )
    readonly_fields = ("when", "state_now", "left_late", "not_come")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Booking]:
        """Return the bookings with what their columns name."""
        rows = super().get_queryset(request).select_related("customer", "venue")
        return rows.prefetch_related("allocations__resource")

    def prepare_page(self, rows: Sequence[Booking]) -> None:
        """Tell every state at one instant."""
        at = clocks.process_clock().now()
        for row in rows:
            row.shown_state = standing.effective_state(row, at=at)  # type: ignore[attr-defined] # for the page

    @admin.display(description="When (on the venue's clock)")
    def when(self, row: Booking) -> str:
        """Return when, on the venue's clock."""
        return _when(row)

    @admin.display(description="Cancelled later")
    def left_late(self, row: Booking) -> str:
        """Return what a late cancellation costs."""
        return f"{row.late_units_percent} % of its units and {_money(row, row.late_fee_minor)}"

    @admin.display(description="Where nobody comes")
    def not_come(self, row: Booking) -> str:
        """Return what it costs where nobody comes."""
        fee = _money(row, row.no_show_fee_minor)
        return f"{row.no_show_units_percent} % of its units and {fee}"

    @admin.display(description="What")
    def what(self, row: Booking) -> str:
        """Return the resources."""
        return ", ".join(each.resource.name for each in row.allocations.all())

    @base.label(description="State", colors=COLORS)
    def state_now(self, row: Any) -> str:  # noqa: ANN401 - prepared on lists
        """Return the state in effect."""
        prepared: str | None = getattr(row, "shown_state", None)
        return prepared or standing.effective_state(row, at=clocks.process_clock().now())


@admin.register(WaitlistEntry)
class WaitlistEntryAdmin(base.LedgerAdmin[WaitlistEntry]):
    """Who waits for what, newest first."""

    empty_text = "Who waits for a taken time will stand here."
    list_display = ("customer", "venue", "type", "resource", "when", "state", "created_at")
    list_filter = ("venue", "state")
    list_select_related = ("customer", "venue", "type", "resource")
    fields = (
        ("customer", "venue", "state"),
        ("type", "resource", "quantity"),
        ("when", "booking"),
        ("created_at", "ended_at"),
    )
    readonly_fields = ("when",)

    @admin.display(description="When (on the venue's clock)")
    def when(self, row: WaitlistEntry) -> str:
        """Return when, on the venue's clock."""
        span = Span(starts_at=row.starts_at, ends_at=row.ends_at)
        return forms.span_text(span, time_zone=row.venue.time_zone)
