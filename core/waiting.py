"""Wait for the database's answers within a bound, also where nothing tells that it is gone.

A network that swallows packets is noticed by TCP (the options in the settings), a peer that takes
them and never answers is not: only who waits can give up.
"""

from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen

R = TypeVar("R")
WAKE_SECONDS = 0.1


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed where an answer does not come in time.

    `answer_seconds` is the process's bound, None for none.
    """

    answer_seconds: float | None = None

    def wait(
        self, gen: PQGen[R], interval: float = WAKE_SECONDS, timeout: float | None = None
    ) -> R:
        """Return what the exchange comes to.

        :raises OperationalError: where it takes longer than the bound; the connection is closed,
            so whether the statement ran is not known.
        """
        if timeout is not None or self.answer_seconds is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_seconds)
        except errors._WaitTimeout as error:  # noqa: SLF001 - what psycopg's own wait raises
            self.pgconn.finish()
            msg = f"no answer within {self.answer_seconds} s"
            raise psycopg.OperationalError(msg) from error


def bound_answers(*, milliseconds: int) -> None:
    """Let every connection of this process wait so long for an answer; 0 for ever."""
    BoundedConnection.answer_seconds = milliseconds / 1000 or None
