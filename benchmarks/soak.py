"""R16: load an engine for long, and watch its memory and its connections.

The slope is that of the least squares of the workers' memory over the requests answered, the
first quarter left out, in which caches fill. Ends with 0 where it and the connections are within
their bounds.
"""

import argparse
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression

import psycopg

from benchmarks import _caller
from benchmarks._caller import Load, Task
from tests.faults.harness import PRODUCTION, Engine, Postgres

SLOPE_MB_MAX, SLOPE_REQUESTS = 1.0, 10_000
WARM_UP = 0.25
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
OWN_SESSIONS = 1
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How many requests were answered so far, the workers' memory, the database's sessions."""

    requests: int
    megabytes: float
    sessions: int


@dataclass(kw_only=True)
class Soak:
    """What was seen."""

    samples: list[Sample] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def slope_mb(self) -> float:
        """Return the growth of memory per 10,000 requests, in MB."""
        warm = self.samples[int(len(self.samples) * WARM_UP) :]
        line = linear_regression(
            [each.requests for each in warm], [each.megabytes for each in warm]
        )
        return line.slope * SLOPE_REQUESTS

    def sessions_max(self) -> int:
        """Return the most sessions that the database saw of the engine."""
        return max(each.sessions for each in self.samples)


def main(arguments: Sequence[str]) -> int:
    """Soak an engine of its own, print the figures, and return 0 where they are in bounds."""
    options = _options(arguments)
    with Postgres() as postgres:
        pool = {"DATABASE_POOL_MAX": str(options.pool)}
        engine = Engine(database_url=postgres.url, **PRODUCTION, **pool).set_up()
        try:
            engine.serve(workers=options.workers, threads=options.threads)
            seen = soak(engine, seconds=options.minutes * 60, every=options.every)
        finally:
            engine.stop()
    allowed = options.workers * options.pool
    first, last = seen.samples[0], seen.samples[-1]
    print(
        f"R16 soak: {options.minutes:g} minutes, {last.requests:,} requests, memory"
        f" {first.megabytes:.0f} … {last.megabytes:.0f} MB, slope {seen.slope_mb():.2f} MB per"
        f" {SLOPE_REQUESTS:,} requests, at most {seen.sessions_max()} of {allowed} connections,"
        f" {len(seen.violations)} violations"
    )
    is_sound = seen.slope_mb() < SLOPE_MB_MAX and seen.sessions_max() <= allowed
    return 0 if is_sound and not seen.violations else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples (5)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=16, help="of each worker (16)")
    parser.add_argument("--pool", type=int, default=20, help="DATABASE_POOL_MAX (20)")
    return parser.parse_args(arguments)


def soak(engine: Engine, *, seconds: float, every: float, name: str = "soak") -> Soak:
    """Load the engine for so long, and return what was sampled."""
    load = Load(name=name, customers=50)
    for customer in load.customers_all():
        engine.post("customers/", {"external_key": customer, "name": customer})
    task = Task(
        port=engine.port,
        credential=engine.credential,
        attempts=10**9,
        connections=16,
        process=0,
        processes=1,
        load=load,
    )
    caller = _caller.Caller(task)
    sending = threading.Thread(target=_caller.drive, args=(caller,))
    sending.start()
    seen = Soak()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(every)
        seen.samples.append(_sample(engine, requests=caller.result.statuses.total()))
    caller.stop()
    sending.join()
    seen.violations = caller.result.violations
    return seen


def _sample(engine: Engine, *, requests: int) -> Sample:
    with psycopg.connect(engine.database_url, autocommit=True) as connection:
        sessions = (connection.execute(SESSIONS).fetchone() or [0])[0]
    pages = [
        int(Path(f"/proc/{worker}/statm").read_text().split()[1]) for worker in engine.worker_ids()
    ]
    return Sample(
        requests=requests,
        megabytes=sum(pages) * PAGE_BYTES / 1_000_000,
        sessions=sessions - OWN_SESSIONS,
    )
