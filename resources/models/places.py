"""Store venues, what stands in them, and when it opens."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from core import zones
from resources.opening import DAY_MINUTES
from subscriptions.models import KEY_LENGTH_MAX, Feature

CAPACITY_MAX = 10_000


class Weekday(models.IntegerChoices):
    """A day of the local week, as `date.weekday` counts."""

    MONDAY = 0
    TUESDAY = 1
    WEDNESDAY = 2
    THURSDAY = 3
    FRIDAY = 4
    SATURDAY = 5
    SUNDAY = 6


def check_time_zone(name: str) -> None:
    """Accept the name of an IANA zone.

    :raises ValidationError: for any other text.
    """
    if not zones.is_known(name):
        msg = f"{name} is no IANA time zone."
        raise ValidationError(msg, code="time_zone")


class Venue(models.Model):
    """A place with its own wall clock and currency."""

    key = models.SlugField(max_length=KEY_LENGTH_MAX, unique=True)
    name = models.CharField(max_length=255)
    time_zone = models.CharField(
        max_length=63, default="UTC", validators=[check_time_zone], help_text="IANA name."
    )
    currency = models.CharField(max_length=3, default="EUR", help_text="Of fees, ISO 4217.")

    class Meta:
        permissions = [("close_venue", "Can close venue and lift closures")]

    def __str__(self) -> str:
        return self.name


class ResourceType(models.Model):
    """A kind of resource: how it is booked, and which metered feature pays for it."""

    class Unit(models.TextChoices):
        MINUTE = "minute"
        HOUR = "hour", "hour begun"
        VISIT = "visit"

    key = models.SlugField(max_length=KEY_LENGTH_MAX, unique=True)
    name = models.CharField(max_length=255)
    feature = models.ForeignKey(
        Feature,
        on_delete=models.PROTECT,
        related_name="+",
        limit_choices_to={"type": Feature.Type.METERED},
        help_text="The metered feature whose units a booking takes.",
    )
    unit = models.CharField(
        max_length=16,
        choices=Unit,
        default=Unit.MINUTE,
        help_text="What one unit of the feature buys of one place.",
    )
    minutes_min = models.PositiveSmallIntegerField(
        default=30, validators=[MinValueValidator(1), MaxValueValidator(DAY_MINUTES)]
    )
    minutes_max = models.PositiveSmallIntegerField(
        default=120, validators=[MinValueValidator(1), MaxValueValidator(DAY_MINUTES)]
    )
    grid_minutes = models.PositiveSmallIntegerField(
        default=30,
        validators=[MinValueValidator(5), MaxValueValidator(DAY_MINUTES)],
        help_text="Starts lie on it, counted from local midnight; durations are its multiples.",
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    minutes_min__gte=1,
                    minutes_max__gte=F("minutes_min"),
                    minutes_max__lte=DAY_MINUTES,
                ),
                name="resource_type_duration_ordered",
            ),
            models.CheckConstraint(
                condition=Q(grid_minutes__gte=5, grid_minutes__lte=DAY_MINUTES),
                name="resource_type_grid_bounded",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Resource(models.Model):
    """One thing that can be booked: exclusive, or a pool of so many places at a time.

    Between two bookings of one place lies a gap of max(after, before).
    """

    class Kind(models.TextChoices):
        EXCLUSIVE = "exclusive"
        POOL = "pool"

    venue = models.ForeignKey(Venue, on_delete=models.PROTECT, related_name="resources")
    type = models.ForeignKey(ResourceType, on_delete=models.PROTECT, related_name="resources")
    key = models.SlugField(max_length=KEY_LENGTH_MAX, unique=True)
    name = models.CharField(max_length=255)
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.EXCLUSIVE)
    capacity = models.PositiveIntegerField(
        default=1, help_text="Places of a pool; 1 where exclusive."
    )
    buffer_before_minutes = models.PositiveSmallIntegerField(default=0)
    buffer_after_minutes = models.PositiveSmallIntegerField(default=0)
    is_active = models.BooleanField(default=True, help_text="Offered for new bookings.")

    class Meta:
        permissions = [("book_resource", "Can book resource for a customer")]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="pool", capacity__gte=1, capacity__lte=CAPACITY_MAX)
                | Q(kind="exclusive", capacity=1),
                name="resource_capacity_of_kind",
            ),
            models.CheckConstraint(
                condition=Q(
                    buffer_before_minutes__lte=DAY_MINUTES, buffer_after_minutes__lte=DAY_MINUTES
                ),
                name="resource_buffers_bounded",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class OpeningRule(models.Model):
    """Hours of one weekday in the venue's wall time; a resource with rules follows its own alone.

    A closing time at or before the opening one is the next day's: 18:00 to 00:00, 20:00 to 02:00.
    """

    venue = models.ForeignKey(Venue, on_delete=models.CASCADE, related_name="opening_rules")
    resource = models.ForeignKey(
        Resource,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="opening_rules",
        help_text="Empty: of every resource of the venue that has no rules of its own.",
    )
    weekday = models.PositiveSmallIntegerField(choices=Weekday)
    opens_at = models.TimeField()
    closes_at = models.TimeField(help_text="Exclusive; at or before the opening: the next day's.")
    starts_on = models.DateField(null=True, blank=True, help_text="Empty: always was.")
    ends_on = models.DateField(null=True, blank=True, help_text="Exclusive; empty: always will be.")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(weekday__lte=Weekday.SUNDAY), name="opening_rule_weekday"
            ),
            models.CheckConstraint(
                condition=Q(starts_on__isnull=True)
                | Q(ends_on__isnull=True)
                | Q(ends_on__gt=F("starts_on")),
                name="opening_rule_ordered",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_weekday_display()} {self.opens_at} to {self.closes_at}"


class Closure(models.Model):
    """A time in which a resource, or the whole venue, is not open: rain, repair, a holiday."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    venue = models.ForeignKey(Venue, on_delete=models.PROTECT, related_name="closures")
    resource = models.ForeignKey(
        Resource,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="closures",
        help_text="Empty: the whole venue.",
    )
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(help_text="Exclusive.")
    reason = models.CharField(max_length=255, help_text="Shown to whoever asks for the time.")
    created_at = models.DateTimeField()
    actor = models.CharField(max_length=150, blank=True)
    lifted_at = models.DateTimeField(null=True, blank=True)
    is_pending = models.BooleanField(
        default=False, db_default=False, help_text="Bookings within it are still to be cancelled."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="closure_ordered"),
        ]
        indexes = [
            models.Index(fields=["venue", "ends_at"], name="closure_by_venue"),
            models.Index(fields=["id"], condition=Q(is_pending=True), name="closure_pending"),
        ]

    def __str__(self) -> str:
        return f"{self.reason} from {self.starts_at}"
