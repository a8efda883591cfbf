"""Switch a feature off, or open to everybody, in an emergency."""

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import clock as clocks
from core.actors import Actor
from core.errors import DomainError
from subscriptions.services import switches

HOUR_SECONDS = 3600


class Command(BaseCommand):
    """Turn the emergency switch of a feature; every process obeys within 2 s."""

    help = "switch api_calls deny|allow|off --reason TEXT [--seconds 3600]"

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument("feature")
        parser.add_argument("state", choices=["deny", "allow", "off"])
        parser.add_argument("--reason", required=True)
        parser.add_argument(
            "--seconds", type=int, default=HOUR_SECONDS, help="It ends by itself then (3600)."
        )

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Turn it."""
        actor = Actor(name=f"shell {getpass.getuser()}", reason=options["reason"])
        try:
            self.stdout.write(_turned(options, actor))
        except DomainError as error:
            raise CommandError(error.detail) from error


def _turned(options: dict[str, Any], actor: Actor) -> str:
    clock = clocks.process_clock()
    if options["state"] == "off":
        ended = switches.release(feature_key=options["feature"], actor=actor, clock=clock)
        return "The switch is off." if ended else "There was no switch in force."
    switch = switches.turn(
        feature_key=options["feature"],
        state=options["state"],
        ttl_seconds=options["seconds"],
        actor=actor,
        clock=clock,
    )
    return f"{options['feature']}: {switch.state} all until {clocks.rfc3339(switch.expires_at)}."
