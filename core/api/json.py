"""Read and write JSON with orjson: always JSON, always UTC, never a float by accident."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import IO, Any

import orjson
from django.conf import settings
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from core import clock, errors

DEPTH_MAX = 32


class JSONRenderer(BaseRenderer):
    """Render JSON in UTF-8; instants end in Z."""

    media_type = "application/json"
    format = "json"
    charset = None
    render_style = "binary"

    def render(
        self,
        data: Any,  # noqa: ANN401 - DRF's signature
        accepted_media_type: str | None = None,  # noqa: ARG002
        renderer_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> bytes:
        """Return the JSON of the data; nothing for no data."""
        if data is None:
            return b""
        return orjson.dumps(data, default=_jsonable, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _jsonable(value: object) -> object:
    if isinstance(value, datetime):
        return clock.rfc3339(value)
    if isinstance(value, Mapping):
        return dict(value)
    msg = f"{type(value).__name__} is not JSON"
    raise TypeError(msg)


class JSONParser(BaseParser):
    """Parse a JSON body of at most `ENGINE.body_bytes_max` bytes."""

    media_type = "application/json"

    def bytes_max(self) -> int:
        """Return the largest body in bytes."""
        bytes_max: int = settings.ENGINE.body_bytes_max
        return bytes_max

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,  # noqa: ARG002
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> Any:  # noqa: ANN401 - any JSON
        """Return the parsed body; an empty one is an empty object.

        :raises PayloadTooLarge: for a body beyond the bound.
        :raises Malformed: for what is not JSON: broken, too deep, NaN or not UTF-8.
        """
        body_bytes_max = self.bytes_max()
        body = stream.read(body_bytes_max + 1)
        if len(body) > body_bytes_max:
            detail = f"The body may have at most {body_bytes_max} bytes."
            raise errors.PayloadTooLarge(detail)
        if not body.strip():
            return {}
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            detail = f"The body is not JSON: {error}"
            raise errors.Malformed(detail) from error
        refuse_deep(parsed, body=body)
        return parsed


def refuse_deep(parsed: object, *, body: bytes) -> None:
    """Return where the body is nested at most `DEPTH_MAX` deep.

    :raises Malformed: where it is deeper: no operation needs that, and stacks have an end.
    """
    if body.count(b"[") + body.count(b"{") <= DEPTH_MAX:
        return
    level = [parsed]
    for _ in range(DEPTH_MAX):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    if any(isinstance(each, dict | list) for each in level):
        detail = f"The body is nested more than {DEPTH_MAX} deep."
        raise errors.Malformed(detail)


class JSONOnly(BaseContentNegotiation):
    """Answer JSON whatever is asked for; choose the parser by the body's media type."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        """Return the parser of the body's media type; None where there is none."""
        content_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((each for each in parsers if each.media_type == content_type), None)

    def select_renderer(
        self,
        request: Request,  # noqa: ARG002
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,  # noqa: ARG002
    ) -> tuple[BaseRenderer, str]:
        """Return the first renderer."""
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)
