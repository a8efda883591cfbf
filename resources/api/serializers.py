"""Define what the booking operations read, and the shapes that they show."""

from datetime import date
from typing import Any

from rest_framework import serializers

from core.api.serializers import (
    KeyField,
    QuerySerializer,
    StrictCharField,
    StrictIntegerField,
)
from resources.models import Resource, ResourceType
from resources.models.places import CAPACITY_MAX
from resources.opening import DAY_MINUTES
from resources.services import availability

CUSTOMER_LENGTH_MAX = 255
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2200, 1, 1)


class CustomerNameField(StrictCharField):
    """Accept the id or the external key of a customer."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - DRF's signature
        kwargs.setdefault("help_text", "Id or external key; a service key always names it.")
        super().__init__(
            max_length=CUSTOMER_LENGTH_MAX, required=False, trim_whitespace=False, **kwargs
        )


class DayField(serializers.DateField):
    """Accept a local date `YYYY-MM-DD` of this century or the next."""

    def to_internal_value(self, value: Any) -> date:  # noqa: ANN401 - DRF's signature
        """Return the date."""
        if not isinstance(value, str):
            self.fail("invalid", format="YYYY-MM-DD")
        day: date = super().to_internal_value(value)
        if not FIRST_DAY <= day <= LAST_DAY:
            self.fail("invalid", format="YYYY-MM-DD, 2000 … 2200")
        return day


class ResourcesQuery(QuerySerializer):
    """Which resources are listed."""

    type = KeyField(required=False)
    venue = KeyField(required=False)


class AvailabilityQuery(QuerySerializer):
    """Which slots are asked for."""

    customer = CustomerNameField()
    type = KeyField()
    venue = KeyField(required=False)
    date = DayField()
    days = StrictIntegerField(
        required=False, default=1, min_value=1, max_value=availability.DAYS_MAX
    )
    duration = StrictIntegerField(required=False, min_value=1, max_value=DAY_MINUTES)
    quantity = StrictIntegerField(required=False, default=1, min_value=1, max_value=CAPACITY_MAX)


class ResourceSerializer(serializers.Serializer[Any]):
    """One resource on offer, and how it is booked."""

    key = serializers.CharField()
    name = serializers.CharField()
    type = serializers.CharField()
    venue = serializers.CharField()
    time_zone = serializers.CharField()
    kind = serializers.ChoiceField(choices=Resource.Kind.choices)
    capacity = serializers.IntegerField()
    feature = serializers.CharField(help_text="The metered feature that pays.")
    unit = serializers.ChoiceField(choices=ResourceType.Unit.choices)
    minutes_min = serializers.IntegerField()
    minutes_max = serializers.IntegerField()
    grid_minutes = serializers.IntegerField()


class ResourceListSerializer(serializers.Serializer[Any]):
    """All resources on offer, as one page."""

    results = ResourceSerializer(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class BookingCostSerializer(serializers.Serializer[Any]):
    """Units of a feature."""

    feature = serializers.CharField()
    units = serializers.IntegerField()


class SlotSerializer(serializers.Serializer[Any]):
    """One start of one resource."""

    resource = serializers.CharField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    available = serializers.BooleanField()
    reason = serializers.CharField(
        allow_null=True, help_text="The code with which a booking would be refused."
    )
    cost = BookingCostSerializer()


class AvailabilitySerializer(serializers.Serializer[Any]):
    """The slots, and what is left of the feature that pays."""

    time_zone = serializers.CharField()
    slots = SlotSerializer(many=True)
    remaining = serializers.IntegerField(allow_null=True, help_text="Null means unlimited.")


def query_of(asked: dict[str, Any]) -> availability.Query:
    """Return the query of validated parameters."""
    return availability.Query(
        type_key=asked["type"],
        venue_key=asked.get("venue"),
        first_day=asked["date"],
        days=asked["days"],
        minutes=asked.get("duration"),
        quantity=asked["quantity"],
    )
