"""Show what was used by hour, day, week or month."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import errors
from core.api import access, schema
from core.api import serializers as strict
from core.periods import Interval, Period
from metering import errors as own_errors
from metering import history, measuring
from metering.api import bodies
from metering.api.spans import SpanQuery
from metering.history import Bucket
from subscriptions import errors as subscription_errors
from subscriptions import selectors as subscription_selectors
from subscriptions.models import Feature

HISTORY_EXAMPLE = {
    "feature": "api_calls",
    "buckets": [
        {"starts_at": "2026-11-22T00:00:00Z", "ends_at": "2026-11-23T00:00:00Z", "units": 120},
        {"starts_at": "2026-11-23T00:00:00Z", "ends_at": "2026-11-24T00:00:00Z", "units": 0},
    ],
}


class HistoryQuery(SpanQuery):
    """Which usage is asked for."""

    feature = strict.KeyField()
    bucket = serializers.ChoiceField(
        choices=[each.value for each in history.BUCKETS], default=Interval.DAY.value
    )


class BucketSerializer(serializers.Serializer[Any]):
    """The units used in one window."""

    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(help_text="Exclusive.")
    units = serializers.IntegerField(help_text="Below 0 where more came back than was used.")


class HistorySerializer(serializers.Serializer[Any]):
    """What was used of a feature, window by window."""

    feature = serializers.CharField()
    buckets = BucketSerializer(many=True)


class HistoryView(APIView):
    """Show the history of usage."""

    @schema.operation(
        operation_id="getUsageHistory",
        tag="usage",
        summary="Show usage by bucket",
        description="Add the usage ledger up by hour, day, week or month of a time zone, the "
        "customer's by default. Entries count at the instant at which they were made; what was "
        "reversed or given back counts against its own bucket. Empty buckets are listed; at most "
        f"{measuring.WINDOWS_MAX:,}.",
        answers={200: HistorySerializer},
        example=HISTORY_EXAMPLE,
        parameters=(
            schema.CUSTOMER_PARAMETER,
            OpenApiParameter("feature", str, required=True, description="Key of the feature."),
            OpenApiParameter("from", str, required=True, description="RFC 3339 instant."),
            OpenApiParameter("to", str, required=True, description="Exclusive."),
            OpenApiParameter(
                "bucket",
                str,
                enum=[each.value for each in history.BUCKETS],
                description="Width of a bucket (day).",
            ),
            OpenApiParameter("time_zone", str, description="IANA name; the customer's by default."),
        ),
        refusals=(
            errors.UnknownField,
            errors.Malformed,
            errors.NaiveDatetime,
            own_errors.FeatureNotMetered,
            subscription_errors.FeatureUnknown,
            *schema.CUSTOMER,
        ),
    )
    def get(self, request: Request) -> Response:
        """Show the history of usage."""
        asked = strict.read_query(HistoryQuery, request)
        customer = access.access_customer(request, scope="usage:read", named=asked.get("customer"))
        buckets = history.list_history(
            customer_id=customer.pk,
            feature_id=_metered_feature(asked["feature"]),
            spans=_spans(asked, time_zone=customer.time_zone),
        )
        return Response(
            {"feature": asked["feature"], "buckets": [_bucket(each) for each in buckets]}
        )


def _spans(asked: dict[str, Any], *, time_zone: str) -> list[Period]:
    return measuring.list_windows(
        starts_at=asked["from"],
        ends_at=asked["to"],
        window=Interval(asked["bucket"]),
        time_zone=asked.get("time_zone", time_zone),
        name="bucket",
    )


def _metered_feature(key: str) -> int:
    feature = subscription_selectors.get_feature(key=key)
    if feature.type != Feature.Type.METERED:
        detail = f"{key} is a {feature.type} feature; it is not counted."
        raise own_errors.FeatureNotMetered(detail, facts={"feature": key})
    return feature.id


def _bucket(bucket: Bucket) -> bodies.Body:
    return {
        "starts_at": bodies.instant(bucket.period.starts_at),
        "ends_at": bodies.instant(bucket.period.ends_at),
        "units": bucket.units,
    }
