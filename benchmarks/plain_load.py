"""R1: load an engine over HTTP, kill its workers meanwhile, and hold it to I1 … I8.

So many processes with so many connections each consume as a backend does; 30 % of the attempts
repeat a key. Afterwards everything acknowledged is compared with the ledger, line by line, and
`manage.py audit` recounts. Ends with 0 where nothing was violated.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import signal
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import psycopg

from benchmarks import _caller
from benchmarks._caller import Load, Result, Task
from tests.faults.harness import FEW, PRODUCTION, Engine, Postgres

SETTLE_SECONDS_MAX = 30.0
SAMPLE_SECONDS = 0.1
SHOWN_MAX = 20
LEDGER = (
    "SELECT e.key, e.kind, e.units, c.external_key FROM metering_usageentry e"
    " JOIN core_customer c ON c.id = e.customer_id WHERE e.item = 0 AND c.external_key = ANY(%s)"
)
OVER = (
    "SELECT count(*) FROM metering_balance WHERE used_units + held_units > limit_units"
    " OR used_units + held_units > ceiling_units"
)
USED = (
    "SELECT c.external_key, sum(b.used_units)::bigint FROM metering_balance b"
    " JOIN core_customer c ON c.id = b.customer_id WHERE c.external_key = ANY(%s) GROUP BY 1"
)
Outcomes = dict[int, tuple[int, bytes]]


def main(arguments: Sequence[str]) -> int:
    """Run the load on a PostgreSQL of its own, print the figures, and return 0 where all held."""
    options = parsed(arguments)
    with Postgres() as postgres:
        pool = {"DATABASE_POOL_MAX": str(options.threads)}
        engine = Engine(database_url=postgres.url, **PRODUCTION, **pool).set_up()
        try:
            engine.serve(workers=options.workers, threads=options.threads)
            report = run(engine, options)
        finally:
            engine.stop()
    print("\n".join(report.lines()))
    return 1 if report.violations else 0


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="benchmarks plain_load", description=__doc__)
    parser.add_argument("--attempts", type=int, default=20_000, help="requests in all (20000)")
    parser.add_argument("--processes", type=int, default=2, help="that send (2)")
    parser.add_argument("--connections", type=int, default=32, help="of each that sends (32)")
    parser.add_argument("--workers", type=int, default=2, help="of the web server (2)")
    parser.add_argument("--threads", type=int, default=32, help="of each worker (32)")
    parser.add_argument("--name", default="load", help="of customers and keys")
    parser.add_argument("--customers", type=int, default=50, help="beside a hot and a small one")
    parser.add_argument("--kill-every", type=float, default=0.0, help="seconds; 0 kills nobody")
    parser.add_argument("--without-audit", action="store_true", help="recount by lines alone")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


@dataclass(kw_only=True)
class Report:
    """The figures of a run, and everything that was violated."""

    seconds: float = 0.0
    settled_seconds: float = 0.0
    kills: int = 0
    samples: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    repeats: int = 0
    reads: int = 0
    latencies: list[float] = field(default_factory=list)
    outcomes: Outcomes = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return what is printed."""
        attempts = self.statuses.total()
        cuts = statistics.quantiles(self.latencies, n=100)
        rate = attempts / self.seconds
        median_ms, slow_ms = cuts[49] * 1000, cuts[98] * 1000
        return [
            f"R1 load: {attempts:,} attempts in {self.seconds:.0f} s, {rate:,.0f} a second",
            f"{self.repeats:,} repeated, {self.kills} workers killed",
            f"answers {dict(sorted(self.statuses.items()))} (0: none came)",
            f"median {median_ms:.0f} ms, p99 {slow_ms:.0f} ms",
            f"keys {dict(self.keys)}, unknown ones definitive after {self.settled_seconds:.1f} s",
            f"{self.samples} samples of the counters, {self.reads:,} reads of own writes",
            *self.violations[:SHOWN_MAX],
            f"{len(self.violations)} violations",
        ]


def run(engine: Engine, options: argparse.Namespace) -> Report:
    """Load the engine as the options say, and return what was seen."""
    tasks = _tasks(engine, options)
    load = tasks[0].load
    for name in load.customers_all():
        engine.post("customers/", {"external_key": name, "name": name})
    report = Report()
    began = time.monotonic()
    with Watcher(engine, kill_every=options.kill_every, seed=options.seed) as watcher:
        results = _send(tasks)
    report.seconds = time.monotonic() - began
    report.kills, report.samples = watcher.kills, watcher.samples
    report.violations += watcher.violations
    _merge(results, report)
    engine.await_ready()
    unknown = set().union(*(result.unknown for result in results)) - report.outcomes.keys()
    report.settled_seconds = _settle(tasks[0], unknown, report)
    found, report.keys = recount(engine, load=load, outcomes=report.outcomes)
    report.violations += found
    if not options.without_audit:
        report.violations += audited(engine)
    return report


