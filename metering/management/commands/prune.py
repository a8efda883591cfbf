"""Let go of old denials, empty past balances and delivered events."""

from argparse import ArgumentParser
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core import clock as clocks
from core.services import deliveries
from metering.services import pruning

DAYS, DAYS_MIN = 90, 7
BATCH = 1_000


class Command(BaseCommand):
    """Prune in small transactions, at most so many rows of each kind; safe under load."""

    help = "Delete old denials, past balances nothing was counted on, and delivered events."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define the options."""
        parser.add_argument("--days", type=int, default=DAYS, help=f"Kept ({DAYS}, ≥ {DAYS_MIN}).")
        parser.add_argument("--rows", type=int, default=100_000, help="Of each kind (100,000).")

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Prune."""
        if options["days"] < DAYS_MIN:
            message = f"A denial is replayed under its key for {DAYS_MIN} days at least."
            raise CommandError(message)
        before = clocks.process_clock().now() - timedelta(days=options["days"])
        for name, prune in (
            ("denials", pruning.prune_denials),
            ("balances", pruning.prune_balances),
            ("events", deliveries.prune),
        ):
            count = _pruned(prune, before=before, rows=options["rows"])
            self.stdout.write(f"{count} {name}")


def _pruned(prune: Callable[..., int], *, before: datetime, rows: int) -> int:
    """Prune batch by batch until nothing is left or the bound is met; return how many."""
    total = 0
    while total < rows:
        limit = min(BATCH, rows - total)
        count = prune(before=before, limit=limit)
        total += count
        if count < limit:
            break
    return total
