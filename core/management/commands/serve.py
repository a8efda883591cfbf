"""Serve the engine with granian, on 127.0.0.1."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.urls import get_resolver
from django.utils.module_loading import import_string
from granian import Granian
from granian.constants import Interfaces

APPLICATION = "subscriptionEngine.wsgi:application"
BLOCKING_THREADS = 16
RESPAWN_SECONDS = 0.5


class Command(BaseCommand):
    """Serve until Ctrl-C; a worker that dies is forked anew."""

    help = "Serve on 127.0.0.1:PORT (8000), with granian."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument("--workers", type=int, default=1, help="Processes (1).")
        parser.add_argument(
            "--threads",
            type=int,
            default=BLOCKING_THREADS,
            help=f"Requests at a time in each process ({BLOCKING_THREADS}).",
        )

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Start the server."""
        if settings.METRICS_TOKEN and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = _fresh_directory(port=options["port"])
            os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - this command again
        base = f"http://{options['host']}:{options['port']}"
        self.stdout.write(f"Serving {base}/  docs {base}/api/docs/  admin {base}/admin/")
        self.stdout.flush()
        _preload()
        while _serve(options):
            time.sleep(RESPAWN_SECONDS)


def _serve(options: Mapping[str, Any]) -> bool:
    """Serve, and tell whether it ended by itself: granian gives up where workers die quickly."""
    server = Granian(
        APPLICATION,
        address=options["host"],
        port=options["port"],
        interface=Interfaces.WSGI,
        workers=options["workers"],
        blocking_threads=options["threads"],
        respawn_failed_workers=True,
        respawn_interval=RESPAWN_SECONDS,
    )
    with contextlib.suppress(SystemExit):
        server.serve()
    return not server.interrupt_signal


def _preload() -> None:
    """Import all that serves, so that workers are forked with it and stand in no time."""
    import_string(settings.WSGI_APPLICATION)
    get_resolver().url_patterns  # noqa: B018 - imports the views


def _fresh_directory(*, port: int) -> str:
    """Return an empty directory in which the processes share their metrics."""
    directory = Path(settings.BASE_DIR) / ".run" / f"metrics-{port}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return str(directory)
