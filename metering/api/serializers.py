"""Define what the usage operations read, and the shapes that they show."""

from typing import Any
from uuid import UUID

import orjson
from rest_framework import serializers
from rest_framework.request import Request

from core.api import access, requests
from core.api.serializers import (
    KEY_LENGTH_MAX,
    UNITS_MAX,
    InstantField,
    KeyField,
    QuerySerializer,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
    UnitsField,
    read,
)
from core.models import Customer
from metering.models import UsageEntry
from metering.services import consumption, drawing, explaining
from metering.services.drawing import For, Wanted
from subscriptions.facts import FeatureFacts
from subscriptions.models import Entitlement, Feature, Subscription

METADATA_BYTES_MAX = 2048
CUSTOMER_LENGTH_MAX = 255
ENTITY_LENGTH_MAX = 200
REASON_LENGTH_MAX = 255
PLAIN_FIELDS = frozenset({"customer", "entity", "feature", "metadata", "units"})


class CustomerNameField(StrictCharField):
    """Accept the id or the external key of a customer."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - DRF's signature
        kwargs.setdefault("help_text", "Id or external key; a service key always names it.")
        super().__init__(
            max_length=CUSTOMER_LENGTH_MAX, required=False, trim_whitespace=False, **kwargs
        )


class MetadataField(serializers.DictField):
    """Accept a JSON object of at most 2 kB; it stands in the ledger as it is given."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:  # noqa: ANN401 - DRF's signature
        """Return the object."""
        if not isinstance(data, dict):
            self.fail("not_a_dict", input_type=type(data).__name__)
        if len(orjson.dumps(data)) > METADATA_BYTES_MAX:
            detail = f"Metadata has at most {METADATA_BYTES_MAX} bytes."
            raise serializers.ValidationError(detail, code="max_length")
        return data


class EntityField(StrictCharField):
    """Accept the external id of a member or entity that a feature counts on its own."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - DRF's signature
        kwargs.setdefault("help_text", "Member or entity, where the feature is counted per such.")
        super().__init__(
            max_length=ENTITY_LENGTH_MAX, required=False, trim_whitespace=False, **kwargs
        )


class ItemSerializer(StrictSerializer):
    """So many units of one feature."""

    feature = KeyField()
    units = UnitsField()


class UsageSerializer(StrictSerializer):
    """One feature with its units, or several as items: all or nothing."""

    customer = CustomerNameField()
    feature = KeyField(required=False)
    units = UnitsField(required=False)
    items = serializers.ListField(
        child=ItemSerializer(), required=False, min_length=1, max_length=drawing.ITEMS_MAX
    )
    metadata = MetadataField(required=False)
    entity = EntityField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse what names both forms, or neither."""
        if "items" in attrs:
            for name in ("feature", "units"):
                if name in attrs:
                    detail = "Give items, or feature and units, not both."
                    raise serializers.ValidationError({name: detail}, code="ambiguous")
            return attrs
        for name in ("feature", "units"):
            if name not in attrs:
                raise serializers.ValidationError(
                    {name: serializers.ErrorDetail("This field is required.", code="required")}
                )
        return attrs


def wanted_of(given: dict[str, Any]) -> list[Wanted]:
    """Return the items of a validated usage input."""
    items = given.get("items") or [given]
    return [Wanted(feature_key=each["feature"], units=each["units"]) for each in items]


def used_by(given: dict[str, Any], request: Request) -> For:
    """Return whose usage it is: a user acts for himself, a service key names the entity."""
    user = access.identity_of(request).user
    return For(entity=given.get("entity", ""), member=str(user.pk) if user else "")


def read_usage(request: Request) -> dict[str, Any]:
    """Return the validated body of a usage operation.

    A plain one is told by its types and lengths alone; the serializer reads every other, and says
    what is wrong with it.

    :raises Invalid, Malformed, UnknownField: as `core.api.serializers.read` does.
    """
    data = request.data
    if isinstance(data, dict) and data.keys() <= PLAIN_FIELDS and _is_plain(data):
        return data
    return read(UsageSerializer, request)


