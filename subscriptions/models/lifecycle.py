"""Store the subscriptions of customers and the timeline of their transitions."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from uuid_utils.compat import uuid7

from core.models import Customer, DocumentField
from core.zones import Zones
from subscriptions.models.catalog import PlanGroup, PlanVersion, Price

FINAL = ("canceled", "expired")


def lawful_states() -> list[models.CheckConstraint]:
    """Return the checks that refuse a state which no move leads to."""
    rules = {
        "ended_is_final": Q(status__in=FINAL, ended_at__isnull=False)
        | (~Q(status__in=FINAL) & Q(ended_at__isnull=True)),
        "trial_has_end": ~Q(status="trialing") | Q(trial_ends_at__isnull=False),
        "incomplete_has_end": ~Q(status="incomplete") | Q(incomplete_expires_at__isnull=False),
        "past_due_has_grace": ~Q(status="past_due") | Q(grace_until__isnull=False),
        "resumes_from_pause": Q(resume_at__isnull=True) | Q(status="paused"),
        "change_is_whole": Q(change_at__isnull=True, change_to__isnull=True)
        | Q(change_at__isnull=False, change_to__isnull=False),
        "ended_has_no_change": ~Q(status__in=FINAL) | Q(change_at__isnull=True),
        "term_after_start": Q(end_at__isnull=True) | Q(end_at__gt=models.F("start_at")),
    }
    return [
        models.CheckConstraint(condition=rule, name=f"subscription_{name}")
        for name, rule in rules.items()
    ]


class Subscription(models.Model):
    """A customer's subscription to one plan version; its status in effect is a pure function.

    Source: domain.md rules are in `subscriptions.status`.
    """

    class Status(models.TextChoices):
        SCHEDULED = "scheduled"
        INCOMPLETE = "incomplete"
        TRIALING = "trialing"
        ACTIVE = "active"
        PAST_DUE = "past_due"
        UNPAID = "unpaid"
        PAUSED = "paused"
        CANCELED = "canceled"
        EXPIRED = "expired"

    SLOT_STATUSES: ClassVar[tuple[str, ...]] = (
        Status.TRIALING,
        Status.ACTIVE,
        Status.PAST_DUE,
        Status.UNPAID,
        Status.PAUSED,
    )
    FINAL_STATUSES: ClassVar[tuple[str, ...]] = FINAL

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    plan_version = models.ForeignKey(PlanVersion, on_delete=models.PROTECT, related_name="+")
    price = models.ForeignKey(
        Price, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    plan_group = models.ForeignKey(PlanGroup, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveIntegerField(default=1)
    status = models.CharField(max_length=16, choices=Status)
    anchor_at = models.DateTimeField(help_text="Every period is counted from this instant.")
    time_zone = models.CharField(max_length=63, default="UTC")
    former_zones = models.JSONField(
        null=True, blank=True, help_text="Zones before it; empty where it never changed."
    )
    created_at = models.DateTimeField()
    start_at = models.DateTimeField()
    requires_payment = models.BooleanField(default=False)
    incomplete_expires_at = models.DateTimeField(null=True, blank=True)
    trial_ends_at = models.DateTimeField(null=True, blank=True)
    trial_end_policy = models.CharField(
        max_length=16,
        choices=PlanVersion.TrialEndPolicy,
        default=PlanVersion.TrialEndPolicy.CANCEL,
    )
    has_payment_method = models.BooleanField(default=False)
    grace_seconds = models.PositiveIntegerField(default=604_800)
    grace_until = models.DateTimeField(null=True, blank=True)
    past_due_since = models.DateTimeField(null=True, blank=True)
    past_due_policy = models.CharField(
        max_length=16,
        choices=PlanVersion.PastDuePolicy,
        default=PlanVersion.PastDuePolicy.UNPAID,
        help_text="What follows where every retry of a payment failed.",
    )
    failed_payments = models.PositiveIntegerField(
        default=0, help_text="Failures since the last success."
    )
    cancel_at = models.DateTimeField(null=True, blank=True)
    end_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    resume_at = models.DateTimeField(null=True, blank=True)
    collection_paused_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when its invoices are kept as drafts."
    )
    change_at = models.DateTimeField(null=True, blank=True)
    change_to = models.ForeignKey(
        PlanVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    change_price = models.ForeignKey(
        Price, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    change_quantity = models.PositiveIntegerField(null=True, blank=True)
    change_kind = models.CharField(max_length=16, blank=True, default="")
    change_resets_anchor = models.BooleanField(
        default=False, help_text="The scheduled change starts its periods anew."
    )
    renewed_until = models.DateTimeField(
        null=True, blank=True, help_text="End of the billing period that opened last."
    )
    due_at = models.DateTimeField(
        null=True, blank=True, help_text="When the clock changes this row next; empty means never."
    )
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            *lawful_states(),
            models.UniqueConstraint(
                fields=["customer", "plan_group"],
                condition=Q(status__in=["trialing", "active", "past_due", "unpaid", "paused"]),
                name="subscription_one_live",
            ),
            models.UniqueConstraint(
                fields=["customer", "plan_group"],
                condition=Q(status="incomplete"),
                name="subscription_one_incomplete",
            ),
            models.CheckConstraint(
                condition=Q(quantity__gte=1), name="subscription_quantity_positive"
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "plan_group"], name="subscription_by_customer"),
            models.Index(
                fields=["due_at"],
                condition=Q(due_at__isnull=False),
                name="subscription_due",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} ({self.status})"

    @property
    def zones(self) -> Zones:
        """Return the zone that counts from the next boundary on, with those before it."""
        return Zones.read(self.time_zone, self.former_zones)


class TimelineEntry(models.Model):
    """One transition of a subscription; append-only."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    subscription = models.ForeignKey(
        Subscription, on_delete=models.PROTECT, related_name="timeline"
    )
    at = models.DateTimeField()
    from_status = models.CharField(max_length=16, blank=True)
    to_status = models.CharField(max_length=16)
    event = models.CharField(max_length=64)
    actor = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=255, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    state = DocumentField(
        null=True, editable=False, help_text="The columns that decide, as the line left them."
    )
    usage_policy = models.CharField(
        max_length=16, default="keep", help_text="What became of the usage so far."
    )

    class Meta:
        verbose_name_plural = "timeline entries"
        indexes = [
            models.Index(fields=["customer", "at", "id"], name="timeline_by_customer"),
        ]

    def __str__(self) -> str:
        return f"{self.at} {self.from_status} → {self.to_status}"


class TrialMemory(models.Model):
    """That somebody took a trial in a plan group; no name stands here, and it outlives him."""

    plan_group = models.ForeignKey(PlanGroup, on_delete=models.PROTECT, related_name="+")
    identity_hash = models.CharField(max_length=64)
    taken_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["plan_group", "identity_hash"], name="trial_memory_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"trial in {self.plan_group_id} at {self.taken_at}"
