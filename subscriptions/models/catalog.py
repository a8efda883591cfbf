"""Store the catalog: features, plans, their immutable versions, prices and entitlements."""

from django.db import models
from django.db.models import F, Q

from core.periods import Interval
from subscriptions import terms
from subscriptions.terms import Terms

KEY_LENGTH_MAX = 100
UNITS_MAX = 2**63 - 1
PRIORITY_DEFAULT = 100


class PlanGroup(models.Model):
    """A set of plans of which a customer has one at a time."""

    key = models.SlugField(max_length=KEY_LENGTH_MAX, unique=True)
    name = models.CharField(max_length=255)

    def __str__(self) -> str:
        return self.key


class Feature(models.Model):
    """What a plan may grant: a switch, a value, or units that are counted."""

    class Type(models.TextChoices):
        BOOLEAN = "boolean"
        STATIC = "static"
        METERED = "metered"

    class Scope(models.TextChoices):
        CUSTOMER = "customer"
        MEMBER = "member"
        ENTITY = "entity"

    key = models.SlugField(max_length=KEY_LENGTH_MAX, unique=True)
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    type = models.CharField(max_length=16, choices=Type)
    unit = models.CharField(max_length=64, blank=True, help_text="What one unit is, e.g. call.")
    plan_group = models.ForeignKey(
        PlanGroup,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="features",
        help_text="The one group whose plans grant a metered feature.",
    )
    scope = models.CharField(
        max_length=16,
        choices=Scope,
        default=Scope.CUSTOMER,
        help_text="Whose usage has a limit of its own, under the customer's.",
    )
    is_allocated = models.BooleanField(
        default=False, help_text="Units are taken and given back, as seats are."
    )
    pool = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="The feature from whose units this one draws as well.",
    )
    pool_rate_units = models.PositiveIntegerField(
        null=True, blank=True, help_text="Units of the pool that one unit draws."
    )
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(type="metered") | Q(plan_group__isnull=False),
                name="feature_metered_has_group",
            ),
            models.CheckConstraint(
                condition=Q(type="metered")
                | Q(scope="customer", is_allocated=False, pool__isnull=True),
                name="feature_only_metered_counts",
            ),
            models.CheckConstraint(
                condition=Q(pool__isnull=True, pool_rate_units__isnull=True)
                | Q(pool__isnull=False, pool_rate_units__gte=1),
                name="feature_pool_has_rate",
            ),
        ]

    def __str__(self) -> str:
        return self.key


class Plan(models.Model):
    """What a customer chooses; its content stands in versions."""

    key = models.SlugField(max_length=KEY_LENGTH_MAX, unique=True)
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    plan_group = models.ForeignKey(PlanGroup, on_delete=models.PROTECT, related_name="plans")
    rank = models.PositiveIntegerField(default=0, help_text="A higher rank is an upgrade.")
    is_public = models.BooleanField(default=True)
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.key


class PlanVersion(models.Model):
    """One immutable edition of a plan; only a draft may be edited."""

    class Status(models.TextChoices):
        DRAFT = "draft"
        PUBLISHED = "published"
        ARCHIVED = "archived"

    class TrialEndPolicy(models.TextChoices):
        CANCEL = "cancel"
        PAUSE = "pause"
        CREATE_INVOICE = "create_invoice"

    class PastDuePolicy(models.TextChoices):
        UNPAID = "unpaid"
        CANCEL = "cancel"

    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=16, choices=Status, default=Status.DRAFT)
    trial_days = models.PositiveIntegerField(default=0)
    trial_end_policy = models.CharField(
        max_length=16, choices=TrialEndPolicy, default=TrialEndPolicy.CANCEL
    )
    grace_seconds = models.PositiveIntegerField(default=604_800)
    past_due_policy = models.CharField(
        max_length=16,
        choices=PastDuePolicy,
        default=PastDuePolicy.UNPAID,
        db_default="unpaid",
        help_text="What follows where every retry of a payment failed.",
    )
    created_at = models.DateTimeField()
    published_at = models.DateTimeField(null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["plan", "number"], name="plan_version_unique"),
            models.UniqueConstraint(
                fields=["plan"], condition=Q(status="draft"), name="plan_version_one_draft"
            ),
            models.UniqueConstraint(
                fields=["plan"], condition=Q(status="published"), name="plan_version_one_published"
            ),
            models.CheckConstraint(
                condition=Q(status="draft") | Q(published_at__isnull=False),
                name="plan_version_published_has_instant",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan} v{self.number}"


class PriceModel(models.TextChoices):
    """How an amount follows from a quantity."""

    FLAT = "flat"
    PER_UNIT = "per_unit"
    PACKAGE = "package"
    VOLUME = "volume"
    GRADUATED = "graduated"
    PERCENTAGE = "percentage"


