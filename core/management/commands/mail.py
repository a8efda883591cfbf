"""Send the mails that are due."""

import time
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from core import clock as clocks
from core.services import mail, rates

KEEP = timedelta(days=30)


class Command(BaseCommand):
    """Send due mails once, or for ever; safe to run twice and side by side."""

    help = "Send due mails once; with --every SECONDS again and again."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("--every", type=float, help="Seconds between two rounds.")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Send."""
        clock = clocks.process_clock()
        while True:
            tried = mail.send_due(clock=clock)
            mail.prune(clock=clock, keep=KEEP)
            rates.prune(clock=clock)
            if options["every"] is None:
                self.stdout.write(f"{tried} mails tried")
                return
            time.sleep(options["every"])
