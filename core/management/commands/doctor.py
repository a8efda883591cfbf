"""Examine the engine and say what to do."""

import dataclasses
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.services import doctor

MARKS = {doctor.OK: "ok     ", doctor.WARNING: "warning", doctor.ERROR: "ERROR  "}


class Command(BaseCommand):
    """Print every finding with its remedy; fail where one is an error."""

    help = "Check database, settings, clock, keys, migrations and queues; --json for machines."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("--json", action="store_true", help="One JSON object.")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Examine."""
        findings = doctor.examine()
        is_healthy = doctor.is_healthy(findings)
        if options["json"]:
            body = {
                "healthy": is_healthy,
                "findings": [dataclasses.asdict(each) for each in findings],
            }
            self.stdout.write(orjson.dumps(body).decode())
        else:
            for each in findings:
                self.stdout.write(f"{MARKS[each.grade]}  {each.name}: {each.detail}")
                if each.remedy and each.grade != doctor.OK:
                    self.stdout.write(f"         → {each.remedy}")
        if not is_healthy:
            message = "The engine is not healthy."
            raise CommandError(message)
