"""Store what stands beside a plan: add-ons, and overrides of one customer."""

from typing import Any

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from core.models import Customer
from core.periods import Interval
from subscriptions import terms
from subscriptions.models.catalog import (
    KEY_LENGTH_MAX,
    PRIORITY_DEFAULT,
    UNITS_MAX,
    Feature,
    PlanGroup,
)
from subscriptions.models.lifecycle import Subscription
from subscriptions.terms import Terms


class AddOn(models.Model):
    """What stacks beside a plan of its group, times a quantity; immutable once published."""

    key = models.SlugField(max_length=KEY_LENGTH_MAX, unique=True)
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    plan_group = models.ForeignKey(PlanGroup, on_delete=models.PROTECT, related_name="add_ons")
    created_at = models.DateTimeField()
    published_at = models.DateTimeField(null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.key


class AddOnPrice(models.Model):
    """What one of an add-on costs per interval, in minor units of a currency."""

    add_on = models.ForeignKey(AddOn, on_delete=models.CASCADE, related_name="prices")
    key = models.SlugField(max_length=KEY_LENGTH_MAX)
    currency = models.CharField(max_length=3)
    unit_amount_minor = models.PositiveBigIntegerField()
    interval = models.CharField(
        max_length=16,
        choices=[(interval.value, interval.value) for interval in Interval],
        default=Interval.MONTH,
    )
    interval_count = models.PositiveSmallIntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["add_on", "key"], name="add_on_price_key_unique"),
            models.CheckConstraint(
                condition=Q(interval_count__gte=1), name="add_on_price_interval_count_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.unit_amount_minor} {self.currency}"

    @property
    def is_free(self) -> bool:
        """Tell whether nothing is ever due."""
        return not self.unit_amount_minor

    def read_terms(self) -> Terms:
        """Return what a quantity costs: so much for each."""
        return terms.read(
            model=terms.PER_UNIT,
            currency=self.currency,
            unit_amount_minor=self.unit_amount_minor,
            document={},
        )


class AddOnEntitlement(models.Model):
    """What one of an add-on adds of a feature; units and switches add, the value stands in."""

    add_on = models.ForeignKey(AddOn, on_delete=models.CASCADE, related_name="entitlements")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+")
    units = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Units per one of the add-on and usage period."
    )
    is_unlimited = models.BooleanField(default=False)
    value = models.JSONField(null=True, blank=True, help_text="The value of a static feature.")
    priority = models.PositiveSmallIntegerField(default=PRIORITY_DEFAULT)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["add_on", "feature"], name="add_on_feature_unique"),
            models.CheckConstraint(
                condition=Q(units__isnull=True) | Q(units__lte=UNITS_MAX // 2**20),
                name="add_on_units_bounded",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.add_on_id} {self.feature_id}"


class SubscriptionAddOn(models.Model):
    """So many of an add-on on a subscription, for a span; a new quantity is a new row."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="add_ons")
    add_on = models.ForeignKey(AddOn, on_delete=models.PROTECT, related_name="+")
    price = models.ForeignKey(
        AddOnPrice, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    quantity = models.PositiveIntegerField()
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "add_on"],
                condition=Q(ends_at__isnull=True),
                name="subscription_add_on_one_open",
            ),
            models.CheckConstraint(
                condition=Q(quantity__gte=1), name="subscription_add_on_quantity_positive"
            ),
        ]
        indexes = [models.Index(fields=["customer"], name="subscription_add_on_customer")]

    def __str__(self) -> str:
        return f"{self.quantity} of {self.add_on_id} on {self.subscription_id}"


class Override(models.Model):
    """What one customer has of a feature beside plan and add-ons, for a span."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+")
    units = models.PositiveBigIntegerField(null=True, blank=True, help_text="Units added.")
    is_unlimited = models.BooleanField(default=False)
    value: "models.JSONField[Any, Any]" = models.JSONField(null=True, blank=True)
    priority = models.PositiveSmallIntegerField(default=0)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=255)
    actor = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gte=F("starts_at")),
                name="override_span_ordered",
            ),
        ]
        indexes = [models.Index(fields=["customer", "feature"], name="override_by_customer")]

    def __str__(self) -> str:
        return f"{self.feature_id} of {self.customer_id} from {self.starts_at}"
