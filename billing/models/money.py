"""Store what moved: payments, customers' balances and MRR. Append-only, all three."""

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from billing.models.invoices import CreditNote, Invoice
from core.models import Customer
from subscriptions.models import Subscription


class Payment(models.Model):
    """What a gateway reported of one attempt to pay an invoice; known by its reference."""

    class Status(models.TextChoices):
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="payments")
    gateway = models.CharField(max_length=32)
    reference = models.CharField(max_length=255)
    status = models.CharField(max_length=16, choices=Status)
    amount_minor = models.PositiveBigIntegerField()
    currency = models.CharField(max_length=3)
    is_late = models.BooleanField(
        default=False, help_text="It came when nothing was owed any more: refund it."
    )
    occurred_at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    reason = models.CharField(max_length=255, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["gateway", "reference"], name="payment_reference_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.status} {self.amount_minor} {self.currency}"


class BalanceEntry(models.Model):
    """One movement of what a customer has in balance with us, in one currency."""

    class Kind(models.TextChoices):
        PRORATION = "proration"
        CREDIT_NOTE = "credit_note"
        APPLIED = "applied"
        RETURNED = "returned"
        ADJUSTMENT = "adjustment"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    currency = models.CharField(max_length=3)
    sequence = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=Kind)
    amount_minor = models.BigIntegerField()
    balance_minor = models.PositiveBigIntegerField(help_text="What is in balance after it.")
    invoice = models.ForeignKey(Invoice, null=True, on_delete=models.PROTECT, related_name="+")
    credit_note = models.ForeignKey(
        CreditNote, null=True, on_delete=models.PROTECT, related_name="+"
    )
    occurred_at = models.DateTimeField()
    actor = models.CharField(max_length=150, blank=True, default="")
    reason = models.CharField(max_length=255, blank=True, default="")

    class Meta:
        verbose_name_plural = "balance entries"
        permissions = [("adjust_balanceentry", "Can adjust what a customer has in balance")]
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "currency", "sequence"], name="balance_entry_unique"
            ),
            models.CheckConstraint(condition=~Q(amount_minor=0), name="balance_entry_moves"),
            models.CheckConstraint(
                condition=Q(balance_minor__gte=F("amount_minor")), name="balance_entry_covered"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_minor} {self.currency}"


class MrrMovement(models.Model):
    """One change of a subscription's monthly recurring revenue; start + movements = end."""

    class Kind(models.TextChoices):
        NEW = "new"
        EXPANSION = "expansion"
        CONTRACTION = "contraction"
        CHURN = "churn"
        REACTIVATION = "reactivation"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="+")
    sequence = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=Kind)
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()
    mrr_minor = models.PositiveBigIntegerField(help_text="The subscription's MRR after it.")
    occurred_at = models.DateTimeField()

    class Meta:
        verbose_name = "MRR movement"
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "sequence"], name="mrr_movement_unique"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["new", "expansion", "reactivation"], amount_minor__gt=0)
                | Q(kind__in=["contraction", "churn"], amount_minor__lt=0),
                name="mrr_movement_sign",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["contraction", "churn"])
                | Q(mrr_minor__gte=F("amount_minor")),
                name="mrr_movement_adds_to_what_is",
            ),
        ]
        indexes = [
            models.Index(fields=["occurred_at"], name="mrr_movement_by_instant"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount_minor} {self.currency}"
