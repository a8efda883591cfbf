"""Do due work, piece by piece, as often as it takes: the one runner of everything later.

A piece that fails is tried again with growing pauses, then parked where a person sees it; it
never stops the others. Killed at any point, the worker loses and repeats nothing: a piece is
done with its own commit, and found again where that did not come.
"""

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import close_old_connections

from core import clock as clocks
from core import db
from core.models import WorkFailure
from core.services.jobs import Job

BATCH = 100
ATTEMPTS_MAX = 10
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 2.0, 3600.0
ERROR_LENGTH_MAX = 2000
IDLE_SECONDS = 1.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """How many pieces of work were done, and how many failed."""

    done: int = 0
    failed: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(done=self.done + other.done, failed=self.failed + other.failed)


Stop = Callable[[], bool]
Wait = Callable[[float], object]


def run(*, jobs: Sequence[Job], clock: clocks.Clock, should_stop: Stop, wait: Wait) -> Totals:
    """Do due work until told to stop; where there is none, wait a second."""
    totals = Totals()
    while not should_stop():
        passed = run_pass(jobs=jobs, clock=clock, should_stop=should_stop)
        totals += passed
        close_old_connections()
        if not passed.done and not should_stop():
            wait(IDLE_SECONDS)
    return totals


def run_pass(
    *, jobs: Sequence[Job], clock: clocks.Clock, should_stop: Stop, limit: int = BATCH
) -> Totals:
    """Do what is due now, at most so many pieces of each kind."""
    totals = Totals()
    for job in jobs:
        totals += _pass(job, clock=clock, should_stop=should_stop, limit=limit)
    return totals


def _pass(job: Job, *, clock: clocks.Clock, should_stop: Stop, limit: int) -> Totals:
    """Do what is due of one kind; what is done has failed no more."""
    at = clock.now()
    failures = WorkFailure.objects.filter(job=job.name)
    known = dict(failures.values_list("key", "next_attempt_at"))
    waiting = {key for key, due in known.items() if due is None or due > at}
    totals, done = Totals(), []
    for key in job.list_due(at=at, limit=limit, excluded=waiting):
        if should_stop():
            break
        worked = _work(job, key, clock)
        totals += worked
        if worked.failed:
            continue
        if key in known:
            failures.filter(key=key).delete()
        done.append(key)
    if done:
        failures.filter(key__in=done).delete()
    return totals


def _work(job: Job, key: str, clock: clocks.Clock) -> Totals:
    try:
        return Totals(done=int(job.work(key=key, clock=clock)))
    except Exception as error:
        logger.exception("%s %s failed", job.name, key)
        _note_failure(job, key, error, at=clock.now())
        return Totals(failed=1)


def _note_failure(job: Job, key: str, error: Exception, *, at: datetime) -> None:
    with db.transaction():
        row, _ = WorkFailure.objects.get_or_create(
            job=job.name, key=key, defaults={"attempts": 0, "failed_at": at}
        )
        row.attempts += 1
        row.failed_at = at
        row.error = f"{type(error).__name__}: {error}"[:ERROR_LENGTH_MAX]
        is_parked = row.attempts >= ATTEMPTS_MAX
        row.next_attempt_at = None if is_parked else at + pause(attempts=row.attempts)
        row.save()


def pause(*, attempts: int) -> timedelta:
    """Return how long to wait after so many failures: doubled each time, spread by half."""
    longest = min(PAUSE_SECONDS * 2 ** (attempts - 1), PAUSE_SECONDS_MAX)
    return timedelta(seconds=longest * (0.5 + secrets.randbelow(1000) / 2000))


def list_parked() -> list[WorkFailure]:
    """Return the work that is parked, oldest first."""
    return list(WorkFailure.objects.filter(next_attempt_at__isnull=True).order_by("failed_at"))


def release_parked(*, clock: clocks.Clock) -> int:
    """Let all parked work be tried anew, from its first attempt; return how many."""
    parked = WorkFailure.objects.filter(next_attempt_at__isnull=True)
    return parked.update(attempts=0, next_attempt_at=clock.now())