def _is_plain(data: dict[str, Any]) -> bool:
    units, metadata = data.get("units"), data.get("metadata", {})
    return (
        type(units) is int  # a boolean is none
        and 1 <= units <= UNITS_MAX
        and _is_plain_text(data.get("feature"), length_max=KEY_LENGTH_MAX)
        and _is_plain_text(data.get("customer", "-"), length_max=CUSTOMER_LENGTH_MAX)
        and _is_plain_text(data.get("entity", "-"), length_max=ENTITY_LENGTH_MAX)
        and isinstance(metadata, dict)
        and (not metadata or len(orjson.dumps(metadata)) <= METADATA_BYTES_MAX)
    )


def _is_plain_text(value: object, *, length_max: int) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= length_max
        and value.isascii()
        and value.isprintable()
    )


def usage_request(
    given: dict[str, Any], request: Request, *, customer_id: UUID
) -> consumption.Request:
    """Return what a validated usage input asks to count."""
    return consumption.Request(
        customer_id=customer_id,
        wanted=wanted_of(given),
        keyed=requests.keyed(request),
        used_by=used_by(given, request),
        metadata=given.get("metadata", {}),
        request_id=requests.request_id(request),
    )


def question_of(
    asked: dict[str, Any], request: Request, *, customer: Customer, feature: FeatureFacts
) -> explaining.Question:
    """Return what a validated query asks to explain."""
    return explaining.Question(
        customer=customer,
        feature=feature,
        units=asked["units"],
        at=asked.get("at"),
        used_by=used_by(asked, request),
    )


class CustomerQuery(QuerySerializer):
    """Which customer a read means."""

    customer = CustomerNameField()


class ExplainQuery(CustomerQuery):
    """What is to be explained."""

    units = UnitsField(required=False, default=1)
    at = InstantField(required=False)
    entity = EntityField()
    entry = serializers.UUIDField(required=False)


class EntriesQuery(CustomerQuery):
    """Which entries are listed."""

    feature = KeyField(required=False)
    limit = StrictIntegerField(required=False)
    cursor = StrictCharField(required=False)


class MoveSerializer(StrictSerializer):
    """Whose subscription, and why."""

    customer = CustomerNameField()
    reason = StrictCharField(required=False, max_length=REASON_LENGTH_MAX)


class CancelSerializer(MoveSerializer):
    """When to cancel."""

    when = serializers.ChoiceField(choices=["period_end", "now"], default="period_end")


class PauseSerializer(MoveSerializer):
    """Until when to pause."""

    resume_at = InstantField(required=False)


class PeriodSerializer(serializers.Serializer[Any]):
    """A half-open period in UTC."""

    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(allow_null=True, help_text="Exclusive; null means never.")


class ConsumedItemSerializer(serializers.Serializer[Any]):
    """One counted item, with the figures after it."""

    id = serializers.UUIDField()
    feature = serializers.CharField()
    units = serializers.IntegerField()
    used = serializers.IntegerField()
    held = serializers.IntegerField()
    limit = serializers.IntegerField(allow_null=True, help_text="Null means unlimited.")
    remaining = serializers.IntegerField(allow_null=True)
    period = PeriodSerializer()
    entity = serializers.CharField(required=False, help_text="Whose usage it is.")
    draws = serializers.ListField(
        child=serializers.DictField(),
        required=False,
        help_text="What the pool, or the customer beside a member, counted for it.",
    )


class ConsumedSerializer(ConsumedItemSerializer):
    """What was counted; with several features, `id`, `items` and the common fields alone."""

    consumed_at = serializers.DateTimeField()
    metadata = serializers.DictField()
    items = ConsumedItemSerializer(many=True, required=False)


class UpgradeSerializer(serializers.Serializer[Any]):
    """A plan that grants more."""

    plan = serializers.CharField()
    limit = serializers.IntegerField(allow_null=True)


class CheckedItemSerializer(serializers.Serializer[Any]):
    """The answer about one feature."""

    feature = serializers.CharField()
    allowed = serializers.BooleanField()
    code = serializers.CharField(required=False)
    requested = serializers.IntegerField()
    used = serializers.IntegerField()
    held = serializers.IntegerField()
    limit = serializers.IntegerField(allow_null=True)
    remaining = serializers.IntegerField(allow_null=True)
    resets_at = serializers.DateTimeField(allow_null=True)
    upgrade = UpgradeSerializer(many=True, required=False)