class Price(models.Model):
    """What a plan version costs per interval, billed in advance.

    In minor units of a currency (0 is free), or by the terms where one amount does not say it.
    """

    Model = PriceModel

    plan_version = models.ForeignKey(PlanVersion, on_delete=models.CASCADE, related_name="prices")
    key = models.SlugField(max_length=KEY_LENGTH_MAX)
    currency = models.CharField(max_length=3)
    unit_amount_minor = models.PositiveBigIntegerField()
    interval = models.CharField(
        max_length=16,
        choices=[(interval.value, interval.value) for interval in Interval],
        default=Interval.MONTH,
    )
    interval_count = models.PositiveSmallIntegerField(default=1)
    model = models.CharField(max_length=16, choices=PriceModel, default=PriceModel.FLAT)
    terms = models.JSONField(
        null=True, blank=True, help_text="Unit prices, packages and tiers, in major units."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["plan_version", "key"], name="price_key_unique"),
            models.CheckConstraint(
                condition=Q(interval_count__gte=1), name="price_interval_count_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.unit_amount_minor} {self.currency}"

    @property
    def is_free(self) -> bool:
        """Tell whether nothing is ever due."""
        return not self.unit_amount_minor and not self.terms

    def read_terms(self) -> Terms:
        """Return what a quantity costs.

        :raises TermsInvalid: for terms that were never published.
        """
        return terms.read(
            model=self.model,
            currency=self.currency,
            unit_amount_minor=self.unit_amount_minor,
            document=self.terms or {},
        )


class MeteredPrice(models.Model):
    """What the usage of a metered feature costs, billed in arrears at each period's end."""

    plan_version = models.ForeignKey(
        PlanVersion, on_delete=models.CASCADE, related_name="metered_prices"
    )
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="+")
    currency = models.CharField(max_length=3)
    model = models.CharField(max_length=16, choices=PriceModel, default=PriceModel.PER_UNIT)
    terms = models.JSONField(help_text="Unit prices, packages and tiers, in major units.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["plan_version", "feature", "currency"], name="metered_price_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.feature_id} {self.model} {self.currency}"

    def read_terms(self) -> Terms:
        """Return what a quantity costs.

        :raises TermsInvalid: for terms that were never published.
        """
        return terms.read(
            model=self.model, currency=self.currency, unit_amount_minor=0, document=self.terms
        )


class Entitlement(models.Model):
    """What a plan version grants of one feature."""

    class Mode(models.TextChoices):
        HARD = "hard"
        SOFT = "soft"
        CAPPED = "capped"

    plan_version = models.ForeignKey(
        PlanVersion, on_delete=models.CASCADE, related_name="entitlements"
    )
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="entitlements")
    enabled = models.BooleanField(default=True)
    value = models.JSONField(null=True, blank=True, help_text="The value of a static feature.")
    limit_units = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Units per usage period; empty means unlimited."
    )
    per_quantity = models.BooleanField(
        default=False, help_text="The limit is multiplied by the subscription's quantity."
    )
    mode = models.CharField(max_length=16, choices=Mode, default=Mode.HARD)
    overage_cap_units = models.PositiveBigIntegerField(null=True, blank=True)
    reset_interval = models.CharField(
        max_length=16,
        choices=[
            *((interval.value, interval.value) for interval in Interval),
            ("billing_period", "billing_period"),
        ],
        default=Interval.MONTH,
    )
    reset_count = models.PositiveSmallIntegerField(default=1)
    scope_limit_units = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        help_text="Units per member or entity where the feature says so; empty means unlimited.",
    )
    priority = models.PositiveSmallIntegerField(
        default=PRIORITY_DEFAULT,
        help_text="Place in the burn order, lowest first; of static values the lowest wins.",
    )
    rollover_min_units = models.PositiveBigIntegerField(default=0)
    rollover_max_units = models.PositiveBigIntegerField(
        null=True, blank=True, default=0, help_text="Units kept at a reset; empty keeps all."
    )
    preserves_overage = models.BooleanField(
        default=False, help_text="Overage burns the next period instead of being forgiven."
    )
    alert_percents = models.JSONField(
        default=list, blank=True, help_text="Shares of the limit, in percent, that alert."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["plan_version", "feature"], name="entitlement_feature_unique"
            ),
            models.CheckConstraint(
                condition=Q(rollover_max_units__isnull=True)
                | Q(rollover_max_units__gte=F("rollover_min_units")),
                name="entitlement_rollover_ordered",
            ),
            models.CheckConstraint(
                condition=Q(reset_count__gte=1), name="entitlement_reset_count_positive"
            ),
            models.CheckConstraint(
                condition=Q(limit_units__isnull=True) | Q(limit_units__lte=UNITS_MAX // 2),
                name="entitlement_limit_bounded",
            ),
            models.CheckConstraint(
                condition=Q(mode="capped", overage_cap_units__isnull=False)
                | (~Q(mode="capped") & Q(overage_cap_units__isnull=True)),
                name="entitlement_cap_with_mode",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.feature} of plan version {self.plan_version_id}"


class CatalogRevision(models.Model):
    """The one counter that publishing raises; caches of the public catalog stand under it."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    number = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="catalog_revision_one_row"),
        ]

    def __str__(self) -> str:
        return str(self.number)
