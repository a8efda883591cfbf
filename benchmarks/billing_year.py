"""Bill many subscriptions through a year of an advanced clock, and hold the money to the unit.

Every subscription is monthly at 29.00 EUR. The worker's own jobs renew, draft and issue, one
customer a transaction, on a fresh PostgreSQL with full durability; each invoice is marked as paid.
Several processes work side by side, in step: none begins a day, or what comes next in it, before
all are done with what comes before.
"""

import argparse
import multiprocessing
import os
import resource
import time
import zlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import TYPE_CHECKING

from benchmarks import renewals

if TYPE_CHECKING:
    from core.clock import Clock
    from core.services.jobs import Job

DAYS = 365
WORKERS = 2
BATCH = 1_000
PRICE_MINOR = 2900
KINDS = ("renew", "issue", "pay")


@dataclass(frozen=True, kw_only=True)
class Share:
    """A worker's share of the pieces of a job; by chance two seldom want the same rows."""

    job: "Job"
    number: int
    workers: int

    @property
    def name(self) -> str:
        """Return the job's own name."""
        return self.job.name

    def list_due(self, *, at: datetime, limit: int, excluded: Collection[str]) -> list[str]:
        """Return the keys of the share among those that are due."""
        found = self.job.list_due(at=at, limit=limit * self.workers, excluded=excluded)
        return [key for key in found if self.holds(key)]

    def work(self, *, key: str, clock: "Clock") -> bool:
        """Do one piece, as the job does."""
        return self.job.work(key=key, clock=clock)

    def holds(self, key: str) -> bool:
        """Tell whether a key is of the share."""
        return zlib.crc32(key.encode()) % self.workers == self.number


@dataclass(kw_only=True)
class Report:
    """What one process did, how long and with how much processor time, and its memory."""

    done: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0
    before_mb: float = 0.0
    most_mb: float = 0.0


def main(arguments: list[str]) -> int:
    """Run the year, print its speed and memory, and return 0 where every minor unit is right."""
    options = _options(arguments)
    os.environ.setdefault("DEBUG", "1")
    from core.testing.servers import PostgresServer  # noqa: PLC0415 - settings come first

    with PostgresServer() as server:
        os.environ["DATABASE_URL"] = server.url
        renewals.prepare(subscriptions=options.subscriptions)
        began = time.monotonic()
        reports = _run_all(workers=options.workers, days=options.days)
        total = time.monotonic() - began
        print(f"{options.subscriptions} subscriptions, {options.days} days in {total:.0f} s")
        return _print(reports) or _audit(
            count=sum(each.done["renew"] for each in reports),
            subscriptions=options.subscriptions,
        )


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks billing_year", description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes side by side")
    return parser.parse_args(arguments)


