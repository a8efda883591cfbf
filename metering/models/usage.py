"""Store the balance of each usage period and the append-only usage ledger."""

from collections.abc import Collection
from datetime import datetime

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from core.models import Customer, DocumentField
from subscriptions.models import PRIORITY_DEFAULT, Entitlement, Feature


class BalanceQuerySet(models.QuerySet["Balance"]):
    """Filter balances."""

    def open_after(
        self, instant: datetime, *, also: Collection[int] | None = None
    ) -> "BalanceQuerySet":
        """Keep the rows that decide, that hold, whose period ends after the instant, or named."""
        is_open = (
            Q(is_current=True)
            | Q(period_ends_at__isnull=True)
            | Q(period_ends_at__gt=instant)
            | Q(held_units__gt=0)
        )
        return self.filter(is_open | Q(pk__in=also) if also is not None else is_open)


class Balance(models.Model):
    """Used and held units of one customer, feature and period: the row that decides.

    Exactly one row per (customer, feature, scope) is current, and only it decides.
    Counters are written relatively; what is derived (limit, ceiling, mode, `valid_until`,
    `denial_code`) is written absolutely, under the customer's lock.
    Source: docs/adr/0004-counters.md.
    """

    id = models.BigAutoField(primary_key=True)
    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+", db_index=False)
    scope = models.CharField(max_length=255, default="", blank=True)
    period_starts_at = models.DateTimeField()
    period_ends_at = models.DateTimeField(null=True, help_text="Exclusive; empty means never.")
    generation = models.PositiveIntegerField(default=0)
    is_current = models.BooleanField(default=True)
    mode = models.CharField(max_length=16, choices=Entitlement.Mode)
    limit_units = models.PositiveBigIntegerField(null=True, help_text="Empty means unlimited.")
    overage_cap_units = models.PositiveBigIntegerField(null=True)
    ceiling_units = models.PositiveBigIntegerField(
        null=True, help_text="What used + held may never exceed; empty where nothing bounds it."
    )
    used_units = models.PositiveBigIntegerField(default=0)
    held_units = models.PositiveBigIntegerField(default=0)
    denial_code = models.CharField(max_length=64, blank=True, default="")
    allowance_units = models.PositiveBigIntegerField(
        default=0, null=True, help_text="What plan, add-ons and overrides grant a period."
    )
    withheld_units = models.BigIntegerField(
        default=0, help_text="What a change in mid-period takes off the allowance until its end."
    )
    allowance_left_units = models.PositiveBigIntegerField(
        null=True, help_text="What is left of the allowance, where it is not the only source."
    )
    priority = models.PositiveSmallIntegerField(
        default=PRIORITY_DEFAULT, help_text="The allowance's place in the burn order."
    )
    carried_units = models.PositiveBigIntegerField(
        default=0, help_text="What counts here though it was used in an earlier period."
    )
    epoch = models.PositiveIntegerField(
        default=0, help_text="Raised with each period: older burns of the allowance stay burnt."
    )
    is_plain = models.BooleanField(
        default=True, help_text="The allowance alone covers what is counted."
    )
    holds_due_at = models.DateTimeField(
        null=True, help_text="The earliest expiry of a live hold, or earlier."
    )
    alerts = DocumentField(default=list, help_text="Thresholds of the period, and which alerted.")
    alert_units = models.PositiveBigIntegerField(
        null=True, help_text="The next threshold that alerts when it is reached."
    )
    valid_until = models.DateTimeField(
        null=True, help_text="The next instant at which what is derived may change by itself."
    )
    decided_at = models.DateTimeField(help_text="The instant of the last decision on this row.")

    objects = BalanceQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "feature", "scope", "period_starts_at", "generation"],
                name="balance_unique",
            ),
            models.UniqueConstraint(
                fields=["customer", "feature", "scope"],
                condition=Q(is_current=True),
                name="balance_one_current",
            ),
            models.CheckConstraint(
                condition=Q(ceiling_units__isnull=True)
                | Q(ceiling_units__gte=F("used_units") + F("held_units")),
                name="balance_within_ceiling",
            ),
            models.CheckConstraint(
                condition=Q(period_ends_at__isnull=True)
                | Q(period_ends_at__gt=F("period_starts_at")),
                name="balance_period_ordered",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer_id} {self.feature_id} from {self.period_starts_at}"

    @property
    def counted_units(self) -> int:
        """Return all that counts against the limit."""
        return self.used_units + self.held_units + self.carried_units

    @property
    def overage_units(self) -> int:
        """Return what is counted beyond the limit."""
        return 0 if self.limit_units is None else max(self.counted_units - self.limit_units, 0)


