"""Move the bookings that the clock has moved, in bounded batches."""

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from core import clock
from resources.services import jobs, settling


class Command(BaseCommand):
    """Run what is due once; a scheduler, or the worker, runs it again."""

    help = "Capture started bookings, end what has ended, and offer freed times to who waits."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument(
            "--limit",
            type=int,
            default=settling.BATCH_MAX,
            help=f"Bookings moved at most (default {settling.BATCH_MAX}).",
        )
        parser.add_argument("--json", action="store_true", help="Print the figures as JSON.")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Run one batch and print what it came to."""
        done = jobs.run_due(clock=clock.process_clock(), limit=options["limit"])
        if options["json"]:
            self.stdout.write(json.dumps(asdict(done)))
            return
        moved = ", ".join(f"{count} {state}" for state, count in sorted(done.settled.items()))
        self.stdout.write(
            f"Bookings moved: {moved or 'none'}; cancelled under closures: {done.closed}; "
            f"offers made: {done.offered}."
        )
