"""Import customers from a file, with their subscriptions and usage so far."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import clock, errors
from metering.services import importing
from metering.services.importing import Imported, Result

REFUSED, UNREADABLE = 1, 2
LINE_BYTES_MAX = 100_000
USAGE_PREFIX = "usage."
NUMBER_COLUMNS = ("quantity",)
WHOLE = frozenset("0123456789")


class Command(BaseCommand):
    """Import row by row: one that is refused does not stop the others."""

    help = (
        "import FILE: make each row's customer, subscription and usage so far. FILE has one JSON "
        "object a line, or is CSV with a header. Safe to repeat. Exits 0 where every row is "
        "imported, 1 where one is refused, 2 where the file cannot be read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("action", choices=["import"])
        parser.add_argument("file", type=Path, help="A .csv file, or one JSON object a line.")
        parser.add_argument("--dry-run", action="store_true", help="Check and change nothing.")
        parser.add_argument("--json", action="store_true", help="Report one JSON object a row.")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Import the file and report each row."""
        totals: Counter[Result] = Counter()
        for number, raw in _rows(options["file"]):
            outcome = _import(raw, dry_run=options["dry_run"])
            totals[outcome.result] += 1
            self._show(number, outcome, as_json=options["json"])
        summary = ", ".join(f"{totals[each]} {each}" for each in Result)
        if totals[Result.REFUSED]:
            raise CommandError(summary, returncode=REFUSED)
        if not options["json"]:
            self.stdout.write(summary)

    def _show(self, number: int, outcome: Imported, *, as_json: bool) -> None:
        report = {
            "line": number,
            "external_key": outcome.external_key,
            "result": outcome.result.value,
            "done": list(outcome.done),
            "code": outcome.code,
            "detail": outcome.detail,
        }
        if as_json:
            self.stdout.write(json.dumps(report))
            return
        said = outcome.detail or ", ".join(outcome.done)
        line = f"{number:>6}  {outcome.result:9} {outcome.external_key}  {said}"
        self.stdout.write(line.rstrip())


def _import(raw: object, *, dry_run: bool) -> Imported:
    try:
        if isinstance(raw, errors.Malformed):
            raise raw
        row = importing.read_row(raw)
    except errors.DomainError as refusal:
        key = raw.get("external_key") if isinstance(raw, dict) else None
        return Imported(
            external_key=key if isinstance(key, str) else "",
            result=Result.REFUSED,
            code=refusal.code,
            detail=refusal.detail,
        )
    if dry_run:
        return importing.check_row(row)
    return importing.import_row(row, clock=clock.process_clock())


def _rows(path: Path) -> Iterator[tuple[int, object]]:
    """Yield each line's number and its row, or its refusal where it is no JSON.

    :raises CommandError: for a file that cannot be read.
    """
    try:
        if path.suffix == ".csv":
            yield from _csv_rows(path)
        else:
            yield from _json_rows(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"{path} cannot be read: {error}"
        raise CommandError(message, returncode=UNREADABLE) from error


def _json_rows(path: Path) -> Iterator[tuple[int, object]]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX), b""), start=1):
            if line.strip():
                try:
                    yield number, orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    yield number, errors.Malformed(f"The line is not JSON: {error}")


def _csv_rows(path: Path) -> Iterator[tuple[int, object]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, cells in enumerate(csv.DictReader(file, restkey=""), start=2):
            yield number, _from_cells(cells)


def _from_cells(cells: dict[str, Any]) -> dict[str, object]:
    """Return the row that JSON would write; `usage.KEY` columns are the units of features."""
    row: dict[str, object] = {}
    usage: dict[str, object] = {}
    for name, text in cells.items():
        if text is None or text == "":
            continue
        value: object = text
        is_usage = name.startswith(USAGE_PREFIX)
        if (is_usage or name in NUMBER_COLUMNS) and set(text) <= WHOLE:
            value = int(text)
        if is_usage:
            usage[name.removeprefix(USAGE_PREFIX)] = value
        else:
            row[name] = value
    return row | ({"usage": usage} if usage else {})