class CheckedSerializer(CheckedItemSerializer):
    """The answer; with several features, `allowed`, the first `code` and `items`."""

    items = CheckedItemSerializer(many=True, required=False)


class EntrySerializer(serializers.Serializer[Any]):
    """One line of the usage ledger."""

    id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=UsageEntry.Kind.choices)
    feature = serializers.CharField()
    units = serializers.IntegerField()
    consumed_at = serializers.DateTimeField()
    period = PeriodSerializer(allow_null=True)
    reverses = serializers.UUIDField(allow_null=True)
    metadata = serializers.DictField()
    entity = serializers.CharField(required=False)
    code = serializers.CharField(required=False, help_text="Why it was denied.")


class SourceSerializer(serializers.Serializer[Any]):
    """Where units come from."""

    kind = serializers.ChoiceField(choices=["plan", "add_on", "override", "grant"])
    key = serializers.CharField()
    units = serializers.IntegerField(allow_null=True)


class EntitlementSerializer(serializers.Serializer[Any]):
    """What a customer has of one feature."""

    feature = serializers.CharField()
    type = serializers.ChoiceField(choices=Feature.Type.choices)
    enabled = serializers.BooleanField()
    value = serializers.JSONField(allow_null=True)
    limit = serializers.IntegerField(allow_null=True)
    mode = serializers.ChoiceField(choices=Entitlement.Mode.choices, allow_null=True)
    resets_at = serializers.DateTimeField(allow_null=True)
    sources = SourceSerializer(many=True)


class EntitlementMapSerializer(serializers.Serializer[Any]):
    """All that a customer has, by feature key."""

    entitlements = serializers.DictField(child=EntitlementSerializer())
    next_change_at = serializers.DateTimeField(allow_null=True)


class PaymentSerializer(serializers.Serializer[Any]):
    """How to pay for what is incomplete."""

    gateway = serializers.CharField()
    instructions = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)


class OverviewSerializer(serializers.Serializer[Any]):
    """Plan, limits and usage of a customer."""

    plan = serializers.CharField(allow_null=True)
    limits = serializers.DictField(child=serializers.IntegerField(allow_null=True))
    usage = serializers.DictField(child=serializers.IntegerField())
    plan_key = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField(choices=Subscription.Status.choices, allow_null=True)
    subscription = serializers.UUIDField(allow_null=True)
    features = serializers.DictField(child=serializers.JSONField())
    remaining = serializers.DictField(child=serializers.IntegerField(allow_null=True))
    held = serializers.DictField(child=serializers.IntegerField())
    resets_at = serializers.DictField(child=serializers.DateTimeField(allow_null=True))
    current_period = PeriodSerializer(allow_null=True)
    trial_ends_at = serializers.DateTimeField(allow_null=True)
    cancel_at = serializers.DateTimeField(allow_null=True)
    collection_paused = serializers.BooleanField()
    scheduled_change = serializers.JSONField(allow_null=True)
    add_ons = serializers.ListField(child=serializers.JSONField())
    over_limit = serializers.ListField(child=serializers.CharField())
    payment = PaymentSerializer(required=False)


class ExplanationSerializer(serializers.Serializer[Any]):
    """Why a customer may or may not."""

    allowed = serializers.BooleanField()
    code = serializers.CharField(allow_null=True)
    feature = serializers.CharField()
    units = serializers.IntegerField()
    at = serializers.DateTimeField()
    rule = serializers.CharField()
    plan = serializers.JSONField(allow_null=True)
    add_ons = serializers.ListField(child=serializers.JSONField())
    overrides = serializers.ListField(child=serializers.JSONField())
    grants = serializers.ListField(child=serializers.JSONField())
    holds = serializers.ListField(child=serializers.JSONField())
    balance = serializers.JSONField(allow_null=True)
    steps = serializers.ListField(child=serializers.CharField())
