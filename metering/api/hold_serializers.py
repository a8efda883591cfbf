"""Define what holds, records, reversals, grants and overrides read, and what they show."""

from typing import Any

from rest_framework import serializers

from core.api.serializers import (
    UNITS_MAX,
    InstantField,
    KeyField,
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
    UnitsField,
)
from core.periods import Interval
from metering.api.serializers import CustomerNameField, UsageSerializer
from metering.models import Grant, Hold
from metering.services import granting
from metering.services.holds import TTL_SECONDS_DEFAULT, TTL_SECONDS_MAX, TTL_SECONDS_MIN
from subscriptions.models import PRIORITY_DEFAULT
from subscriptions.services import overriding

REASON_LENGTH_MAX = 255
PRIORITY_MAX = 32_767
COUNT_MAX = 1000
PERCENT_MAX = 1000


class TtlField(StrictIntegerField):
    """Accept the life of a hold: 1 … 86,400 seconds."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - DRF's signature
        super().__init__(min_value=TTL_SECONDS_MIN, max_value=TTL_SECONDS_MAX, **kwargs)


class ReasonField(StrictCharField):
    """Accept why something is done."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - DRF's signature
        super().__init__(max_length=REASON_LENGTH_MAX, **kwargs)


class HoldInput(UsageSerializer):
    """What to hold, and for how long."""

    ttl_seconds = TtlField(
        required=False,
        default=TTL_SECONDS_DEFAULT,
        help_text="Seconds until it expires by itself (300).",
    )


class CaptureInput(StrictSerializer):
    """How much of a hold is used; all of it where units are left out."""

    customer = CustomerNameField()
    units = StrictIntegerField(required=False, min_value=0, max_value=UNITS_MAX)
    allow_exceed = StrictBooleanField(required=False, default=False)


class ReleaseInput(StrictSerializer):
    """Whose hold it is."""

    customer = CustomerNameField()


class ExtendInput(StrictSerializer):
    """How long a hold lives from now on."""

    customer = CustomerNameField()
    ttl_seconds = TtlField()


class ReverseInput(StrictSerializer):
    """Why a line of the ledger is taken back."""

    customer = CustomerNameField()
    reason = ReasonField(required=False, default="", allow_blank=True)


class HoldItemSerializer(serializers.Serializer[Any]):
    """One feature of a hold."""

    feature = serializers.CharField()
    units = serializers.IntegerField()
    captured_units = serializers.IntegerField()
    used = serializers.IntegerField(required=False)
    held = serializers.IntegerField(required=False)
    limit = serializers.IntegerField(required=False, allow_null=True)
    remaining = serializers.IntegerField(required=False, allow_null=True)


class HoldSerializer(HoldItemSerializer):
    """A hold; with several features, the common fields and `items`."""

    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=Hold.State.choices)
    expires_at = serializers.DateTimeField(allow_null=True)
    usage_at = serializers.DateTimeField()
    items = HoldItemSerializer(many=True, required=False)


class IntervalInput(StrictSerializer):
    """How often a grant fills up again, or how long after its effect it ends."""

    interval = serializers.ChoiceField(
        choices=[each.value for each in Interval if each is not Interval.LIFETIME]
    )
    count = StrictIntegerField(required=False, default=1, min_value=1, max_value=COUNT_MAX)


class GrantInput(StrictSerializer):
    """Units to give a customer beside his allowance."""

    feature = KeyField()
    units = UnitsField()
    priority = StrictIntegerField(
        required=False, default=PRIORITY_DEFAULT, min_value=0, max_value=PRIORITY_MAX
    )
    category = serializers.ChoiceField(
        choices=Grant.Category.values, required=False, default=Grant.Category.PAID.value
    )
    effective_at = InstantField(required=False)
    expires_at = InstantField(required=False, allow_null=True)
    expires_after = IntervalInput(required=False, allow_null=True)
    rollover_min = StrictIntegerField(required=False, default=0, min_value=0, max_value=UNITS_MAX)
    rollover_max = StrictIntegerField(
        required=False, allow_null=True, min_value=0, max_value=UNITS_MAX
    )
    recurrence = IntervalInput(required=False, allow_null=True)
    reason = ReasonField(required=False, default="", allow_blank=True)


def grant_order(given: dict[str, Any]) -> granting.Order:
    """Return the order of a validated grant input."""
    recurrence = given.get("recurrence") or {}
    lasting = given.get("expires_after") or {}
    return granting.Order(
        feature_key=given["feature"],
        units=given["units"],
        priority=given["priority"],
        category=given["category"],
        effective_at=given.get("effective_at"),
        expires_at=given.get("expires_at"),
        expires_after_interval=lasting.get("interval", ""),
        expires_after_count=lasting.get("count", 1),
        rollover_min_units=given["rollover_min"],
        rollover_max_units=given.get("rollover_max"),
        recurrence_interval=recurrence.get("interval", ""),
        recurrence_count=recurrence.get("count", 1),
        reason=given["reason"],
    )


class RecurrenceSerializer(serializers.Serializer[Any]):
    """How often a grant fills up again."""

    interval = serializers.CharField()
    count = serializers.IntegerField()


class GrantSerializer(serializers.Serializer[Any]):
    """Units that a customer has beside his allowance."""

    id = serializers.UUIDField()
    feature = serializers.CharField()
    units = serializers.IntegerField()
    remaining = serializers.IntegerField()
    priority = serializers.IntegerField()
    category = serializers.ChoiceField(choices=Grant.Category.choices)
    effective_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    rollover_min = serializers.IntegerField()
    rollover_max = serializers.IntegerField(allow_null=True, help_text="Null keeps all.")
    recurrence = RecurrenceSerializer(allow_null=True)
    voided_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField()


class OverrideInput(StrictSerializer):
    """What a customer has of a feature beside his plan, for a span."""

    feature = KeyField()
    units = UnitsField(required=False)
    unlimited = StrictBooleanField(required=False, default=False)
    value = serializers.JSONField(required=False)
    starts_at = InstantField(required=False)
    ends_at = InstantField(required=False, allow_null=True)
    reason = ReasonField()


def override_order(given: dict[str, Any]) -> overriding.Order:
    """Return the order of a validated override input."""
    return overriding.Order(
        feature_key=given["feature"],
        units=given.get("units"),
        is_unlimited=given["unlimited"],
        value=given.get("value"),
        starts_at=given.get("starts_at"),
        ends_at=given.get("ends_at"),
        reason=given["reason"],
    )


class OverrideSerializer(serializers.Serializer[Any]):
    """An override: one of units, unlimited and value, or a switch that is on."""

    id = serializers.UUIDField()
    feature = serializers.CharField()
    units = serializers.IntegerField(required=False)
    unlimited = serializers.BooleanField(required=False)
    value = serializers.JSONField(required=False)
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField()


class AlertInput(StrictSerializer):
    """When to alert: at counted units, or at a share of the limit."""

    feature = KeyField()
    units = UnitsField(required=False)
    percent = StrictIntegerField(required=False, min_value=1, max_value=PERCENT_MAX)


class AlertSerializer(serializers.Serializer[Any]):
    """A customer's own threshold; one of units and percent."""

    id = serializers.UUIDField()
    feature = serializers.CharField()
    units = serializers.IntegerField(allow_null=True)
    percent = serializers.IntegerField(allow_null=True)
