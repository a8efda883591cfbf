"""Take events in: CloudEvents 1.0, alone or in batches, each counted once for ever."""

from collections.abc import Sequence
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock, errors
from core.api import access, schema
from core.api.json import JSONParser
from core.errors import DomainError
from metering import errors as own_errors
from metering.api import cloudevents
from metering.api.cloudevents import Read
from metering.services import ingest
from metering.services.arrivals import Outcome, Result

EVENT_EXAMPLE = {
    "specversion": "1.0",
    "id": "req-8f14e45f",
    "source": "https://shop.example/api",
    "type": "request.completed",
    "subject": "acme",
    "time": "2026-11-23T09:30:00Z",
    "data": {"tokens": 1200, "region": "eu"},
}
RESULTS_EXAMPLE = {
    "results": [
        {"index": 0, "id": "req-8f14e45f", "result": "counted"},
        {"index": 1, "id": "req-8f14e45f", "result": "duplicate"},
        {"index": 2, "id": "req-45c48cce", "result": "refused", "code": "event_too_old"},
    ]
}
TEXT = {"type": "string", "minLength": 1, "maxLength": cloudevents.TEXT_LENGTH_MAX}
EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": list(cloudevents.REQUIRED),
    "properties": {
        "specversion": {"type": "string", "enum": [cloudevents.SPECVERSION]},
        "id": TEXT,
        "source": TEXT | {"format": "uri-reference"},
        "type": TEXT,
        "subject": TEXT | {"description": "The customer; a user's own by default."},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"type": "string"},
        "dataschema": TEXT | {"format": "uri"},
        "data": {},
    },
}
BATCH_SCHEMA = {"type": "array", "items": EVENT_SCHEMA, "maxItems": ingest.EVENTS_MAX}


class EventResultSerializer(serializers.Serializer[Any]):
    """What became of one event."""

    index = serializers.IntegerField(help_text="Its place in the request, from 0.")
    id = serializers.CharField(allow_null=True)
    result = serializers.ChoiceField(choices=[each.value for each in Result])
    code = serializers.CharField(required=False, help_text="Why it was refused.")


class EventResultsSerializer(serializers.Serializer[Any]):
    """What became of each event, in the order of the request."""

    results = EventResultSerializer(many=True)


class EventsView(APIView):
    """Take events in."""

    parser_classes = (cloudevents.EventParser, cloudevents.BatchParser, JSONParser)

    @schema.operation(
        operation_id="ingestEvents",
        tag="metering",
        summary="Send events",
        description="Count events by the meters of their type, each (customer, source, id) once "
        "for ever. One CloudEvent in structured or in binary mode, or a batch of at most "
        f"{ingest.EVENTS_MAX:,}. On 200 what is counted is committed. In a batch each event is "
        "counted, a duplicate or refused by itself; the refusal of a single event is the answer. "
        "After an answer that was lost, send the same again.",
        request={
            cloudevents.STRUCTURED: EVENT_SCHEMA,
            cloudevents.BATCH: BATCH_SCHEMA,
            JSONParser.media_type: {"description": "The data; attributes in ce- headers."},
        },
        request_example={
            cloudevents.STRUCTURED: EVENT_EXAMPLE,
            cloudevents.BATCH: [EVENT_EXAMPLE],
            JSONParser.media_type: EVENT_EXAMPLE["data"],
        },
        answers={200: EventResultsSerializer},
        example=RESULTS_EXAMPLE,
        refusals=(
            own_errors.EventTooOld,
            own_errors.EventInFuture,
            own_errors.MeterUnknown,
            errors.NaiveDatetime,
            *schema.CUSTOMER,
        ),
    )
    def post(self, request: Request) -> Response:
        """Take events in."""
        read = cloudevents.read(request)
        customers = access.access_customers(
            request, scope="events:write", named=cloudevents.names_of(read)
        )
        arrived = cloudevents.addressed(read, customers=customers)
        outcomes = ingest.ingest(events=arrived, clock=clock.process_clock())
        if cloudevents.media_type(request) != cloudevents.BATCH and outcomes[0].refusal:
            raise outcomes[0].refusal
        return Response({"results": _results(read, outcomes, body=request.data)})


def _results(
    read: Sequence[Read], outcomes: Sequence[Outcome], *, body: object
) -> list[dict[str, object]]:
    return [
        {"index": index, "id": cloudevents.event_id_of(each, body, index)} | _result(outcome)
        for index, (each, outcome) in enumerate(zip(read, outcomes, strict=True))
    ]


def _result(outcome: Outcome) -> dict[str, object]:
    refusal: DomainError | None = outcome.refusal
    return {"result": outcome.result} | ({"code": refusal.code} if refusal else {})
