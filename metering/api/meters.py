"""Show meters, and what they have read by windows and groups."""

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import errors
from core.api import access, pagination, schema
from core.api import serializers as strict
from core.models import Customer
from core.periods import Interval
from metering import errors as own_errors
from metering import measuring
from metering.api import bodies
from metering.api.spans import SpanQuery
from metering.measuring import Figure, Question
from metering.models import Meter
from metering.models.meters import DECIMAL_PLACES

LIST_MAX = 8
METER_EXAMPLE = {
    "key": "tokens",
    "name": "Tokens",
    "event_type": "request.completed",
    "aggregation": "sum",
    "decimal": False,
    "group_by": ["region"],
    "late_horizon_seconds": 604800,
    "feature": None,
}
FIGURES_EXAMPLE = {
    "meter": "tokens",
    "window": "day",
    "time_zone": "Europe/Berlin",
    "results": [
        {
            "starts_at": "2026-11-22T23:00:00Z",
            "ends_at": "2026-11-23T23:00:00Z",
            "group": {"region": "eu"},
            "value": 1200,
        }
    ],
}


class NamesField(strict.StrictCharField):
    """Accept at most eight texts between commas."""

    def to_internal_value(self, data: Any) -> Any:  # noqa: ANN401 - DRF's signature
        """Return the texts."""
        texts = super().to_internal_value(data).split(",")
        if len(texts) > LIST_MAX or len(set(texts)) < len(texts) or not all(texts):
            self.fail("invalid")
        return tuple(texts)


class PairsField(NamesField):
    """Accept at most eight `name:value` between commas."""

    def to_internal_value(self, data: Any) -> Any:  # noqa: ANN401 - DRF's signature
        """Return the values by name."""
        pairs = [text.partition(":") for text in super().to_internal_value(data)]
        if not all(name and colon for name, colon, _ in pairs):
            self.fail("invalid")
        return {name: value for name, _, value in pairs}


class FiguresQuery(SpanQuery):
    """What of a meter is asked for."""

    window = serializers.ChoiceField(
        choices=[each.value for each in measuring.INTERVALS], required=False
    )
    group_by = NamesField(required=False)
    filter = PairsField(required=False)


class MeterSerializer(serializers.Serializer[Any]):
    """How events of one type become figures."""

    key = serializers.CharField()
    name = serializers.CharField()
    event_type = serializers.CharField()
    aggregation = serializers.ChoiceField(choices=Meter.Aggregation.choices)
    decimal = serializers.BooleanField()
    group_by = serializers.ListField(child=serializers.CharField())
    late_horizon_seconds = serializers.IntegerField()
    feature = serializers.CharField(allow_null=True, help_text="The feature whose usage it feeds.")


class FigureSerializer(serializers.Serializer[Any]):
    """One figure of one window and group."""

    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(help_text="Exclusive.")
    group = serializers.DictField(child=serializers.CharField(allow_null=True))
    value = serializers.JSONField(
        help_text="An integer; a decimal text for decimal meters and averages."
    )


class FiguresSerializer(serializers.Serializer[Any]):
    """What a meter has read; windows and groups without an event are not listed."""

    meter = serializers.CharField()
    window = serializers.CharField(allow_null=True)
    time_zone = serializers.CharField()
    results = FigureSerializer(many=True)


class MeterPages(pagination.CursorPages):
    """Page meters by key."""

    ordering = "key"


class MetersView(APIView):
    """List the meters."""

    @schema.operation(
        operation_id="listMeters",
        tag="metering",
        summary="List the meters",
        description="List the meters that count, by key: which events they count and how.",
        answers={200: schema.page_of(MeterSerializer)},
        example={"results": [METER_EXAMPLE], "next": None, "previous": None},
        parameters=schema.PAGE_PARAMETERS,
        refusals=(errors.InsufficientScope, errors.Invalid),
    )
    def get(self, request: Request) -> Response:
        """List the meters."""
        access.access_reader(request, scope="meters:read")
        pages = MeterPages()
        page = pages.paginate_queryset(measuring.list_meters(), request, view=self) or []
        return pages.get_paginated_response([meter(each) for each in page])


class MeterQueryView(APIView):
    """Measure by a meter."""

    @schema.operation(
        operation_id="queryMeter",
        tag="metering",
        summary="Measure by windows and groups",
        description="Aggregate what the meter has read of a customer's events by their own time, "
        "in half-open windows of a time zone. Sums are exact; an average is rounded at the sixth "
        "decimal place, half away from zero; `latest` is the last by time, then by arrival. At "
        f"most {measuring.WINDOWS_MAX:,} windows and {measuring.FIGURES_MAX:,} figures.",
        answers={200: FiguresSerializer},
        example=FIGURES_EXAMPLE,
        parameters=(
            schema.CUSTOMER_PARAMETER,
            OpenApiParameter("from", str, required=True, description="RFC 3339 instant."),
            OpenApiParameter("to", str, required=True, description="Exclusive."),
            OpenApiParameter(
                "window",
                str,
                enum=[each.value for each in measuring.INTERVALS],
                description="The whole span where it is left out.",
            ),
            OpenApiParameter("time_zone", str, description="IANA name; the customer's by default."),
            OpenApiParameter("group_by", str, description="Groups, between commas."),
            OpenApiParameter("filter", str, description="group:value, between commas."),
        ),
        refusals=(
            errors.UnknownField,
            errors.Malformed,
            errors.NaiveDatetime,
            own_errors.MeterUnknown,
            *schema.CUSTOMER,
        ),
    )
    def get(self, request: Request, key: str) -> Response:
        """Measure by a meter."""
        asked = strict.read_query(FiguresQuery, request)
        customer = access.access_customer(request, scope="meters:read", named=asked.get("customer"))
        question = _question(measuring.get_meter(key=key), customer, asked)
        figures = measuring.measure(question)
        return Response(
            {
                "meter": key,
                "window": question.window,
                "time_zone": question.time_zone,
                "results": [_figure(each) for each in figures],
            }
        )


def _question(meter: Meter, customer: Customer, asked: dict[str, Any]) -> Question:
    return Question(
        meter=meter,
        customer_id=customer.pk,
        starts_at=asked["from"],
        ends_at=asked["to"],
        window=Interval(asked["window"]) if "window" in asked else None,
        time_zone=asked.get("time_zone", customer.time_zone),
        group_by=asked.get("group_by", ()),
        where=asked.get("filter"),
    )


def meter(row: Meter) -> bodies.Body:
    """Return a meter."""
    return {
        "key": row.key,
        "name": row.name,
        "event_type": row.event_type,
        "aggregation": row.aggregation,
        "decimal": row.is_decimal,
        "group_by": list(row.group_by),
        "late_horizon_seconds": row.late_horizon_seconds,
        "feature": row.feature.key if row.feature else None,
    }


def _figure(figure: Figure) -> bodies.Body:
    value: object = figure.value
    if figure.is_millionths:
        value = f"{Decimal(figure.value).scaleb(-DECIMAL_PLACES):.{DECIMAL_PLACES}f}"
    return {
        "starts_at": bodies.instant(figure.period.starts_at),
        "ends_at": bodies.instant(figure.period.ends_at),
        "group": figure.group,
        "value": value,
    }
