"""Answer with an ETag, or with what an idempotency key stands for."""

import hashlib
from collections.abc import Callable, Mapping

import orjson
from rest_framework.request import Request
from rest_framework.response import Response

from core.services.idempotency import Recorded

NOT_MODIFIED = 304


def etag(*parts: object) -> str:
    """Return a strong entity tag that changes with any of the parts."""
    digest = hashlib.sha256(orjson.dumps(parts, default=str)).hexdigest()
    return f'"{digest[:32]}"'


def conditional(
    request: Request, *, tag: str, body: Callable[[], Mapping[str, object]]
) -> Response:
    """Return 304 where the caller has this state already, else the body with its tag.

    Source: RFC 9110 §13.1.2, weak comparison.
    """
    asked = [each.strip() for each in request.headers.get("If-None-Match", "").split(",")]
    if "*" in asked or tag in {each.removeprefix("W/") for each in asked}:
        response = Response(status=NOT_MODIFIED)
    else:
        response = Response(body())
    response["ETag"] = tag
    return response


def recorded(answer: Recorded) -> Response:
    """Return the recorded answer, marked where it is given again."""
    response = Response(answer.body, status=answer.status)
    if answer.replayed:
        response["Idempotent-Replayed"] = "true"
    return response
