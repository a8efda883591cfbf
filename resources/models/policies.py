"""Store on which terms a type of resource is booked, per plan."""

from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import F, Q

from resources.models.places import ResourceType, Weekday
from subscriptions.models import Plan

PERCENT_MAX = 100
RATE_PERCENT_MAX = 1000


class BookingPolicy(models.Model):
    """The terms of one type for one plan, or for every plan without terms of its own."""

    type = models.ForeignKey(ResourceType, on_delete=models.CASCADE, related_name="policies")
    plan = models.ForeignKey(
        Plan,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Empty: every plan without a policy of its own.",
    )
    notice_minutes = models.PositiveIntegerField(default=0)
    days_ahead = models.PositiveSmallIntegerField(
        default=31, help_text="Local days; 0 is today alone."
    )
    active_max = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Bookings not yet ended at a time; empty: no limit."
    )
    per_day_max = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Bookings that start on one local day; empty: no limit."
    )
    guests_max = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Guests of one booking; empty: no limit."
    )
    guest_fee_minor = models.PositiveBigIntegerField(default=0, help_text="Per guest.")
    free_cancel_minutes = models.PositiveIntegerField(
        default=1440, help_text="Before the start; after it a cancellation is late."
    )
    late_units_percent = models.PositiveSmallIntegerField(
        default=100, validators=[MaxValueValidator(PERCENT_MAX)]
    )
    late_fee_minor = models.PositiveBigIntegerField(default=0)
    requires_check_in = models.BooleanField(
        default=False, help_text="Whoever does not check in by the end is a no-show."
    )
    no_show_units_percent = models.PositiveSmallIntegerField(
        default=100, validators=[MaxValueValidator(PERCENT_MAX)]
    )
    no_show_fee_minor = models.PositiveBigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "booking policies"
        constraints = [
            models.UniqueConstraint(fields=["type", "plan"], name="booking_policy_of_plan"),
            models.UniqueConstraint(
                fields=["type"], condition=Q(plan__isnull=True), name="booking_policy_of_the_rest"
            ),
            models.CheckConstraint(
                condition=Q(
                    late_units_percent__lte=PERCENT_MAX, no_show_units_percent__lte=PERCENT_MAX
                ),
                name="booking_policy_percent_bounded",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type_id} for {self.plan_id or 'every plan'}"


class PeakWindow(models.Model):
    """Hours of a weekday, in local time, that cost more or of which one may hold fewer.

    A booking is at peak where it starts within the window.
    """

    policy = models.ForeignKey(BookingPolicy, on_delete=models.CASCADE, related_name="peaks")
    weekday = models.PositiveSmallIntegerField(choices=Weekday)
    starts_at = models.TimeField()
    ends_at = models.TimeField(help_text="Exclusive.")
    rate_percent = models.PositiveSmallIntegerField(
        default=100, help_text="Of the usual units, rounded up: 150 is half as much again."
    )
    active_max = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text="Bookings at peak not yet ended; 0: none at all; empty: no limit.",
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="peak_ordered"),
            models.CheckConstraint(
                condition=Q(rate_percent__gte=1, rate_percent__lte=RATE_PERCENT_MAX),
                name="peak_rate_bounded",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_weekday_display()} {self.starts_at} to {self.ends_at}"
