"""Define what the catalog and subscription operations read and show."""

from typing import Any

from rest_framework import serializers

from core.api.serializers import (
    InstantField,
    QuerySerializer,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)
from subscriptions.models import Feature, Subscription

REASON_LENGTH_MAX = 255


class CatalogQuery(QuerySerializer):
    """For which customer eligibility is shown."""

    customer = StrictCharField(required=False, max_length=255)


class PageQuery(CatalogQuery):
    """Which page of a customer's list is asked for."""

    limit = StrictIntegerField(required=False)
    cursor = StrictCharField(required=False)


class SubscriptionReasonSerializer(StrictSerializer):
    """Why it is done."""

    reason = StrictCharField(max_length=REASON_LENGTH_MAX)


class ExtendTrialSerializer(StrictSerializer):
    """Until when a trial is to last, and why."""

    ends_at = InstantField()
    reason = StrictCharField(max_length=REASON_LENGTH_MAX)


class AdvanceSerializer(StrictSerializer):
    """Until when time is to pass."""

    to = InstantField()


class PriceSerializer(serializers.Serializer[Any]):
    """A price per interval, in minor units, or by its terms in major units."""

    key = serializers.CharField()
    currency = serializers.CharField()
    unit_amount_minor = serializers.IntegerField()
    interval = serializers.CharField()
    interval_count = serializers.IntegerField()
    model = serializers.CharField()
    terms = serializers.JSONField(allow_null=True)


class MeteredPriceSerializer(serializers.Serializer[Any]):
    """What the usage of a feature costs, billed after each period."""

    feature = serializers.CharField()
    currency = serializers.CharField()
    model = serializers.CharField()
    terms = serializers.JSONField()


class FeatureRowSerializer(serializers.Serializer[Any]):
    """What a plan grants of a feature, ready to display."""

    feature = serializers.CharField()
    type = serializers.ChoiceField(choices=Feature.Type.choices)
    display = serializers.CharField()
    limit = serializers.IntegerField(allow_null=True)
    value = serializers.JSONField(allow_null=True)
    resets = serializers.CharField(allow_null=True)


class EligibilitySerializer(serializers.Serializer[Any]):
    """What the caller may do with a plan."""

    action = serializers.ChoiceField(
        choices=["subscribe", "upgrade", "downgrade", "current", "none"]
    )
    effective = serializers.ChoiceField(choices=["now", "period_end"])
    trial = serializers.BooleanField()


class PlanSerializer(serializers.Serializer[Any]):
    """A plan on offer."""

    key = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    version = serializers.IntegerField()
    group = serializers.CharField()
    rank = serializers.IntegerField()
    trial_days = serializers.IntegerField()
    prices = PriceSerializer(many=True)
    metered_prices = MeteredPriceSerializer(many=True)
    features = FeatureRowSerializer(many=True)
    eligibility = EligibilitySerializer(required=False)


class PlanListSerializer(serializers.Serializer[Any]):
    """All plans on offer."""

    results = PlanSerializer(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class FeatureSerializer(serializers.Serializer[Any]):
    """A feature."""

    key = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    type = serializers.ChoiceField(choices=Feature.Type.choices)
    unit = serializers.CharField()


class FeatureListSerializer(serializers.Serializer[Any]):
    """All features."""

    results = FeatureSerializer(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class SubscriptionSerializer(serializers.Serializer[Any]):
    """A subscription as it is stored."""

    id = serializers.UUIDField()
    plan = serializers.CharField()
    version = serializers.IntegerField()
    price = serializers.CharField(allow_null=True)
    quantity = serializers.IntegerField()
    status = serializers.ChoiceField(choices=Subscription.Status.choices)
    collection_paused = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    trial_ends_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)


class TimelineEntrySerializer(serializers.Serializer[Any]):
    """One transition of a subscription."""

    subscription = serializers.UUIDField()
    at = serializers.DateTimeField()
    to = serializers.CharField()
    event = serializers.CharField()
    actor = serializers.CharField()
    reason = serializers.CharField()
    usage_policy = serializers.CharField(
        help_text="What became of the usage so far: keep, prorate_limit, reset or carry_balance."
    )

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Return the fields with `from`, which Python keeps for itself."""
        return super().get_fields() | {"from": serializers.CharField(allow_null=True)}
