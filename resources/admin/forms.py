"""Ask for times on the venue's clock."""

from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from core import clock
from core.admin.operations import OperationForm, ReasonForm
from resources import opening
from resources.models import Resource, Venue
from resources.opening import DAY_MINUTES, Span

ON_THE_CLOCK = "On the venue's clock."


def day_field(**options: Any) -> forms.DateField:  # noqa: ANN401 - Django's options
    """Return a field for a local day."""
    return forms.DateField(widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}), **options)


def clock_field(**options: Any) -> forms.TimeField:  # noqa: ANN401 - Django's options
    """Return a field for a wall time."""
    return forms.TimeField(
        help_text=ON_THE_CLOCK,
        widget=UnfoldAdminTextInputWidget(attrs={"type": "time"}),
        **options,
    )


class DayForm(OperationForm):
    """Ask for the day that is shown."""

    day = day_field()

    def adapt(self, row: object) -> None:
        """Begin with today on the venue's clock."""
        assert isinstance(row, Venue)  # noqa: S101 - the operation's own row
        self.fields["day"].initial = today(row)


def today(venue: Venue) -> date:
    """Return the day that the venue's calendar shows now."""
    return opening.local_day(clock.process_clock().now(), time_zone=venue.time_zone)


class CloseForm(ReasonForm):
    """Ask what is closed, from when to when, and what becomes of the bookings."""

    resource = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)
    day = day_field()
    starts_at = clock_field(label="From")
    ends_at = clock_field(label="To")
    cancels_bookings = forms.BooleanField(
        required=False,
        label="Cancel the bookings within",
        help_text="Free of charge; all units return, also of those that have begun or are over.",
        widget=UnfoldBooleanWidget,
    )
    field_order = ("resource", "day", "starts_at", "ends_at", "cancels_bookings", "reason")

    def adapt(self, row: object) -> None:
        """Offer the venue's resources, or the whole of it."""
        assert isinstance(row, Venue)  # noqa: S101 - the operation's own row
        rows = Resource.objects.filter(venue=row).order_by("type__key", "name")
        choices = [("", "The whole venue"), *((each.key, each.name) for each in rows)]
        self.offer("resource", choices)


class BookForm(ReasonForm):
    """Ask for whom a resource is booked, and when."""

    customer = forms.CharField(
        max_length=255,
        help_text="External key or id of the customer.",
        widget=UnfoldAdminTextInputWidget,
    )
    day = day_field()
    starts_at = clock_field(label="From")
    minutes = forms.IntegerField(
        min_value=1, max_value=DAY_MINUTES, widget=UnfoldAdminIntegerFieldWidget
    )
    is_policy_waived = forms.BooleanField(
        required=False,
        label="Beyond the policy",
        help_text="Notice, days ahead and limits of the plan do not count; units do.",
        widget=UnfoldBooleanWidget,
    )
    field_order = ("customer", "day", "starts_at", "minutes", "is_policy_waived", "reason")


class MoveForm(ReasonForm):
    """Ask where a booking is moved."""

    day = day_field()
    starts_at = clock_field(label="From")
    is_policy_waived = forms.BooleanField(
        required=False,
        label="Beyond the policy",
        help_text="Also where a cancellation would no longer be free.",
        widget=UnfoldBooleanWidget,
    )
    field_order = ("day", "starts_at", "is_policy_waived", "reason")


def span_of(*, day: date, starts_at: time, ends_at: time, time_zone: str) -> Span:
    """Return the span between two wall times; an end not later is the next day's."""
    last_day = day if ends_at > starts_at else day + opening.ONE_DAY
    return Span(
        starts_at=opening.instant(day=day, wall=starts_at, time_zone=time_zone),
        ends_at=opening.instant(day=last_day, wall=ends_at, time_zone=time_zone),
    )


def span_from(*, day: date, starts_at: time, minutes: int, time_zone: str) -> Span:
    """Return the span of so many minutes from a wall time."""
    start = opening.instant(day=day, wall=starts_at, time_zone=time_zone)
    return Span(starts_at=start, ends_at=start + timedelta(minutes=minutes))


def wall_text(at: datetime, *, time_zone: str) -> str:
    """Return an instant as the venue's clock shows it."""
    return f"{at.astimezone(opening.zone(time_zone)):%Y-%m-%d %H:%M}"


def span_text(span: Span, *, time_zone: str) -> str:
    """Return a span as the venue's clock shows it."""
    zone = opening.zone(time_zone)
    return f"{wall_text(span.starts_at, time_zone=time_zone)}–{span.ends_at.astimezone(zone):%H:%M}"