def _tasks(engine: Engine, options: argparse.Namespace) -> list[Task]:
    return [
        Task(
            port=engine.port,
            credential=engine.credential,
            attempts=options.attempts // options.processes,
            connections=options.connections,
            process=number,
            processes=options.processes,
            load=Load(name=options.name, customers=options.customers),
            seed=options.seed,
        )
        for number in range(options.processes)
    ]


def _send(tasks: Sequence[Task]) -> list[Result]:
    """Let every process send its share; one alone needs no process of its own."""
    if len(tasks) == 1:
        return [_caller.run(tasks[0])]
    with multiprocessing.get_context("spawn").Pool(len(tasks)) as pool:
        return pool.map(_caller.run, tasks)


class Watcher:
    """Sample the counters, and kill a worker every so often, while the block runs."""

    def __init__(self, engine: Engine, *, kill_every: float, seed: int) -> None:
        self.kills = self.samples = 0
        self.violations: list[str] = []
        self._engine, self._kill_every = engine, kill_every
        self._chance = random.Random(seed)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._sample)]
        if kill_every:
            self._threads.append(threading.Thread(target=self._kill))

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for each in self._threads:
            each.join()

    def _sample(self) -> None:
        """Look whether any counter is over its limit or its ceiling (I3)."""
        with psycopg.connect(self._engine.database_url, autocommit=True) as connection:
            while not self._stopping.wait(SAMPLE_SECONDS):
                over = (connection.execute(OVER).fetchone() or [0])[0]
                self.samples += 1
                if over:
                    self.violations.append(f"{over} counters over their limit")

    def _kill(self) -> None:
        """Kill a worker that lives; a server that gives up is started again, as supervisors do."""
        while not self._stopping.wait(self._kill_every):
            living = self._engine.worker_ids()
            if not living:
                self._engine.await_ready()
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._chance.choice(living), signal.SIGKILL)
                self.kills += 1


def _merge(results: Sequence[Result], report: Report) -> None:
    """Put together what all processes were told; one key has one answer (I1)."""
    for result in results:
        report.statuses += result.statuses
        report.repeats += result.repeats
        report.reads += result.reads
        report.latencies += result.latencies
        report.violations += result.violations
        for number, outcome in result.outcomes.items():
            if report.outcomes.setdefault(number, outcome) != outcome:
                report.violations.append(f"{number}: two processes, two answers")


def _settle(task: Task, unknown: Iterable[int], report: Report) -> float:
    """Ask again for what is unknown until it is definitive, and return the seconds (I8)."""
    began = time.monotonic()
    for number in sorted(unknown):
        while (outcome := _caller.send_once(task, number)) is None:
            if time.monotonic() - began > SETTLE_SECONDS_MAX:
                report.violations.append(f"{number}: not definitive")
                break
            time.sleep(0.1)
        else:
            report.outcomes[number] = outcome
    return time.monotonic() - began


def recount(engine: Engine, *, load: Load, outcomes: Outcomes) -> tuple[list[str], Counter[str]]:
    """Compare what was acknowledged with ledger and counters (I2, I4, I5); return what differs."""
    with psycopg.connect(engine.database_url) as connection:
        lines = connection.execute(LEDGER, [load.customers_all()]).fetchall()
        used = dict(connection.execute(USED, [load.customers_all()]).fetchall())
    found = list(_differences(lines, load=load, outcomes=outcomes))
    sums: Counter[str] = Counter()
    for _, kind, units, customer in lines:
        sums[customer] += units if kind == "consume" else 0
    if {name: total for name, total in used.items() if total} != dict(+sums):
        found.append("the counters differ from the ledger")
    kinds = Counter(kind for _, kind, _, _ in lines)
    if kinds["denied"] and sums[load.small] != FEW:
        found.append(f"denied, and {FEW - sums[load.small]} units were left")
    return found, kinds


def audited(engine: Engine) -> list[str]:
    """Return what `manage.py audit` finds, of every customer; empty where all is clean."""
    try:
        engine.manage("audit")
    except subprocess.CalledProcessError as error:
        return [f"audit: {error.stdout} {error.stderr}"]
    return []


def _differences(
    lines: Sequence[tuple[str, str, int, str]], *, load: Load, outcomes: Outcomes
) -> Iterator[str]:
    """Yield where the ledger's lines are not what was acknowledged, one for one."""
    seen: set[int] = set()
    for key, kind, units, customer in lines:
        number = int(key.rpartition("-")[2])
        whose, _, wanted = load.wanted(number)
        status = _caller.GRANTED if kind == "consume" else _caller.DENIED
        if number in seen:
            yield f"{key}: twice in the ledger"
        if outcomes.get(number, (None,))[0] != status:
            yield f"{key}: {kind} in the ledger, told otherwise"
        if (customer, units) != (whose, wanted):
            yield f"{key}: other units or another customer"
        seen.add(number)
    yield from (f"{number}: acknowledged and lost" for number in sorted(outcomes.keys() - seen))
