"""Store coupons and who redeemed them."""

from datetime import datetime
from fractions import Fraction

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from billing.invoicing import Off
from core.models import Customer
from subscriptions.models import KEY_LENGTH_MAX, Subscription


class Coupon(models.Model):
    """What is taken off fees: a percentage, or an amount of one currency that floors at 0.

    Once: the first invoice with fees; repeating: so many invoices; forever: every one.
    """

    class Duration(models.TextChoices):
        ONCE = "once"
        REPEATING = "repeating"
        FOREVER = "forever"

    key = models.SlugField(max_length=KEY_LENGTH_MAX, unique=True)
    name = models.CharField(max_length=255)
    percent_off = models.DecimalField(max_digits=7, decimal_places=4, null=True, blank=True)
    amount_off_minor = models.PositiveBigIntegerField(null=True, blank=True)
    currency = models.CharField(max_length=3, blank=True, default="")
    duration = models.CharField(max_length=16, choices=Duration)
    invoices_max = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Invoices that a repeating coupon discounts."
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    redemptions_max = models.PositiveIntegerField(null=True, blank=True)
    redemptions = models.PositiveIntegerField(default=0)
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    percent_off__isnull=False,
                    percent_off__gt=0,
                    percent_off__lte=100,
                    amount_off_minor__isnull=True,
                )
                | Q(
                    percent_off__isnull=True,
                    amount_off_minor__isnull=False,
                    amount_off_minor__gt=0,
                ),
                name="coupon_takes_one_thing_off",
            ),
            models.CheckConstraint(
                condition=Q(amount_off_minor__isnull=True, currency="")
                | (Q(amount_off_minor__isnull=False) & ~Q(currency="")),
                name="coupon_amount_has_currency",
            ),
            models.CheckConstraint(
                condition=Q(duration="repeating", invoices_max__isnull=False, invoices_max__gte=1)
                | (~Q(duration="repeating") & Q(invoices_max__isnull=True)),
                name="coupon_repeats_with_number",
            ),
            models.CheckConstraint(
                condition=Q(redemptions_max__isnull=True)
                | Q(redemptions__lte=F("redemptions_max")),
                name="coupon_not_exhausted",
            ),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def off(self) -> Off:
        """Return what the coupon takes off."""
        if self.percent_off is None:
            return Off(amount_minor=self.amount_off_minor or 0)
        return Off(percent=Fraction(self.percent_off))

    @property
    def invoices_at_first(self) -> int | None:
        """Return how many invoices a new redemption discounts; None for every one."""
        return {"once": 1, "repeating": self.invoices_max}.get(self.duration)

    def is_expired(self, *, at: datetime) -> bool:
        """Tell whether the coupon is redeemed no more."""
        return self.archived_at is not None or (
            self.expires_at is not None and at >= self.expires_at
        )


class Redemption(models.Model):
    """A coupon on a subscription; a customer redeems a coupon once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    coupon = models.ForeignKey(Coupon, on_delete=models.PROTECT, related_name="+")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="+")
    invoices_left = models.PositiveIntegerField(
        null=True, help_text="Invoices still to discount; empty means every one."
    )
    redeemed_at = models.DateTimeField()
    released_at = models.DateTimeField(
        null=True, help_text="Given back: its subscription never began."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "coupon"],
                condition=Q(released_at__isnull=True),
                name="redemption_unique",
            ),
            models.UniqueConstraint(fields=["subscription"], name="redemption_one_a_subscription"),
        ]

    def __str__(self) -> str:
        return f"{self.coupon_id} on {self.subscription_id}"
