"""Serve the engine with granian, on 127.0.0.1."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

BLOCKING_THREADS = 16


class Command(BaseCommand):
    """Replace this process by the server; Ctrl-C stops it."""

    help = "Serve on 127.0.0.1:PORT (8000), with granian."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")))
        parser.add_argument("--workers", type=int, default=1, help="Processes (1).")
        parser.add_argument(
            "--threads",
            type=int,
            default=BLOCKING_THREADS,
            help=f"Requests at a time in each process ({BLOCKING_THREADS}).",
        )

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Start the server."""
        base = f"http://{options['host']}:{options['port']}"
        self.stdout.write(f"Serving {base}/  docs {base}/api/docs/  admin {base}/admin/")
        self.stdout.flush()
        command = [
            sys.executable,
            "-m",
            "granian",
            "--interface",
            "wsgi",
            "--host",
            options["host"],
            "--port",
            str(options["port"]),
            "--workers",
            str(options["workers"]),
            "--blocking-threads",
            str(options["threads"]),
            "--respawn-failed-workers",
            "--respawn-interval",
            "0.5",
            "--no-access-log",
            "subscriptionEngine.wsgi:application",
        ]
        if settings.METRICS_TOKEN:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = _fresh_directory(port=options["port"])
        os.execv(sys.executable, command)  # noqa: S606 - our own interpreter, no shell


def _fresh_directory(*, port: int) -> str:
    """Return an empty directory in which the processes share their metrics."""
    directory = Path(settings.BASE_DIR) / ".run" / f"metrics-{port}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return str(directory)
