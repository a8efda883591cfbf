"""Keep venues, types, resources and policies; show a venue's day, close it, book for somebody."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse

from core import errors
from core.admin import base
from core.admin.operations import Asked, Consequence, Done, Inspection, Operation, Table
from core.models import Customer
from resources import opening, selectors
from resources.admin import day as days
from resources.admin import forms
from resources.models import (
    Booking,
    BookingPolicy,
    Closure,
    OpeningRule,
    PeakWindow,
    Resource,
    ResourceType,
    Venue,
)
from resources.opening import Span
from resources.services import booking, closures, planning
from resources.services.planning import Order, Wish


class ShowDay(Inspection[Venue]):
    """Show who plays where, hour by hour."""

    name = "show_day"
    title = "Day"
    permission = "resources.view_booking"
    icon = "calendar_view_day"
    form = forms.DayForm
    further_permissions = ("resources.book_resource",)

    def consequence(self, asked: Asked[Venue]) -> Consequence:
        """Lay out the day, with ways to the days beside it."""
        venue, day = asked.row, asked.values["day"]
        beside = base.links(
            (f"?day={other.isoformat()}", f"{other:%A %Y-%m-%d}")
            for other in (day - opening.ONE_DAY, day + opening.ONE_DAY)
        )
        can_book = asked.may("resources.book_resource")
        table = days.table_of(venue, day=day, at=asked.clock.now(), can_book=can_book)
        return Consequence(sentences=(beside, f"Times in {venue.time_zone}."), tables=(table,))


class CloseVenue(Operation[Venue]):
    """Close a venue, or one of its resources, for a time."""

    name = "close_for_a_time"
    title = "Close for a time"
    permission = "resources.close_venue"
    icon = "thunderstorm"
    form = forms.CloseForm
    previews = True
    is_dangerous = True

    def consequence(self, asked: Asked[Venue]) -> Consequence:
        """List the bookings within."""
        planned = _planned(asked)
        closed = closures.find_closed(venue=asked.row, resource_key=planned.resource_key)
        rows = selectors.list_affected(
            resource_ids=[each.pk for each in closed],
            span=planned.span,
            at=asked.clock.now(),
            states=Booking.CLOSABLE_STATES if planned.cancels_bookings else Booking.OPEN_STATES,
        )
        zone = asked.row.time_zone
        fate = (
            "Each of these bookings is cancelled free of charge and its units return, also where "
            "it has begun or is over."
            if planned.cancels_bookings
            else "While bookings stand within it the closure is refused."
        )
        table = Table(
            title="Bookings within",
            headers=("Customer", "When", "State"),
            rows=[
                (
                    each.customer.name,
                    forms.span_text(
                        Span(starts_at=each.starts_at, ends_at=each.ends_at), time_zone=zone
                    ),
                    each.state,
                )
                for each in rows
            ],
            empty_text="None.",
        )
        when = forms.span_text(planned.span, time_zone=zone)
        return Consequence(
            sentences=(f"Nothing can be booked {when}.", fate if rows else "Nobody is affected."),
            tables=(table,),
        )

    def run(self, asked: Asked[Venue]) -> Done:
        """Close it."""
        done = closures.close(_planned(asked), actor=asked.actor, clock=asked.clock)
        return Done(
            message=f"Closed; {len(done.cancelled)} bookings were cancelled.", made=done.closure
        )


def _planned(asked: Asked[Venue]) -> closures.Planned:
    values = asked.values
    return closures.Planned(
        venue_key=asked.row.key,
        resource_key=values["resource"] or None,
        span=forms.span_of(
            day=values["day"],
            starts_at=values["starts_at"],
            ends_at=values["ends_at"],
            time_zone=asked.row.time_zone,
        ),
        reason=asked.reason,
        cancels_bookings=values["cancels_bookings"],
    )


class OpeningRuleInline(base.UnfoldInline):
    """Hours of a week in local time."""

    model = OpeningRule
    extra = 0
    hide_title = True
    fields = ("weekday", "opens_at", "closes_at", "starts_on", "ends_on")
    ordering = ("weekday", "opens_at", "id")


class VenueHoursInline(OpeningRuleInline):
    """Hours of every resource without hours of its own."""

    verbose_name_plural = "Opening hours"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave out the rules of single resources."""
        return super().get_queryset(request).filter(resource__isnull=True)


