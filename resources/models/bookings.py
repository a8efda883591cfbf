"""Store bookings with what they occupy, and who waits for a place."""

from datetime import datetime
from typing import ClassVar
from zoneinfo import ZoneInfo

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from core.models import Customer
from resources.models.places import Resource, ResourceType, Venue
from subscriptions.models import Feature


class BookingSeries(models.Model):
    """A weekly repetition: each occurrence is a booking of its own.

    Its bookings are only held until `confirmed_at`, when all are confirmed in one commit.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    key = models.CharField(max_length=255, help_text="The idempotency key of its request.")
    first_starts_at = models.DateTimeField()
    interval_weeks = models.PositiveSmallIntegerField(default=1)
    occurrences = models.PositiveSmallIntegerField()
    created_at = models.DateTimeField(help_text="When the request last began.")
    confirmed_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "booking series"
        constraints = [
            models.UniqueConstraint(fields=["customer", "key"], name="booking_series_key_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.occurrences} times from {self.first_starts_at}"


class BookingQuerySet(models.QuerySet["Booking"]):
    """Filter bookings."""

    def open(self) -> "BookingQuerySet":
        """Keep those that are held or confirmed as stored."""
        return self.filter(state__in=Booking.OPEN_STATES)

    def due(self, *, at: datetime) -> "BookingQuerySet":
        """Keep those that the clock has moved on, oldest first."""
        return self.filter(due_at__lte=at).order_by("due_at", "id")


class Booking(models.Model):
    """A customer's booking of one or several resources for one time.

    What it costs to leave it late or to stay away is fixed when it is made. `due_at` is the
    next instant at which the clock moves it; the state in effect is a pure function of the two.
    """

    class State(models.TextChoices):
        HELD = "held"
        CONFIRMED = "confirmed"
        COMPLETED = "completed"
        NO_SHOW = "no_show"
        CANCELLED = "cancelled"
        EXPIRED = "expired"

    OPEN_STATES: ClassVar[tuple[str, ...]] = (State.HELD, State.CONFIRMED)
    CLOSABLE_STATES: ClassVar[tuple[str, ...]] = (*OPEN_STATES, State.COMPLETED)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    venue = models.ForeignKey(Venue, on_delete=models.PROTECT, related_name="+")
    series = models.ForeignKey(
        BookingSeries, null=True, on_delete=models.PROTECT, related_name="bookings"
    )
    state = models.CharField(max_length=16, choices=State)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(help_text="Exclusive.")
    created_at = models.DateTimeField()
    actor = models.CharField(max_length=150, blank=True, help_text="Who booked.")
    hold_id = models.UUIDField(
        null=True, help_text="The units set aside; empty once they are captured or returned."
    )
    expires_at = models.DateTimeField(null=True, help_text="Until when it waits to be confirmed.")
    due_at = models.DateTimeField(null=True, help_text="When the clock moves it next.")
    checked_in_at = models.DateTimeField(null=True)
    captured_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=255, blank=True, help_text="Why it was cancelled.")
    free_cancel_until = models.DateTimeField()
    late_units_percent = models.PositiveSmallIntegerField(default=100)
    late_fee_minor = models.PositiveBigIntegerField(default=0)
    requires_check_in = models.BooleanField(default=False)
    no_show_units_percent = models.PositiveSmallIntegerField(default=100)
    no_show_fee_minor = models.PositiveBigIntegerField(default=0)
    guest_fee_minor = models.PositiveBigIntegerField(default=0)

    objects = BookingQuerySet.as_manager()

    class Meta:
        permissions = [
            ("cancel_booking", "Can cancel booking"),
            ("attend_booking", "Can confirm, check in and note who did not come"),
            ("move_booking", "Can move booking"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="booking_ordered"),
            models.CheckConstraint(
                condition=Q(state="held", expires_at__isnull=False)
                | (~Q(state="held") & Q(expires_at__isnull=True)),
                name="booking_held_expires",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["held", "confirmed"], ended_at__isnull=True)
                | (
                    ~Q(state__in=["held", "confirmed"])
                    & Q(ended_at__isnull=False, hold_id__isnull=True, due_at__isnull=True)
                ),
                name="booking_final_holds_nothing",
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "ends_at"], name="booking_by_customer"),
            models.Index(fields=["venue", "starts_at"], name="booking_by_venue"),
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="booking_due"),
        ]

    def __str__(self) -> str:
        start = self.starts_at.astimezone(ZoneInfo(self.venue.time_zone))
        return f"{self.customer} at {self.venue}, {start:%Y-%m-%d %H:%M} ({self.state})"

    @property
    def owner(self) -> str:
        """Return the name under which this booking owns its hold."""
        return f"booking:{self.pk}"


class Allocation(models.Model):
    """What a booking occupies of one resource, its gap included, and the units that it takes."""

    id = models.BigAutoField(primary_key=True)
    booking = models.ForeignKey(Booking, on_delete=models.CASCADE, related_name="allocations")
    resource = models.ForeignKey(
        Resource, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    quantity = models.PositiveIntegerField(default=1)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(help_text="Exclusive; the end of play.")
    occupied_until = models.DateTimeField(help_text="The end of play and the gap after it.")
    is_exclusive = models.BooleanField()
    is_live = models.BooleanField(default=True, help_text="Occupies; false once given up.")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+")
    units = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["booking", "resource"], name="allocation_once_per_booking"
            ),
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("starts_at"), occupied_until__gte=F("ends_at")),
                name="allocation_ordered",
            ),
            models.CheckConstraint(condition=Q(quantity__gte=1), name="allocation_takes_a_place"),
        ]
        indexes = [
            models.Index(
                fields=["resource", "occupied_until"],
                condition=Q(is_live=True),
                name="allocation_live_by_resource",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} of {self.resource_id} from {self.starts_at}"


class Participant(models.Model):
    """Somebody who takes part in a booking; a guest costs the guest fee."""

    id = models.BigAutoField(primary_key=True)
    booking = models.ForeignKey(Booking, on_delete=models.CASCADE, related_name="participants")
    name = models.CharField(max_length=100)
    is_guest = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.name


class WaitlistEntry(models.Model):
    """A customer who waits for a time; an offer is a held booking that he confirms.

    What became of an offer is told by its booking.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        OFFERED = "offered"
        ENDED = "ended"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    type = models.ForeignKey(ResourceType, on_delete=models.PROTECT, related_name="+")
    venue = models.ForeignKey(Venue, on_delete=models.PROTECT, related_name="+")
    resource = models.ForeignKey(
        Resource,
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Empty: any of the type.",
    )
    quantity = models.PositiveIntegerField(default=1)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    booking = models.ForeignKey(Booking, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "waitlist"
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("starts_at")), name="waitlist_entry_ordered"
            ),
        ]
        indexes = [
            models.Index(
                fields=["venue", "starts_at"],
                condition=Q(state="waiting"),
                name="waitlist_waiting",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer_id} waits for {self.starts_at}"
