"""Read CloudEvents 1.0 from HTTP: structured, in a batch, and binary.

Source: CloudEvents 1.0.2, its JSON event format and its HTTP protocol binding.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote
from uuid import UUID

from django.conf import settings
from rest_framework.request import Request

from core import errors
from core.api import serializers as strict
from core.api.json import JSONParser
from core.errors import DomainError
from metering.services import arrivals, ingest

SPECVERSION = "1.0"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
HEADER_PREFIX = "ce-"
REQUIRED = ("id", "source", "specversion", "type")
OPTIONAL = frozenset({"subject", "time", "datacontenttype", "dataschema", "data", "data_base64"})
KNOWN = OPTIONAL | frozenset(REQUIRED)
TEXT_LENGTH_MAX = 255
EXTENSIONS_MAX = 50
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
URI_REFERENCE = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+", re.ASCII)
EXTENSION = re.compile(r"[a-z0-9]+", re.ASCII)
JSON_TYPE = re.compile(r"[\w.-]+/(?:[\w.-]+\+)?json\s*(?:;.*)?", re.ASCII | re.IGNORECASE)


class EventParser(JSONParser):
    """Parse one event in structured mode."""

    media_type = STRUCTURED


class BatchParser(JSONParser):
    """Parse a batch of at most `ENGINE.event_batch_bytes_max` bytes."""

    media_type = BATCH

    def bytes_max(self) -> int:
        """Return the largest body in bytes."""
        bytes_max: int = settings.ENGINE.event_batch_bytes_max
        return bytes_max


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """One event as it was sent; `customer_name` is its `subject`."""

    event_id: str
    source: str
    event_type: str
    customer_name: str | None
    occurred_at: datetime | None
    data: object


Read = Sent | DomainError


def media_type(request: Request) -> str:
    """Return the body's media type without parameters."""
    return (request.content_type or "").partition(";")[0].strip().lower()


def read(request: Request) -> list[Read]:
    """Return the events of a request, each read or refused by itself.

    :raises Malformed: for a body of another shape, or binary mode without its headers.
    :raises Invalid: for more than 10,000 events.
    """
    body = request.data
    if media_type(request) == BATCH:
        if not isinstance(body, list):
            raise errors.Malformed("The body of a batch must be a JSON array of events.")
        if len(body) > ingest.EVENTS_MAX:
            detail = f"A batch has at most {ingest.EVENTS_MAX} events, not {len(body)}."
            raise errors.Invalid.at("/", code="max_length", detail=detail)
        return [read_one(each) for each in body]
    if media_type(request) == STRUCTURED:
        return [read_one(body)]
    return [read_one(_from_headers(request.headers, body))]


def names_of(sent: Sequence[Read]) -> set[str | None]:
    """Return whom the events name as their customers; None where one names nobody."""
    return {each.customer_name for each in sent if isinstance(each, Sent)}


def addressed(
    sent: Sequence[Read], *, customers: Mapping[str | None, UUID]
) -> list[arrivals.Event | DomainError]:
    """Return the events with their customers; refused where the caller may not act for one."""
    return [each if isinstance(each, DomainError) else _addressed(each, customers) for each in sent]


def event_id_of(read_event: Read, body: object, index: int) -> str | None:
    """Return the id that the sender gave an event, where it can be told."""
    if isinstance(read_event, Sent):
        return read_event.event_id
    item = body[index] if isinstance(body, list) else body
    given = item.get("id") if isinstance(item, dict) else None
    return given if isinstance(given, str) else None


def _addressed(sent: Sent, customers: Mapping[str | None, UUID]) -> arrivals.Event | DomainError:
    customer_id = customers.get(sent.customer_name)
    if customer_id is None and sent.customer_name is None:
        return _invalid("subject", "required", "It names the customer, by id or external key.")
    if customer_id is None:
        return errors.NotFound("There is no such customer.")
    return arrivals.Event(
        customer_id=customer_id,
        source=sent.source,
        event_id=sent.event_id,
        event_type=sent.event_type,
        occurred_at=sent.occurred_at,
        data=sent.data,
    )


