"""Move the subscribers of a plan to its published version."""

import json
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from core import clock
from core.errors import DomainError
from subscriptions.models import PlanVersion
from subscriptions.services import migration
from subscriptions.services.timeline import Actor


class Command(BaseCommand):
    """Migrate in batches, reporting each; a run that was cut off is simply repeated."""

    help = "Move subscribers to a plan's published version: usage kept, price from next period."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("plan", help="Key of the plan.")
        parser.add_argument("--from-version", type=int, required=True, help="Its old number.")
        parser.add_argument("--reason", required=True, help="Why, as the timelines keep it.")
        parser.add_argument("--dry-run", action="store_true", help="Report, and change nothing.")
        parser.add_argument("--batch", type=int, default=100, help="Subscribers a batch (100).")
        parser.add_argument("--json", action="store_true", help="One JSON object a batch.")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Migrate batch by batch."""
        of_plan = Q(plan__key=options["plan"])
        asked = migration.Migration(
            from_version_id=_version(of_plan & Q(number=options["from_version"])),
            to_version_id=_version(of_plan & Q(status=PlanVersion.Status.PUBLISHED)),
            is_dry_run=options["dry_run"],
        )
        after_id: UUID | None = None
        while True:
            try:
                report = migration.migrate_subscribers(
                    asked,
                    actor=Actor(name="migrate_subscribers", reason=options["reason"]),
                    clock=clock.process_clock(),
                    batch=options["batch"],
                    after_id=after_id,
                )
            except DomainError as refusal:
                raise CommandError(refusal.detail) from refusal
            if report.is_done:
                return
            after_id = report.last_id
            self._print(report, as_json=options["json"])

    def _print(self, report: migration.Report, *, as_json: bool) -> None:
        if as_json:
            skipped = {str(each.subscription_id): each.reason for each in report.skipped}
            self.stdout.write(json.dumps({"migrated": len(report.migrated), "skipped": skipped}))
            return
        self.stdout.write(f"{len(report.migrated)} migrated, {len(report.skipped)} skipped")
        for each in report.skipped:
            self.stdout.write(f"  {each.subscription_id}: {each.reason}")


def _version(wanted: Q) -> int:
    found = PlanVersion.objects.filter(wanted).values_list("pk", flat=True).first()
    if found is None:
        raise CommandError("The plan has no such version.")
    return found
