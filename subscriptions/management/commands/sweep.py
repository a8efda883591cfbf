"""Persist what the clock brought about: for a scheduler, where no worker runs."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from core import clock
from core.services import worker
from subscriptions.services import sweeping


class Command(BaseCommand):
    """Settle every customer that is due, in bounded batches; safe twice and side by side."""

    help = "Settle due subscriptions: renewals, ends of trials, grace and pauses."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument(
            "--batch", type=int, default=worker.BATCH, help=f"Customers a batch ({worker.BATCH})."
        )
        parser.add_argument("--json", action="store_true", help="Print the totals as JSON.")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Settle until nothing more can be done."""
        totals = worker.Totals()
        while True:
            passed = worker.run_pass(
                jobs=[sweeping.SweepJob()],
                clock=clock.process_clock(),
                should_stop=lambda: False,
                limit=options["batch"],
            )
            totals += passed
            if not passed.done:
                break
        if options["json"]:
            self.stdout.write(json.dumps({"done": totals.done, "failed": totals.failed}))
        else:
            self.stdout.write(f"{totals.done} done, {totals.failed} failed")
