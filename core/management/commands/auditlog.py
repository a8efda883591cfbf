"""Export the audit log as JSON lines."""

from datetime import datetime
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import selectors
from core.services import audit


class Command(BaseCommand):
    """Write the entries to standard output, oldest first, one JSON object a line."""

    help = "Export the audit log as JSON lines: auditlog --since 2026-11-01T00:00:00Z > audit.jsonl"

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("--since", help="RFC 3339 instant, inclusive.")
        parser.add_argument("--until", help="RFC 3339 instant, exclusive.")
        parser.add_argument("--actor")
        parser.add_argument("--action")
        parser.add_argument("--object-type")
        parser.add_argument("--object-id")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Export."""
        entries = selectors.list_audit_entries(
            actor=options["actor"],
            action=options["action"],
            object_type=options["object_type"],
            object_id=options["object_id"],
            since=_instant(options["since"]),
            until=_instant(options["until"]),
        )
        for line in audit.export(entries):
            self.stdout.write(orjson.dumps(line).decode())


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text.upper())
    except ValueError as error:
        message = f"{text} is no RFC 3339 instant."
        raise CommandError(message) from error
    if instant.tzinfo is None:
        message = f"{text} has no offset; write {text}Z for UTC."
        raise CommandError(message)
    return instant
