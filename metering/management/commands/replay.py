"""Answer timelines: JSON in on standard input, their states as JSON out on standard output."""

import gc
import json
import sys
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError

from core.errors import Malformed
from metering.services import replay


class Command(BaseCommand):
    """Replay one timeline, or a list of them; nothing but the answer is written there.

    One object is answered by its list of states, a list by the list of its answers. A timeline
    that is wrong is answered by its error, the others are not affected, and the exit code is 0.
    Only what is no JSON at all is answered by one error and the exit code 1. No database is asked.
    """

    help = "Replay timelines: JSON on standard input, states as JSON on standard output."
    requires_system_checks: tuple[str, ...] = ()

    def handle(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - Django's signature
        """Answer what stands on standard input."""
        gc.disable()  # a replay keeps all that it makes to its end: there is nothing to collect
        try:
            self._answer()
        finally:
            gc.enable()

    def _answer(self) -> None:
        try:
            given = json.loads(sys.stdin.buffer.read(), parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            detail = f"The input is not JSON: {error}"
            self._write({"error": {"code": Malformed.code, "detail": detail}})
            raise CommandError(detail) from error
        if isinstance(given, list):
            self._write([replay.replay(each) for each in given])
        else:
            self._write(replay.replay(given))

    def _write(self, answer: object) -> None:
        self.stdout.write(json.dumps(answer))


def _refuse(constant: str) -> NoReturn:
    msg = f"{constant} is no number"
    raise ValueError(msg)
