"""Count what operators watch, over all processes of a host.

With several processes PROMETHEUS_MULTIPROC_DIR names a directory that `manage.py serve` makes
anew at every start.
"""

import os
from collections.abc import Iterator

from django.db import connection
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from core import clock as clocks
from core.models import Mail, OutboxEvent

REQUESTS = Counter("engine_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "engine_request_seconds",
    "Time to answer.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
PROBLEMS = Counter("engine_problems_total", "Problems answered, by code.", ["code"])


class _Stored(Collector):
    """Read from the database, when asked, what stands in no process's memory."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield how many mails wait, since when, and the outbox's size."""
        now = clocks.process_clock().now()
        oldest = Mail.objects.filter(due_at__lte=now).order_by("due_at").first()
        lag = (now - oldest.due_at).total_seconds() if oldest and oldest.due_at else 0.0
        yield GaugeMetricFamily(
            "engine_mail_lag_seconds", "Age of the oldest mail that is due.", value=lag
        )
        yield GaugeMetricFamily(
            "engine_outbox_events", "Events in the outbox, estimated.", value=_outbox_events()
        )


def _outbox_events() -> float:
    """Return the outbox's size: the planner's estimate where there is one, else a count."""
    if connection.vendor != "postgresql":
        return OutboxEvent.objects.count()
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE relname = 'core_outboxevent'")
        return max(0.0, float(cursor.fetchone()[0]))


def exposition() -> bytes:
    """Return every metric in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Stored())
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # its stubs
    else:
        for each in (REQUESTS, SECONDS, PROBLEMS):
            registry.register(each)
    return generate_latest(registry)
