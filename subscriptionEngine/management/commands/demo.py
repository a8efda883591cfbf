"""Fill the database with the example that the README walks through."""

import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import clock
from metering.services import demo
from resources.services import demo as club

NEXT = """
Demo data is there: Free 100, Basic 500, Pro 1000 api_calls a month.
  alice / alice-demo-password   stands on Pro with 998 of 1000 api_calls used
  admin / admin-demo-password   runs the catalog

Paste these lines (in a second terminal, while the server runs):

  TOKEN=$(curl -s {base}/api/token/ -H 'Content-Type: application/json' \\
    -d '{{"username": "alice", "password": "alice-demo-password"}}' \\
    | python3 -c 'import json, sys; print(json.load(sys.stdin)["access"])')
  curl -s {base}/api/subscriptions/me/ -H "Authorization: Bearer $TOKEN"
  curl -si {base}/api/usage/consume/ -H "Authorization: Bearer $TOKEN" \\
    -H 'Content-Type: application/json' -H 'Idempotency-Key: first' \\
    -d '{{"feature": "api_calls", "units": 2}}'

The same key again answers the same, with Idempotent-Replayed: true; a new key answers 403.

  API    {base}/api/docs/
  Redoc  {base}/api/redoc/
  Admin  {base}/admin/
"""


class Command(BaseCommand):
    """Make the demo's catalog, users and usage; repeating it changes nothing."""

    help = "Fill the database with demo data (development only, safe to repeat)."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument(
            "--force", action="store_true", help="Run outside development too (DEBUG=0)."
        )

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Fill the database and say what to do next."""
        if not settings.DEBUG and not options["force"]:
            message = (
                "demo makes users with known passwords, so it runs in development only. "
                "Set DEBUG=1, or add --force if this database may have them."
            )
            raise CommandError(message)
        alice = demo.fill(clock=clock.process_clock())
        if settings.ENGINE.resources_enabled:
            club.fill(member=alice, clock=clock.process_clock())
        base = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}"
        self.stdout.write(NEXT.format(base=base))