@admin.register(Venue)
class VenueAdmin(base.EngineAdmin[Venue]):
    """Venues, with their hours and their day."""

    operations = (ShowDay, CloseVenue)
    inlines = (VenueHoursInline,)
    empty_text = "Add a venue, its hours, then its resources."
    list_display = ("name", "key", "time_zone", "currency", "today")
    search_fields = ("name", "key")
    fields = (("name", "key"), ("time_zone", "currency"))
    prepopulated_fields = {"key": ("name",)}

    @admin.display(description="Day")
    def today(self, row: Venue) -> str:
        """Return a way to the venue's day."""
        address = reverse("admin:resources_venue_show_day", args=(row.pk,))
        return base.links([(f"{address}?day={forms.today(row)}", "Today")])


@admin.register(ResourceType)
class ResourceTypeAdmin(base.EngineAdmin[ResourceType]):
    """Kinds of resources, and the features that pay for them."""

    empty_text = "Add a type for each kind of resource: court, coach, rackets, yoga."
    list_display = ("name", "key", "feature", "unit", "minutes_min", "minutes_max", "grid_minutes")
    list_select_related = ("feature",)
    fields = (
        ("name", "key"),
        ("feature", "unit"),
        ("minutes_min", "minutes_max", "grid_minutes"),
    )
    prepopulated_fields = {"key": ("name",)}


class BookResource(Operation[Resource]):
    """Book a resource for a customer."""

    name = "book_for_customer"
    title = "Book for a customer"
    permission = "resources.book_resource"
    icon = "event_available"
    form = forms.BookForm
    previews = True

    def is_offered(self, row: Resource) -> bool:
        """Offer it while the resource is on offer."""
        return row.is_active

    def consequence(self, asked: Asked[Resource]) -> Consequence:
        """Tell what is booked and what it takes, or why it cannot be."""
        order = _order(asked)
        places = planning.find_candidates(order)
        planning.precheck(order, places=places, clock=asked.clock)
        customer = Customer.objects.get(pk=order.customer_id)
        scene = selectors.get_scene(customer=customer, places=places, at=asked.clock.now())
        timetable = selectors.get_timetable(
            scene,
            span=order.span,
            at=asked.clock.now(),
            is_policy_waived=order.is_policy_waived,
        )
        wants = planning.choose(timetable, order=order)
        taken = ", ".join(
            f"{each.units} {each.feature_key}"
            for each in planning.units_by_feature(timetable, wants=wants)
        )
        when = forms.span_text(order.span, time_zone=asked.row.venue.time_zone)
        return Consequence(
            sentences=(
                f"{customer.name} has {asked.row.name} {when}.",
                f"{taken} are held for it, in the period of its start.",
            )
        )

    def run(self, asked: Asked[Resource]) -> Done:
        """Book it."""
        row = booking.book_by_staff(_order(asked), clock=asked.clock)
        return Done(message="It is booked.", made=row)


def _order(asked: Asked[Resource]) -> Order:
    values = asked.values
    named = Customer.objects.named(values["customer"]).first()
    if named is None:
        detail = f"There is no customer {values['customer']!r}."
        raise errors.NotFound(detail)
    return Order(
        customer_id=named.pk,
        span=forms.span_from(
            day=values["day"],
            starts_at=values["starts_at"],
            minutes=values["minutes"],
            time_zone=asked.row.venue.time_zone,
        ),
        wishes=[Wish(resource_key=asked.row.key)],
        actor=asked.actor,
        is_policy_waived=values["is_policy_waived"],
    )


