"""Keep the catalog as code: export it as JSON, compare a file with it, bring it to a file."""

import getpass
import json
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import clock, errors
from core.actors import Actor
from metering.services import catalogs
from metering.services.catalogs import Report

REFUSED, UNREADABLE = 1, 2
FILE_BYTES_MAX = 50_000_000


class Command(BaseCommand):
    """Run one of the three actions; apply changes all of the catalog or nothing."""

    help = (
        "export: write the catalog as JSON. diff FILE: say what apply would do; exits 1 where "
        "they differ. apply FILE: bring the catalog to the file, all or nothing; exits 1 where "
        "anything is refused. An unreadable file exits 2."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("action", choices=["export", "diff", "apply"])
        parser.add_argument("file", nargs="?", type=Path, help="The catalog's JSON file.")
        parser.add_argument("--dry-run", action="store_true", help="Report and change nothing.")
        parser.add_argument(
            "--new-versions",
            action="store_true",
            help="Make a draft where a published version differs, instead of refusing.",
        )
        parser.add_argument("--reason", default="", help="Why, for the audit log.")
        parser.add_argument("--json", action="store_true", help="Report as one line of JSON.")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Run the action."""
        if options["action"] == "export":
            self.stdout.write(json.dumps(catalogs.export(), indent=2, ensure_ascii=False))
            return
        report = self._applied(options)
        self._show(report, as_json=options["json"])
        if report.is_refused:
            message = "Refused; nothing changed."
            raise CommandError(message, returncode=REFUSED)
        if options["action"] == "diff" and report.is_different:
            message = "The catalog differs from the file."
            raise CommandError(message, returncode=REFUSED)

    def _applied(self, options: dict[str, Any]) -> Report:
        try:
            return catalogs.apply(
                _read(options["file"]),
                new_versions=options["new_versions"],
                dry_run=options["dry_run"] or options["action"] == "diff",
                actor=_actor(options),
                clock=clock.process_clock(),
            )
        except errors.Invalid as refusal:
            faults: Any = refusal.facts()["errors"]
            message = "\n".join(f"{each['pointer']}: {each['detail']}" for each in faults)
            raise CommandError(message, returncode=UNREADABLE) from refusal

    def _show(self, report: Report, *, as_json: bool) -> None:
        changes = [
            {
                "kind": each.kind,
                "key": each.key,
                "action": each.action.value,
                "detail": each.detail,
            }
            for each in report.changes
        ]
        if as_json:
            self.stdout.write(json.dumps({"applied": report.is_applied, "changes": changes}))
            return
        for each in changes:
            self.stdout.write("{action:10} {kind} {key}  {detail}".format(**each).rstrip())
        self.stdout.write("Applied." if report.is_applied else "Nothing was changed.")


def _actor(options: dict[str, Any]) -> Actor:
    file = options["file"]
    reason = options["reason"] or f"catalog {options['action']} {file.name if file else ''}"
    return Actor(name=f"shell {getpass.getuser()}", reason=reason)


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        message = "Name the catalog's file."
        raise CommandError(message, returncode=UNREADABLE)
    try:
        with path.open("rb") as file:
            document = orjson.loads(file.read(FILE_BYTES_MAX))
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{path} cannot be read as JSON: {error}"
        raise CommandError(message, returncode=UNREADABLE) from error
    if not isinstance(document, dict):
        message = f"{path} must hold a JSON object."
        raise CommandError(message, returncode=UNREADABLE)
    return document
