"""Name the kinds of due work; the worker does them all, whoever owns them."""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from core import clock as clocks


class Job(Protocol):
    """A kind of due work: pieces found without a lock, each done in transactions of its own.

    Workers run side by side: `work` takes its locks by SKIP LOCKED or a lease, looks again
    whether the piece is still due, and does nothing where it is not.
    """

    @property
    def name(self) -> str:
        """Return the name under which failures are kept."""

    def list_due(self, *, at: datetime, limit: int, excluded: Collection[str]) -> list[str]:
        """Return keys of due pieces, oldest first, at most so many, without the excluded."""

    def work(self, *, key: str, clock: clocks.Clock) -> bool:
        """Do one piece; tell whether there was anything to do. Raise where it failed."""


_jobs: dict[str, Job] = {}


def register(job: Job) -> None:
    """Let the worker do this kind of work from now on; a name stands once."""
    _jobs[job.name] = job


def registered() -> list[Job]:
    """Return every kind of work, in the order of registration."""
    return list(_jobs.values())
