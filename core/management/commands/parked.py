"""Show the work that is parked after too many failures, and let it be tried anew."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from core import clock
from core.services import worker


class Command(BaseCommand):
    """List parked work; exit non-zero where there is any and nothing is retried."""

    help = "List work that failed too often; --retry lets all of it be tried anew."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("--retry", action="store_true", help="Try all of it anew.")
        parser.add_argument("--json", action="store_true", help="One JSON object a line.")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """List, or release."""
        if options["retry"]:
            count = worker.release_parked(clock=clock.process_clock())
            self.stdout.write(f"{count} to be tried anew")
            return
        parked = worker.list_parked()
        for row in parked:
            shown = {
                "job": row.job,
                "key": row.key,
                "attempts": row.attempts,
                "failed_at": clock.rfc3339(row.failed_at),
                "error": row.error,
            }
            line = json.dumps(shown) if options["json"] else " · ".join(map(str, shown.values()))
            self.stdout.write(line)
        if parked:
            raise SystemExit(1)
