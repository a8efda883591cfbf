"""Store where units come from: grants, holds on units, and the burns that join them."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from core.models import Customer
from core.periods import Interval
from metering.models.usage import Balance, UsageEntry
from subscriptions.models import PRIORITY_DEFAULT, Feature


class Grant(models.Model):
    """Units added for a customer beside his allowance: a top-up or a promotion.

    Active on `[effective_at, min(expires_at, voided_at))`. `remaining_units` is what is left as
    of the balance's last settling; `epoch` is raised whenever what was burnt before can no
    longer come back.
    """

    class Category(models.TextChoices):
        PAID = "paid"
        PROMOTIONAL = "promotional"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+", db_index=False)
    units = models.PositiveBigIntegerField()
    remaining_units = models.PositiveBigIntegerField()
    epoch = models.PositiveIntegerField(default=0)
    priority = models.PositiveSmallIntegerField(default=PRIORITY_DEFAULT)
    category = models.CharField(max_length=16, choices=Category, default=Category.PAID)
    effective_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    voided_at = models.DateTimeField(null=True)
    rollover_min_units = models.PositiveBigIntegerField(default=0)
    rollover_max_units = models.PositiveBigIntegerField(
        null=True, help_text="Units kept at a reset; empty keeps all."
    )
    recurrence_interval = models.CharField(
        max_length=16,
        blank=True,
        choices=[(interval.value, interval.value) for interval in Interval],
    )
    recurrence_count = models.PositiveSmallIntegerField(default=1)
    recurrence_anchor_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=255, blank=True)
    actor = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("effective_at")),
                name="grant_span_ordered",
            ),
            models.CheckConstraint(
                condition=Q(rollover_max_units__isnull=True)
                | Q(rollover_max_units__gte=F("rollover_min_units")),
                name="grant_rollover_ordered",
            ),
            models.CheckConstraint(
                condition=Q(recurrence_interval="", recurrence_anchor_at__isnull=True)
                | (~Q(recurrence_interval="") & Q(recurrence_anchor_at__isnull=False)),
                name="grant_recurrence_has_anchor",
            ),
        ]
        indexes = [models.Index(fields=["customer", "feature"], name="grant_by_customer")]

    def __str__(self) -> str:
        return f"{self.units} of {self.feature_id} for {self.customer_id}"


class HoldQuerySet(models.QuerySet["Hold"]):
    """Filter holds."""

    def moving(
        self, *, customer_id: UUID, feature_ids: Collection[int] | None, at: datetime
    ) -> "HoldQuerySet":
        """Keep the live holds that are dead by the instant, and what waits for its period.

        None for `feature_ids` means every feature.
        """
        is_waiting = Q(is_provisional=True, state__in=Hold.COUNTING_STATES)
        found = self.filter(
            is_waiting | Q(expires_at__lte=at, state=Hold.State.LIVE), customer_id=customer_id
        )
        if feature_ids is not None:
            found = found.filter(feature_id__in=feature_ids)
        return found.order_by("id")


class Hold(models.Model):
    """Units set aside on one balance until they are captured, released, or expire.

    Dead at `expires_at`, whatever is stored. The rows of one operation end together; one that
    is drawn for another draws from a pool or the customer's balance. An owned hold has no
    expiry and ends only by its owner. A provisional one waits for its period to open, also where
    it is captured before: then it burns.
    """

    class State(models.TextChoices):
        LIVE = "live"
        CAPTURED = "captured"
        RELEASED = "released"
        EXPIRED = "expired"

    COUNTING_STATES = (State.LIVE, State.CAPTURED)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    operation_id = models.UUIDField(db_index=True)
    entry = models.OneToOneField(UsageEntry, on_delete=models.PROTECT, related_name="+")
    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+", db_index=False)
    scope = models.CharField(max_length=255, default="", blank=True)
    balance = models.ForeignKey(Balance, on_delete=models.PROTECT, related_name="+", db_index=False)
    item = models.PositiveSmallIntegerField(default=0)
    drawn_for = models.PositiveSmallIntegerField(null=True)
    units = models.PositiveBigIntegerField()
    captured_units = models.PositiveBigIntegerField(default=0)
    state = models.CharField(max_length=16, choices=State, default=State.LIVE)
    usage_at = models.DateTimeField(help_text="The instant whose usage period counts it.")
    is_provisional = models.BooleanField(default=False)
    owner = models.CharField(max_length=100, blank=True, default="")
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    objects = HoldQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(owner="", expires_at__isnull=False)
                | (~Q(owner="") & Q(expires_at__isnull=True)),
                name="hold_expires_unless_owned",
            ),
            models.CheckConstraint(
                condition=Q(state="live", ended_at__isnull=True)
                | (~Q(state="live") & Q(ended_at__isnull=False)),
                name="hold_ended_has_instant",
            ),
        ]
        indexes = [
            models.Index(
                fields=["balance", "expires_at"],
                condition=Q(state="live"),
                name="hold_live_by_balance",
            ),
            models.Index(
                fields=["customer", "feature"],
                condition=Q(state="live"),
                name="hold_live_by_customer",
            ),
            models.Index(
                fields=["customer", "feature"],
                condition=Q(is_provisional=True),
                name="hold_waiting_by_customer",
            ),
            models.Index(fields=["owner"], condition=~Q(owner=""), name="hold_by_owner"),
        ]

    def __str__(self) -> str:
        return f"{self.units} of {self.feature_id} held by {self.customer_id}"

    def lived_at(self, at: datetime) -> bool:
        """Tell whether it held its units at the instant."""
        ends = [each for each in (self.ended_at, self.expires_at) if each is not None]
        return self.created_at <= at and all(at < each for each in ends)

    @property
    def counted_units(self) -> int:
        """Return what counts of it: what is held, or was captured."""
        return self.captured_units if self.state == Hold.State.CAPTURED else self.units


class Burn(models.Model):
    """What one counted line took from one source, or left uncovered: its provenance.

    A line without burns took all of its units from the allowance of its own balance. The
    units that still stand here are lowered as they come back.
    """

    entry = models.ForeignKey(UsageEntry, on_delete=models.PROTECT, related_name="+")
    balance = models.ForeignKey(Balance, on_delete=models.PROTECT, related_name="+", db_index=False)
    grant = models.ForeignKey(
        Grant, null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    position = models.PositiveSmallIntegerField()
    epoch = models.PositiveBigIntegerField(default=0)
    units = models.PositiveBigIntegerField()
    is_overage = models.BooleanField(default=False)
    burnt_at = models.DateTimeField(
        null=True, help_text="When the source covered them; empty: as the line was counted."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["entry", "position"], name="burn_position_unique"),
            models.CheckConstraint(
                condition=Q(is_overage=False) | Q(grant__isnull=True),
                name="burn_overage_has_no_grant",
            ),
        ]
        indexes = [
            models.Index(
                fields=["balance"],
                condition=Q(is_overage=True, units__gt=0),
                name="burn_overage_by_balance",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.units} of {self.entry_id}"


class AlertThreshold(models.Model):
    """A customer's own threshold of one feature: so many units, or a share of the limit."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+")
    percent = models.PositiveSmallIntegerField(null=True)
    units = models.PositiveBigIntegerField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(percent__isnull=True, units__gte=1)
                | Q(percent__gte=1, percent__lte=1000, units__isnull=True),
                name="alert_threshold_one_kind",
            ),
            models.UniqueConstraint(
                fields=["customer", "feature", "percent"],
                condition=Q(percent__isnull=False),
                name="alert_threshold_percent_unique",
            ),
            models.UniqueConstraint(
                fields=["customer", "feature", "units"],
                condition=Q(units__isnull=False),
                name="alert_threshold_units_unique",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer_id} {self.feature_id}"