class ResourceHoursInline(OpeningRuleInline):
    """Hours of this resource alone, instead of the venue's."""

    verbose_name_plural = "Hours of its own"


@admin.register(Resource)
class ResourceAdmin(base.EngineAdmin[Resource]):
    """What can be booked."""

    operations = (BookResource,)
    inlines = (ResourceHoursInline,)
    empty_text = "Add a court, a coach or a set of rackets."
    list_display = ("name", "key", "venue", "type", "kind", "capacity", "is_active")
    list_filter = ("venue", "type", "kind", "is_active")
    list_select_related = ("venue", "type")
    search_fields = ("name", "key")
    fields = (
        ("name", "key", "is_active"),
        ("venue", "type"),
        ("kind", "capacity"),
        ("buffer_before_minutes", "buffer_after_minutes"),
    )
    prepopulated_fields = {"key": ("name",)}

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:  # noqa: ANN401, ARG002, FBT001 - Django's signature
        """Give the hours of a resource its venue."""
        for row in formset.save(commit=False):
            row.venue_id = form.instance.venue_id
            row.save()
        for row in formset.deleted_objects:
            row.delete()
        formset.save_m2m()


class PeakWindowInline(base.UnfoldInline):
    """Hours that cost more, or of which one may hold fewer."""

    model = PeakWindow
    extra = 0
    hide_title = True
    verbose_name_plural = "Peak hours"


@admin.register(BookingPolicy)
class BookingPolicyAdmin(base.EngineAdmin[BookingPolicy]):
    """On which terms a type is booked under a plan."""

    inlines = (PeakWindowInline,)
    empty_text = "Without a policy a type is booked 31 days ahead and cancelled free for a day."
    list_display = (
        "type",
        "plan",
        "days_ahead",
        "active_max",
        "per_day_max",
        "free_cancel_minutes",
    )
    list_filter = ("type",)
    list_select_related = ("type", "plan")
    fields = (
        ("type", "plan"),
        ("notice_minutes", "days_ahead"),
        ("active_max", "per_day_max"),
        ("guests_max", "guest_fee_minor"),
        ("free_cancel_minutes", "late_units_percent", "late_fee_minor"),
        ("requires_check_in", "no_show_units_percent", "no_show_fee_minor"),
    )


class LiftClosure(Operation[Closure]):
    """Open again what a closure closed."""

    name = "lift_closure"
    title = "Open again"
    permission = "resources.close_venue"
    icon = "sunny"

    def is_offered(self, row: Closure) -> bool:
        """Offer it once."""
        return row.lifted_at is None

    def consequence(self, asked: Asked[Closure]) -> Consequence:
        """Tell what opens."""
        place = asked.row.resource or asked.row.venue
        return Consequence(
            sentences=(f"{place} can be booked again.", "What was cancelled stays cancelled.")
        )

    def run(self, asked: Asked[Closure]) -> Done:
        """Open it."""
        closures.lift(closure_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message="It is open again.")


@admin.register(Closure)
class ClosureAdmin(base.ReadOnlyAdmin[Closure]):
    """When something was, is or will be closed; a venue's page closes."""

    operations = (LiftClosure,)
    ordering = ("-starts_at", "-id")
    empty_text = "A venue's page closes it, or one of its resources, for a time."
    list_display = ("venue", "resource", "from_to", "reason", "lifted_at")
    list_filter = ("venue",)
    list_select_related = ("venue", "resource")
    fields = (("venue", "resource"), ("from_to", "reason"), ("actor", "created_at", "lifted_at"))
    readonly_fields = ("from_to",)

    @admin.display(description="When (on the venue's clock)")
    def from_to(self, row: Closure) -> str:
        """Return when, on the venue's clock."""
        zone = row.venue.time_zone
        last = forms.wall_text(row.ends_at, time_zone=zone)
        return f"{forms.wall_text(row.starts_at, time_zone=zone)} to {last}"