class UsageEntry(models.Model):
    """One line of the usage ledger: what was decided, with the figures that the answer showed.

    Append-only: the database refuses to change a row, and to delete one with an effect.
    The unique (customer, key, item) is the claim of the idempotency key; item 0 carries the
    fingerprint. Entries of steps have no key.
    """

    class Kind(models.TextChoices):
        CONSUME = "consume"
        DENIED = "denied"
        RECORD = "record"
        HOLD = "hold"
        CAPTURE = "capture"
        RELEASE = "release"
        EXTENSION = "extension"
        REVERSAL = "reversal"
        ADJUSTMENT = "adjustment"
        ROLLOVER = "rollover"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    operation_id = models.UUIDField()
    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - no key claims nothing
    item = models.PositiveSmallIntegerField(default=0)
    fingerprint = models.CharField(max_length=64, blank=True, default="")
    kind = models.CharField(max_length=16, choices=Kind)
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+", db_index=False)
    balance = models.ForeignKey(
        Balance, null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    units = models.PositiveBigIntegerField()
    used_units = models.PositiveBigIntegerField(help_text="Used after this entry.")
    held_units = models.PositiveBigIntegerField(help_text="Held after this entry.")
    limit_units = models.PositiveBigIntegerField(null=True, help_text="Empty means unlimited.")
    period_starts_at = models.DateTimeField(null=True)
    period_ends_at = models.DateTimeField(null=True)
    carried_units = models.PositiveBigIntegerField(default=0)
    scope = models.CharField(max_length=255, default="", blank=True)
    drawn_for = models.PositiveSmallIntegerField(
        null=True, help_text="The item whose units this line counts on another balance as well."
    )
    hold_id = models.UUIDField(null=True, help_text="The hold that the line speaks of.")
    expires_at = models.DateTimeField(null=True, help_text="When the hold was to expire then.")
    reverses = models.ForeignKey(
        "self", null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    consumed_at = models.DateTimeField()
    usage_at = models.DateTimeField(
        null=True,
        help_text="Whose billing period counts it, where the subscription had ended.",
    )
    metadata = DocumentField(default=dict)
    denial = DocumentField(null=True, help_text="Code, detail and facts of a refusal.")

    class Meta:
        verbose_name_plural = "usage entries"
        constraints = [
            models.UniqueConstraint(fields=["customer", "key", "item"], name="usage_entry_claim"),
            models.UniqueConstraint(
                fields=["reverses"],
                condition=Q(reverses__isnull=False),
                name="usage_entry_reversed_once",
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "-id"], name="usage_entry_by_customer"),
            models.Index(fields=["balance"], name="usage_entry_by_balance"),
            models.Index(fields=["id"], name="usage_entry_denied", condition=Q(kind="denied")),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.units} of {self.feature_id} by {self.customer_id}"

    @property
    def stood_at(self) -> datetime:
        """Return an instant at which the subscription stood that the line is billed to."""
        return self.usage_at or self.consumed_at

    @property
    def counted_at(self) -> datetime:
        """Return the instant whose billing period counts the line."""
        ends_at, starts_at = self.period_ends_at, self.period_starts_at
        is_closed = ends_at is not None and ends_at <= self.consumed_at
        written_at = starts_at if is_closed and starts_at is not None else self.consumed_at
        return self.usage_at or written_at
