"""Log in structure: one JSON object a line in production, readable lines in development.

Every line carries the request's id; what looks like a secret is blotted out in all of them.
"""

import logging
from collections.abc import MutableMapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import orjson
import structlog

from core.redaction import redacted

Line = MutableMapping[str, Any]
REQUESTS = "core.api.middleware"
PLAIN = structlog.dev.plain_traceback
SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]

_mode = SimpleNamespace(is_json=False)


def redact(_: object, __: str, line: Line) -> Line:
    """Blot out secrets in every part of a line but its plumbing."""
    for name, value in line.items():
        if not name.startswith("_") and name != "exc_info":
            line[name] = redacted({name: value})[name]  # type: ignore[index] # a mapping stays one
    return line


def tell_request(*, at: datetime, path: str, **told: object) -> None:
    """Log one line about a request, with what is bound to it.

    In production it is written as it is: as any other line it took a third of a consume's time.
    """
    line = {"path": redacted(path), **told}
    if not _mode.is_json:
        structlog.get_logger(REQUESTS).info("request", **line)
        return
    line |= structlog.contextvars.get_contextvars()
    timestamp = at.isoformat().replace("+00:00", "Z")
    line |= {"event": "request", "level": "info", "logger": REQUESTS, "timestamp": timestamp}
    logging.getLogger(REQUESTS).info(orjson.dumps(line).decode())


def configuration(*, as_json: bool) -> dict[str, Any]:
    """Return Django's LOGGING, and let structlog's own loggers go the same way."""
    structlog.configure(
        processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    _mode.is_json = as_json
    endings: list[Any] = (
        [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer()]
        if as_json
        else [redact, structlog.dev.ConsoleRenderer(colors=False, exception_formatter=PLAIN)]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [*SHARED, structlog.stdlib.ExtraAdder()],
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *endings,
                ],
            },
            "written": {"format": "%(message)s"},
        },
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "line"},
            "written": {"class": "logging.StreamHandler", "formatter": "written"},
        },
        "root": {"handlers": ["console"], "level": "INFO"},
        "loggers": {
            **({REQUESTS: {"handlers": ["written"], "propagate": False}} if as_json else {}),
            "axes": {"level": "WARNING"},
            "django.request": {"level": "ERROR"},
            "fontTools": {"level": "WARNING"},  # it tells of every glyph that a PDF embeds
        },
    }
