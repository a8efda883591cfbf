"""Read a span of time of a customer from a query."""

from typing import Any

from core import zones
from core.api import serializers as strict
from metering.api.serializers import CustomerQuery

YEAR_MIN, YEAR_MAX = 1970, 2999


class BoundedInstantField(strict.InstantField):
    """Accept an instant of the years 1970 … 2999."""

    def to_internal_value(self, value: Any) -> Any:  # noqa: ANN401 - DRF's signature
        """Return the instant."""
        instant = super().to_internal_value(value)
        if not YEAR_MIN <= instant.year <= YEAR_MAX:
            self.fail("invalid", format=f"an instant of the years {YEAR_MIN} … {YEAR_MAX}")
        return instant


class ZoneField(strict.StrictCharField):
    """Accept the name of an IANA time zone."""

    def to_internal_value(self, data: Any) -> str:  # noqa: ANN401 - DRF's signature
        """Return the name."""
        name = super().to_internal_value(data)
        if not zones.is_known(name):
            self.fail("invalid")
        return name


class SpanQuery(CustomerQuery):
    """A span of time of a customer, in windows of a zone."""

    time_zone = ZoneField(required=False)

    def get_fields(self) -> dict[str, Any]:
        """Return the fields; `from` is no name for an attribute."""
        return super().get_fields() | {"from": BoundedInstantField(), "to": BoundedInstantField()}
