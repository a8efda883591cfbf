"""Store invoices with their lines, and the issuer whose numbers have no gaps."""

from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce
from uuid_utils.compat import uuid7

from billing.models.coupons import Redemption
from core.models import Customer
from subscriptions.models import (
    KEY_LENGTH_MAX,
    AddOnPrice,
    MeteredPrice,
    Price,
    Subscription,
)


class Issuer(models.Model):
    """Who bills: name and address on the paper, and the sequence of its numbers."""

    key = models.SlugField(max_length=KEY_LENGTH_MAX, unique=True)
    name = models.CharField(max_length=255)
    address = models.TextField(blank=True, default="")
    tax_id = models.CharField(max_length=64, blank=True, default="")
    payment_instructions = models.TextField(blank=True, default="")
    payment_days = models.PositiveSmallIntegerField(
        default=14, help_text="Days from issue to due date."
    )
    invoice_prefix = models.CharField(max_length=16, default="INV-")
    credit_note_prefix = models.CharField(max_length=16, default="CN-")
    invoices = models.PositiveBigIntegerField(default=0, help_text="Numbers given so far.")
    credit_notes = models.PositiveBigIntegerField(default=0, help_text="Numbers given so far.")

    def __str__(self) -> str:
        return self.name


class Invoice(models.Model):
    """What a customer owes for one subscription: a draft until it has its number.

    From then on the database refuses to change it, but for its state and what was paid.
    Below 0, `balance_minor` is what a negative total added to the customer's balance.
    """

    class Status(models.TextChoices):
        DRAFT = "draft"
        OPEN = "open"
        PAID = "paid"
        VOID = "void"
        UNCOLLECTIBLE = "uncollectible"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="+")
    redemption = models.ForeignKey(
        Redemption, null=True, on_delete=models.PROTECT, related_name="+"
    )
    issuer = models.ForeignKey(Issuer, null=True, on_delete=models.PROTECT, related_name="+")
    number = models.PositiveBigIntegerField(null=True)
    label = models.CharField(max_length=40, blank=True, default="", help_text="Number as printed.")
    status = models.CharField(max_length=16, choices=Status, default=Status.DRAFT)
    currency = models.CharField(max_length=3)
    subtotal_minor = models.BigIntegerField(default=0)
    discount_minor = models.PositiveBigIntegerField(default=0)
    tax_minor = models.BigIntegerField(null=True, help_text="Empty: no tax was given.")
    total_minor = models.BigIntegerField(default=0)
    balance_minor = models.BigIntegerField(default=0)
    credited_minor = models.PositiveBigIntegerField(default=0)
    paid_minor = models.PositiveBigIntegerField(default=0)
    due_minor = models.PositiveBigIntegerField(default=0)
    parties = models.JSONField(default=dict, help_text="Names and addresses as printed.")
    billed_at = models.DateTimeField(help_text="The instant of what it bills.")
    issued_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True, help_text="Voided, or given up as uncollectible.")
    closed_by = models.CharField(max_length=150, blank=True, default="")
    closed_reason = models.CharField(max_length=255, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "billed_at"],
                condition=Q(status="draft"),
                name="invoice_one_draft_an_instant",
            ),
            models.UniqueConstraint(fields=["issuer", "number"], name="invoice_number_unique"),
            models.CheckConstraint(
                condition=Q(status="draft", number__isnull=True, issued_at__isnull=True)
                | (
                    ~Q(status="draft")
                    & Q(number__isnull=False, issuer__isnull=False, issued_at__isnull=False)
                ),
                name="invoice_numbered_when_issued",
            ),
            models.CheckConstraint(
                condition=Q(
                    total_minor=F("subtotal_minor")
                    - F("discount_minor")
                    + Coalesce(F("tax_minor"), Value(0))
                ),
                name="invoice_adds_up",
            ),
            models.CheckConstraint(
                condition=Q(status="draft")
                | Q(
                    due_minor=F("total_minor")
                    - F("balance_minor")
                    - F("credited_minor")
                    - F("paid_minor")
                ),
                name="invoice_due_adds_up",
            ),
            models.CheckConstraint(
                condition=~Q(status="paid") | Q(due_minor=0, paid_at__isnull=False),
                name="invoice_paid_owes_nothing",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["open", "uncollectible"]) | Q(due_minor__gt=0),
                name="invoice_open_owes_something",
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "-id"], name="invoice_by_customer"),
            models.Index(fields=["subscription", "status"], name="invoice_by_subscription"),
            models.Index(
                fields=["billed_at", "id"], condition=Q(status="draft"), name="invoice_drafts"
            ),
        ]

    def __str__(self) -> str:
        return self.label or f"draft {self.id}"


