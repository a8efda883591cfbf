"""Hold every counter against a recount."""

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any
from uuid import UUID

import orjson
from django.core.management.base import BaseCommand, CommandError

from metering.services import auditing


class Command(BaseCommand):
    """Audit all customers, batch by batch, and exit non-zero where anything differs."""

    help = "Hold counters against a recount; names every difference, repairs nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define the options."""
        parser.add_argument("--json", action="store_true", help="One JSON object per difference.")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Audit."""
        after: UUID | None = None
        total = 0
        while True:
            found, last = auditing.audit(after=after)
            for each in found:
                line = orjson.dumps(asdict(each)).decode() if options["json"] else str(each)
                self.stdout.write(line)
            total += len(found)
            if last is None:
                break
            after = last
        if total:
            message = f"{total} differences"
            raise CommandError(message)
        if not options["json"]:
            self.stdout.write("clean")
