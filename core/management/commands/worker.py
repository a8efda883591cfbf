"""Run the worker: renewals and all that is due, and the deliveries of the outbox."""

import json
import signal
import threading
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from core import clock
from core.services import jobs, worker


class Command(BaseCommand):
    """Do due work until SIGTERM or Ctrl-C; any number may run side by side."""

    help = "Do due work: renewals, ends of trials and grace, deliveries. Safe side by side."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("--once", action="store_true", help="One pass over what is due now.")
        parser.add_argument("--seconds", type=float, help="Stop after so many seconds.")
        parser.add_argument("--json", action="store_true", help="Print the totals as JSON.")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Work, finish the piece in hand when told to stop, and print the totals."""
        stopped = threading.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: stopped.set())
        deadline = time.monotonic() + options["seconds"] if options["seconds"] else None

        def should_stop() -> bool:
            return stopped.is_set() or (deadline is not None and time.monotonic() >= deadline)

        work = jobs.registered()
        now = clock.process_clock()
        if options["once"]:
            totals = worker.run_pass(jobs=work, clock=now, should_stop=should_stop)
        else:
            totals = worker.run(jobs=work, clock=now, should_stop=should_stop, wait=stopped.wait)
        if options["json"]:
            self.stdout.write(json.dumps({"done": totals.done, "failed": totals.failed}))
        else:
            self.stdout.write(f"{totals.done} done, {totals.failed} failed")