def _from_headers(headers: Mapping[str, str], body: object) -> dict[str, object]:
    """Return a binary event as structured mode would write it.

    :raises Malformed: where a required header is missing, or one is not percent-encoded UTF-8.
    """
    given = {
        name.lower().removeprefix(HEADER_PREFIX): value
        for name, value in headers.items()
        if name.lower().startswith(HEADER_PREFIX)
    }
    for name in REQUIRED:
        if name not in given:
            detail = (
                f"The header {HEADER_PREFIX}{name} is missing. Send an event in binary mode with "
                f"its {HEADER_PREFIX} headers, or as {STRUCTURED} or {BATCH}."
            )
            raise errors.Malformed(detail)
    for name in ("data", "data_base64", "datacontenttype"):
        if name in given:
            detail = f"In binary mode {name} is the body or its Content-Type, not a header."
            raise errors.Malformed(detail)
    try:
        event: dict[str, object] = {
            name: unquote(value, errors="strict") for name, value in given.items()
        }
    except UnicodeDecodeError as error:
        raise errors.Malformed("A header is not percent-encoded UTF-8.") from error
    return event | {"data": body}


def read_one(item: object) -> Read:
    """Return the event of a JSON object, or its refusal."""
    try:
        return _read(item)
    except DomainError as refusal:
        return refusal


def _read(item: object) -> Sent:
    """Return the event.

    :raises Malformed: for what is not an object.
    :raises Invalid: for an attribute that is missing or breaks its rule.
    :raises NaiveDatetime: for a time without an offset.
    """
    if not isinstance(item, dict):
        raise errors.Malformed("An event must be a JSON object.")
    if item.get("specversion") != SPECVERSION:
        raise _invalid("specversion", "invalid", f"It must be {SPECVERSION!r}.")
    source = _text(item, "source")
    if not URI_REFERENCE.fullmatch(source):
        raise _invalid("source", "invalid", "It must be a URI reference.")
    _check_optional(item)
    if not item.keys() <= KNOWN:
        _check_extensions(item)
    return Sent(
        event_id=_text(item, "id"),
        source=source,
        event_type=_text(item, "type"),
        customer_name=None if item.get("subject") is None else _text(item, "subject"),
        occurred_at=_time(item.get("time")),
        data=item.get("data"),
    )


def _text(item: Mapping[str, object], name: str) -> str:
    """Return an attribute that is a text of 1 … 255 characters without control characters."""
    value = item.get(name)
    if value is None:
        raise _invalid(name, "required", "This attribute is required.")
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_LENGTH_MAX:
        raise _invalid(name, "invalid", f"It must be a text of 1 … {TEXT_LENGTH_MAX} characters.")
    if CONTROL.search(value):
        raise _invalid(name, "invalid", "It must have no control characters.")
    return value


def _time(given: object) -> datetime | None:
    if given is None:
        return None
    instant = strict.read_instant(given, field="time")
    if instant is None:
        raise _invalid("time", "invalid", "It must be an RFC 3339 instant.")
    return instant


def _check_optional(item: Mapping[str, object]) -> None:
    if item.get("data_base64") is not None:
        raise _invalid("data_base64", "invalid", "Send the data as JSON, in data.")
    content_type = item.get("datacontenttype")
    if content_type is not None and not (
        isinstance(content_type, str) and JSON_TYPE.fullmatch(content_type)
    ):
        raise _invalid("datacontenttype", "invalid", "The data must be JSON.")
    if item.get("dataschema") is not None:
        _text(item, "dataschema")


def _check_extensions(item: Mapping[str, object]) -> None:
    """Refuse extension attributes that CloudEvents does not allow; what they say is not kept."""
    names = item.keys() - KNOWN
    if len(names) > EXTENSIONS_MAX:
        raise _invalid("", "max_length", f"An event has at most {EXTENSIONS_MAX} extensions.")
    for name in names:
        if not EXTENSION.fullmatch(name):
            raise _invalid(name, "invalid", "An extension's name has only a-z and 0-9.")
        if not isinstance(item[name], str | int | None):
            detail = "An extension's value is a text, an integer or a boolean."
            raise _invalid(name, "invalid", detail)


def _invalid(name: str, code: str, detail: str) -> errors.Invalid:
    pointer = name.replace("~", "~0").replace("/", "~1")
    return errors.Invalid.at(f"/{pointer}", code=code, detail=f"{name or 'event'}: {detail}")
