"""Define what the customers' operations read and show."""

from typing import Any

from rest_framework import serializers

from core import clock, zones
from core.api.serializers import InstantField, StrictCharField, StrictSerializer
from core.models import Customer
from core.services.customers import CustomerChange, NewCustomer

NAME_LENGTH_MAX = 255


class TimeZoneField(StrictCharField):
    """Accept an IANA time zone."""

    default_error_messages = {"unknown": "This is not an IANA time zone."}

    def to_internal_value(self, data: Any) -> str:  # noqa: ANN401 - DRF's signature
        """Return the zone's name."""
        name = super().to_internal_value(data)
        if not zones.is_known(name):
            self.fail("unknown")
        return name


class CurrencyField(StrictCharField):
    """Accept an ISO 4217 code: three capital letters."""

    default_error_messages = {"currency": "A currency is three capital letters."}

    def to_internal_value(self, data: Any) -> str:  # noqa: ANN401 - DRF's signature
        """Return the code."""
        code = super().to_internal_value(data)
        if not (len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()):
            self.fail("currency")
        return code


class NewCustomerSerializer(StrictSerializer):
    """A customer to create."""

    external_key = StrictCharField(max_length=NAME_LENGTH_MAX, trim_whitespace=False)
    name = StrictCharField(max_length=NAME_LENGTH_MAX)
    time_zone = TimeZoneField(required=False, default="UTC")
    currency = CurrencyField(required=False, default="EUR")
    test_clock_at = InstantField(
        required=False,
        help_text="Gives the customer a clock of his own, for tests; it cannot be set later.",
    )


class CustomerChangeSerializer(StrictSerializer):
    """What is to be different of a customer: name, zone, or both."""

    name = StrictCharField(max_length=NAME_LENGTH_MAX, required=False)
    time_zone = TimeZoneField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse to change nothing."""
        if not attrs:
            msg = "Give a name, a time_zone, or both."
            raise serializers.ValidationError(msg, code="required")
        return attrs


class CustomerSerializer(serializers.Serializer[Any]):
    """A customer."""

    id = serializers.UUIDField()
    external_key = serializers.CharField()
    name = serializers.CharField()
    time_zone = serializers.CharField()
    currency = serializers.CharField()
    revision = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    test_clock_at = serializers.DateTimeField(allow_null=True)


def new_customer(given: dict[str, Any]) -> NewCustomer:
    """Return the customer of a validated input."""
    return NewCustomer(
        external_key=given["external_key"],
        name=given["name"],
        time_zone=given["time_zone"],
        currency=given["currency"],
        test_clock_at=given.get("test_clock_at"),
    )


def customer_change(given: dict[str, Any]) -> CustomerChange:
    """Return the change of a validated input."""
    return CustomerChange(name=given.get("name"), time_zone=given.get("time_zone"))


def customer_body(row: Customer) -> dict[str, object]:
    """Return a customer as the API shows him."""
    own = None if row.test_clock_at is None else clock.rfc3339(row.test_clock_at)
    return {
        "id": str(row.pk),
        "external_key": row.external_key,
        "name": row.name,
        "time_zone": row.time_zone,
        "currency": row.currency,
        "revision": row.revision,
        "created_at": clock.rfc3339(row.created_at),
        "test_clock_at": own,
    }