def _run_all(*, workers: int, days: int) -> list[Report]:
    """Let the processes work side by side; return the reports of those that came to the end."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers)
    running = []
    for number in range(workers):
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(number, workers, days, barrier, sending))
        process.start()
        sending.close()
        running.append((process, receiving))
    reports = []
    for process, receiving in running:
        try:
            reports.append(receiving.recv())
        except EOFError:
            print(f"process {process.pid} did not come to the end")
        process.join()
    return reports if len(reports) == workers else []


def _work(number: int, workers: int, days: int, barrier: Barrier, sending: Connection) -> None:
    """Run one process through the days; should it fail, the others do not wait for it."""
    try:
        renewals.set_up()
        sending.send(_run(number=number, workers=workers, days=days, barrier=barrier))
    except BaseException:
        barrier.abort()
        raise


def _run(*, number: int, workers: int, days: int, barrier: Barrier) -> Report:
    """Advance day by day: renew, issue, pay, each with all others."""
    from billing.services import issuing  # noqa: PLC0415 - needs the settings
    from core import clock  # noqa: PLC0415 - as above
    from subscriptions.services import sweeping  # noqa: PLC0415 - as above

    report = Report(before_mb=_megabytes())
    shares = {
        name: Share(job=job, number=number, workers=workers)
        for name, job in (("renew", sweeping.SweepJob()), ("issue", issuing.IssueJob()))
    }
    cpu_began = time.process_time()
    for day in range(1, days + 1):
        standing = clock.FixedClock(at=renewals.STARTED + timedelta(days=day))
        for name in KINDS:
            barrier.wait()
            started = time.monotonic()
            if name == "pay":
                report.done[name] += _pay_all(standing, share=shares["issue"])
            else:
                report.done[name] += _do_all(shares[name], standing)
            report.seconds[name] += time.monotonic() - started
    report.cpu_seconds = time.process_time() - cpu_began
    report.most_mb = _megabytes()
    return report


def _do_all(share: Share, standing: "Clock") -> int:
    """Do all that is due of the share; return how many pieces."""
    from core.services import worker  # noqa: PLC0415 - needs the settings

    done = 0
    while passed := worker.run_pass(
        jobs=[share], clock=standing, should_stop=lambda: False, limit=BATCH
    ).done:
        done += passed
    return done


def _pay_all(standing: "Clock", *, share: Share) -> int:
    from billing.models import Invoice  # noqa: PLC0415 - needs the settings
    from billing.services import payments  # noqa: PLC0415 - as above
    from subscriptions.services.timeline import Actor  # noqa: PLC0415 - as above

    found = Invoice.objects.filter(status="open").values_list("id", flat=True)
    owed = [invoice_id for invoice_id in found if share.holds(str(invoice_id))]
    for invoice_id in owed:
        payments.mark(
            invoice_id=invoice_id,
            status="succeeded",
            reference="",
            actor=Actor(name="benchmark"),
            clock=standing,
        )
    return len(owed)


def _print(reports: list[Report]) -> int:
    """Print what the processes did; return 1 where one of them did not come to the end."""
    if not reports:
        return 1
    for name in KINDS:
        count = sum(each.done[name] for each in reports)
        seconds = max(each.seconds[name] for each in reports)
        print(f"{name:>6}: {count} at {count / (seconds or 1):.0f} a second")
    cpu_seconds = sum(each.cpu_seconds for each in reports)
    renewed = sum(each.done["renew"] for each in reports) or 1
    print(f"processor time of the processes: {1000 * cpu_seconds / renewed:.1f} ms a period")
    for number, each in enumerate(reports, start=1):
        memory = f"{each.before_mb:.0f} MB before, {each.most_mb:.0f} MB at most"
        print(f"process {number}: {each.done['renew']} renewals, {memory}")
    return 0


def _audit(*, count: int, subscriptions: int) -> int:
    """Return 0 where each period is billed and paid once, without a gap, and MRR is the sum."""
    from django.db.models import Max, Sum  # noqa: PLC0415 - needs the environment

    from billing.models import Invoice, InvoiceLine, MrrMovement, Payment  # noqa: PLC0415
    from core.models import WorkFailure  # noqa: PLC0415 - as above

    facts = {
        "lines": InvoiceLine.objects.count() == count,
        "billed": InvoiceLine.objects.aggregate(s=Sum("amount_minor"))["s"] == count * PRICE_MINOR,
        "paid": Payment.objects.aggregate(s=Sum("amount_minor"))["s"] == count * PRICE_MINOR,
        "numbers": Invoice.objects.aggregate(m=Max("number"))["m"] == Invoice.objects.count(),
        "mrr": MrrMovement.objects.aggregate(s=Sum("amount_minor"))["s"]
        == subscriptions * PRICE_MINOR,
        "failures": not WorkFailure.objects.exists(),
    }
    wrong = [name for name, is_right in facts.items() if not is_right]
    print("exact to the minor unit" if not wrong else f"WRONG: {', '.join(wrong)}")
    return 1 if wrong else 0


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
