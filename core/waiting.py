"""Wait for the database within bounds, also where nothing tells that it is gone.

A network that swallows packets is noticed by TCP (the options in the settings), a peer that takes
them and never answers is not: only who waits can give up. A request asks the database more than
once; once it has waited in vain, all that it asks afterwards together has another second, so that
the bounds of its statements do not add up.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
import psycopg_pool
from psycopg import errors
from psycopg.abc import PQGen

R = TypeVar("R")
WAKE_SECONDS = 0.1
AFTERWARDS_SECONDS = 1.0


@dataclass(slots=True)
class _Patience:
    """Until when a request that has waited in vain may ask at all; None before."""

    ends_at: float | None = None

    def bound(self, seconds: float) -> float:
        """Return so many seconds, or what is left."""
        if self.ends_at is None:
            return seconds
        return max(0.0, min(seconds, self.ends_at - time.monotonic()))


_own: ContextVar[_Patience | None] = ContextVar("patience", default=None)


@contextmanager
def request() -> Iterator[None]:
    """Let the block be one request, with a patience of its own."""
    token = _own.set(_Patience())
    try:
        yield
    finally:
        _own.reset(token)


def give_up() -> None:
    """Note that this request has waited in vain; without a request nothing is noted."""
    patience = _own.get()
    if patience is not None and patience.ends_at is None:
        patience.ends_at = time.monotonic() + AFTERWARDS_SECONDS


def bounded(seconds: float) -> float:
    """Return how long may be waited now instead of so many seconds."""
    patience = _own.get()
    return seconds if patience is None else patience.bound(seconds)


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
        seconds = bounded(self.answer_seconds)
        try:
            return super().wait(gen, interval, seconds)
        except errors._WaitTimeout as error:  # noqa: SLF001 - what psycopg's own wait raises
            give_up()
            self.pgconn.finish()
            msg = f"no answer within {seconds:.1f} s"
            raise psycopg.OperationalError(msg) from error


class PatientPool(psycopg_pool.ConnectionPool[BoundedConnection]):
    """A pool in which a request that has waited in vain waits no second time."""

    def getconn(self, timeout: float | None = None) -> BoundedConnection:
        """Return a connection.

        :raises PoolTimeout: where there is none in time.
        """
        seconds = bounded(self.timeout if timeout is None else timeout)
        try:
            return super().getconn(seconds)
        except psycopg_pool.PoolTimeout:
            give_up()
            raise


def bound_answers(*, milliseconds: int) -> None:
    """Let every connection of this process wait so long for an answer; 0 for ever."""
    BoundedConnection.answer_seconds = milliseconds / 1000 or None