class InvoiceLine(models.Model):
    """One fee or proration credit, with where it comes from.

    A proration credit names the line that it gives back. A metered line bills the ledger's
    entries of its feature and period, up to the last one named. The period is empty until the
    first payment of a subscription starts it.
    """

    class Kind(models.TextChoices):
        RECURRING = "recurring"
        CHARGE = "charge"
        PRORATION_CREDIT = "proration_credit"
        METERED = "metered"
        MINIMUM = "minimum"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.CASCADE, related_name="lines")
    subscription = models.ForeignKey(Subscription, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=20, choices=Kind)
    item = models.CharField(max_length=120, help_text="`plan`, or an add-on or feature by its key.")
    description = models.CharField(max_length=255)
    quantity = models.PositiveBigIntegerField(default=1)
    amount_minor = models.BigIntegerField()
    discount_minor = models.PositiveBigIntegerField(default=0)
    is_discountable = models.BooleanField(default=True)
    starts_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField(null=True)
    price = models.ForeignKey(Price, null=True, on_delete=models.PROTECT, related_name="+")
    add_on_price = models.ForeignKey(
        AddOnPrice, null=True, on_delete=models.PROTECT, related_name="+"
    )
    metered_price = models.ForeignKey(
        MeteredPrice, null=True, on_delete=models.PROTECT, related_name="+"
    )
    credits = models.ForeignKey(
        "self", null=True, on_delete=models.PROTECT, related_name="proration_credits"
    )
    share_remaining = models.PositiveBigIntegerField(null=True)
    share_total = models.PositiveBigIntegerField(null=True)
    entries = models.PositiveBigIntegerField(null=True, help_text="Ledger entries billed.")
    last_entry_id = models.UUIDField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "item", "starts_at"],
                condition=Q(kind="recurring"),
                name="invoice_line_bills_a_period_once",
            ),
            models.CheckConstraint(
                condition=Q(kind="proration_credit", credits__isnull=False, amount_minor__lte=0)
                | (~Q(kind="proration_credit") & Q(credits__isnull=True, amount_minor__gte=0)),
                name="invoice_line_sign",
            ),
            models.CheckConstraint(
                condition=Q(discount_minor=0)
                | Q(is_discountable=True, discount_minor__lte=F("amount_minor")),
                name="invoice_line_discount_bounded",
            ),
            models.CheckConstraint(
                condition=Q(starts_at__isnull=True, ends_at__isnull=True)
                | Q(starts_at__isnull=False, ends_at__isnull=False, ends_at__gt=F("starts_at")),
                name="invoice_line_period_ordered",
            ),
        ]
        indexes = [
            models.Index(fields=["subscription", "item", "ends_at"], name="invoice_line_by_item"),
        ]

    def __str__(self) -> str:
        return f"{self.description} {self.amount_minor}"


class CreditNote(models.Model):
    """What is taken back of an issued invoice: from what is due first, then to the balance."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="+")
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="credit_notes")
    issuer = models.ForeignKey(Issuer, on_delete=models.PROTECT, related_name="+")
    number = models.PositiveBigIntegerField()
    label = models.CharField(max_length=40)
    currency = models.CharField(max_length=3)
    amount_minor = models.PositiveBigIntegerField()
    balance_minor = models.PositiveBigIntegerField(help_text="The part given to the balance.")
    reason = models.CharField(max_length=255)
    actor = models.CharField(max_length=150)
    issued_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["issuer", "number"], name="credit_note_number_unique"),
            models.CheckConstraint(
                condition=Q(amount_minor__gt=0, balance_minor__lte=F("amount_minor")),
                name="credit_note_amount_positive",
            ),
        ]

    def __str__(self) -> str:
        return self.label


class UsageMark(models.Model):
    """Up to when the usage of a subscription is billed; none before it is active.

    The billing period that goes on there began at `opened_at`, at the mark where it is empty.
    """

    subscription = models.OneToOneField(
        Subscription, primary_key=True, on_delete=models.PROTECT, related_name="+"
    )
    billed_until = models.DateTimeField()
    opened_at = models.DateTimeField(null=True)
    late_due_at = models.DateTimeField(
        null=True, help_text="When usage that came after the end is to be billed."
    )

    class Meta:
        indexes = [
            models.Index(
                fields=["late_due_at"],
                condition=Q(late_due_at__isnull=False),
                name="usage_mark_late",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subscription_id} until {self.billed_until}"
