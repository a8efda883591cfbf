"""Store meters, and what each reads from the events that it counts."""

from django.db import models
from django.db.models import Q

from core.models import Customer
from metering import paths
from subscriptions.models import Feature

KEY_LENGTH_MAX = 100
TEXT_LENGTH_MAX = 255
DECIMAL_PLACES = 6


class Meter(models.Model):
    """How events of one type become figures; its meaning never changes once it is made."""

    class Aggregation(models.TextChoices):
        COUNT = "count"
        SUM = "sum"
        MAX = "max"
        MIN = "min"
        AVG = "avg"
        UNIQUE_COUNT = "unique_count"
        LATEST = "latest"

    key = models.SlugField(max_length=KEY_LENGTH_MAX, unique=True)
    name = models.CharField(max_length=255)
    event_type = models.CharField(
        max_length=TEXT_LENGTH_MAX, db_index=True, help_text="The CloudEvents `type` it counts."
    )
    aggregation = models.CharField(max_length=16, choices=Aggregation)
    value_path = models.CharField(
        max_length=paths.LENGTH_MAX,
        blank=True,
        default="",
        help_text="Where in the event's data the value stands, e.g. $.tokens; empty for count.",
    )
    is_decimal = models.BooleanField(
        default=False, help_text="Values have up to six decimal places, stored as millionths."
    )
    group_by = models.JSONField(
        default=dict, blank=True, help_text="Names of groups and their paths in the data."
    )
    filters = models.JSONField(
        default=dict, blank=True, help_text="Paths and the values of which one must stand there."
    )
    late_horizon_seconds = models.PositiveIntegerField(
        default=604_800, help_text="How much older than its arrival an event may be."
    )
    feature = models.ForeignKey(
        Feature,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="The metered feature whose usage the meter feeds.",
    )
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=(Q(aggregation="count") & Q(value_path=""))
                | (~Q(aggregation="count") & ~Q(value_path="")),
                name="meter_value_path_unless_count",
            ),
            models.CheckConstraint(
                condition=Q(feature__isnull=True)
                | Q(aggregation__in=["count", "sum"], is_decimal=False),
                name="meter_feeds_whole_units",
            ),
        ]

    def __str__(self) -> str:
        return self.key


class MeterEvent(models.Model):
    """What one meter read from one event: append-only, kept for ever.

    Item 0 claims the event by the unique (customer, source, event id, item); further items are
    for further meters of its type. Where no meter's filters match, item 0 stands without a meter.
    Values are integers: whole, or millionths where the meter is decimal.
    """

    id = models.BigAutoField(primary_key=True)
    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    source = models.CharField(max_length=TEXT_LENGTH_MAX)
    event_id = models.CharField(max_length=TEXT_LENGTH_MAX)
    item = models.PositiveSmallIntegerField()
    event_type = models.CharField(max_length=TEXT_LENGTH_MAX)
    occurred_at = models.DateTimeField(help_text="The event's own time.")
    received_at = models.DateTimeField()
    position = models.PositiveIntegerField(help_text="Its place in the request that brought it.")
    meter = models.ForeignKey(
        Meter, null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    value = models.BigIntegerField(null=True)
    text = models.CharField(  # noqa: DJ001 - a value that is not there is not an empty one
        max_length=TEXT_LENGTH_MAX, null=True, help_text="What unique_count tells apart."
    )
    groups = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "source", "event_id", "item"], name="meter_event_claim"
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "meter", "occurred_at"], name="meter_event_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} of {self.source}"
