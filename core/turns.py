"""Let the threads of a process come one after the other to what they contend for.

The row locks decide, with or without this. A line before them keeps a rush from the pool: who
stands in it holds no connection and no lock, and asks nothing.
Source: docs/adr/0023-turns.md.
"""

import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from core import db, errors

WAIT_SECONDS_MAX = 10


@dataclass(kw_only=True)
class _Line:
    """Who is at it holds the lock; `members` counts him and all who wait."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    members: int = 0


_guard = threading.Lock()
_lines: dict[str, _Line] = {}


@contextmanager
def in_turn(*, keys: Collection[str]) -> Iterator[bool]:
    """Run the block while no other thread of this process runs one under any of the keys.

    It is told whether it had to wait: what was read before may be old then. The keys are taken
    sorted, so that nobody waits in a circle; a thread that waits has given its connection back.

    :raises LockTimeout: where a turn does not come within 10 seconds; the block has not run.
    :raises RuntimeError: inside a transaction: it would be held while waiting.
    """
    if db.is_in_transaction():
        msg = "a turn is waited for outside transactions"
        raise RuntimeError(msg)
    with ExitStack() as taken:
        waited = [taken.enter_context(_turn(key)) for key in sorted(keys)]
        yield any(waited)


@contextmanager
def _turn(key: str) -> Iterator[bool]:
    with _guard:
        line = _lines.setdefault(key, _Line())
        line.members += 1
    try:
        has_waited = _take(line)
        try:
            yield has_waited
        finally:
            line.lock.release()
    finally:
        with _guard:
            line.members -= 1
            if not line.members:
                del _lines[key]


def _take(line: _Line) -> bool:
    """Take the turn, and tell whether it had to be waited for."""
    if line.lock.acquire(blocking=False):
        return False
    db.release_connection()
    if not line.lock.acquire(timeout=WAIT_SECONDS_MAX):
        raise errors.LockTimeout("Many ask for the same just now; try again.")
    return True
