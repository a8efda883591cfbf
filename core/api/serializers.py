"""Read input strictly: unknown fields are refused, and a value is of its JSON type or not valid."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from core import clock, errors

UNITS_MAX = 10**12
KEY_LENGTH_MAX = 100
DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)
Data = dict[str, Any]


class StrictSerializer(serializers.Serializer[Any]):
    """Refuse what is not an object, and every field that is not declared."""

    def to_internal_value(self, data: Any) -> Data:  # noqa: ANN401 - DRF's signature
        """Return the validated fields.

        :raises Malformed: for what is not an object.
        :raises UnknownField: naming the field.
        """
        if not isinstance(data, Mapping):
            detail = "The body must be a JSON object."
            if self.parent is None:
                raise errors.Malformed(detail)
            raise ValidationError(detail, code="not_an_object")
        unknown = sorted(set(data) - set(self.fields))
        if unknown:
            detail = f"Unknown field: {unknown[0]!r}. Known: {', '.join(sorted(self.fields))}."
            raise errors.UnknownField(detail, facts={"field": unknown[0]})
        validated: Data = super().to_internal_value(data)
        return validated

    def create(self, validated_data: Data) -> Any:  # noqa: ANN401, ARG002 - DRF's signature
        """Refuse: serializers read and show, services write."""
        raise ImproperlyConfigured

    def update(self, instance: Any, validated_data: Data) -> Any:  # noqa: ANN401, ARG002 - as above
        """Refuse: serializers read and show, services write."""
        raise ImproperlyConfigured


class QuerySerializer(StrictSerializer):
    """Read query parameters: an unknown or repeated one is refused."""


class StrictIntegerField(serializers.IntegerField):
    """Accept a JSON integer, or plain decimal digits in a query: no 1e3, "1", true or 1.0."""

    def to_internal_value(self, data: Any) -> int:  # noqa: ANN401 - DRF's signature
        """Return the integer."""
        is_query = isinstance(self.root, QuerySerializer)
        if is_query and isinstance(data, str) and len(data) <= 20 and DECIMAL.fullmatch(data):
            return int(data)
        if is_query or isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return data


class UnitsField(StrictIntegerField):
    """Accept units: 1 … 10^12 of the feature's smallest unit."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - DRF's signature
        kwargs.setdefault("help_text", "Units of the feature, 1 … 10^12.")
        super().__init__(min_value=1, max_value=UNITS_MAX, **kwargs)


class StrictCharField(serializers.CharField):
    """Accept a JSON string without NUL and lone surrogates."""

    def to_internal_value(self, data: Any) -> str:  # noqa: ANN401 - DRF's signature
        """Return the text."""
        if not isinstance(data, str):
            self.fail("invalid")
        if "\x00" in data or any("\ud800" <= character <= "\udfff" for character in data):
            self.fail("invalid")
        return super().to_internal_value(data)


class KeyField(StrictCharField):
    """Accept the key of a plan, feature or price."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - DRF's signature
        super().__init__(max_length=KEY_LENGTH_MAX, trim_whitespace=False, **kwargs)


class StrictBooleanField(serializers.BooleanField):
    """Accept true and false, nothing that looks like them."""

    def to_internal_value(self, data: Any) -> bool:  # noqa: ANN401 - DRF's signature
        """Return the boolean."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


def read_instant(value: object, *, field: str) -> datetime | None:
    """Return an RFC 3339 instant in UTC; None for what is not one.

    :raises NaiveDatetime: where the offset is missing.
    """
    if not isinstance(value, str) or not INSTANT.fullmatch(value):
        return None
    try:
        instant = datetime.fromisoformat(value.upper())
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    detail = f"{value} has no offset; write {value}Z for UTC."
    raise errors.NaiveDatetime(detail, facts={"field": field})


class InstantField(serializers.DateTimeField):
    """Accept an RFC 3339 instant with its offset; return it in UTC."""

    def to_internal_value(self, value: Any) -> datetime:  # noqa: ANN401 - DRF's signature
        """Return the instant.

        :raises NaiveDatetime: where the offset is missing.
        """
        instant = read_instant(value, field=self.field_name or "")
        if instant is None:
            self.fail("invalid", format="RFC 3339")
        return instant

    def to_representation(self, value: Any) -> str:  # noqa: ANN401 - DRF's signature
        """Return the instant in UTC, ending in Z."""
        return clock.rfc3339(value)


Input = TypeVar("Input", bound=StrictSerializer)


def read(serializer_class: type[Input], request: Request) -> Data:
    """Return the validated body.

    :raises Invalid: with pointer, code and detail of every value that breaks a rule.
    :raises Malformed, UnknownField, NaiveDatetime: for what cannot be read.
    """
    return _validated(serializer_class(data=request.data), root="")


def read_query(serializer_class: type[QuerySerializer], request: Request) -> Data:
    """Return the validated query parameters; each may stand once.

    :raises Invalid: with the name of every parameter that breaks a rule.
    :raises UnknownField: for a parameter that the operation does not know.
    """
    repeated = [name for name, values in request.query_params.lists() if len(values) > 1]
    if repeated:
        detail = f"The parameter {repeated[0]!r} stands more than once."
        raise errors.Malformed(detail)
    return read_values(serializer_class, request.query_params.dict())


def read_values(serializer_class: type[QuerySerializer], values: Mapping[str, str]) -> Data:
    """Return validated values that came as text, as a query's or a command's do.

    :raises Invalid, UnknownField: as `read_query` does.
    """
    return _validated(serializer_class(data=values), root="")


def _validated(serializer: StrictSerializer, *, root: str) -> Data:
    try:
        serializer.is_valid(raise_exception=True)
    except ValidationError as error:
        found = list(_pointers(error.detail, root))
        raise errors.Invalid(found[0]["detail"], facts={"errors": found}) from error
    validated: Data = serializer.validated_data
    return validated


def _pointers(detail: Any, pointer: str) -> Iterator[dict[str, str]]:  # noqa: ANN401 - DRF's nested details
    """Yield pointer (RFC 6901), code and detail of each leaf."""
    if isinstance(detail, ErrorDetail):
        yield {"pointer": pointer or "/", "code": str(detail.code), "detail": str(detail)}
    elif isinstance(detail, Mapping):
        for name, inner in detail.items():
            part = str(name).replace("~", "~0").replace("/", "~1")
            at_object = name == "non_field_errors"
            yield from _pointers(inner, pointer if at_object else f"{pointer}/{part}")
    elif all(isinstance(inner, ErrorDetail) for inner in detail):
        for inner in detail:
            yield from _pointers(inner, pointer)
    else:
        for index, inner in enumerate(detail):
            yield from _pointers(inner, f"{pointer}/{index}")
