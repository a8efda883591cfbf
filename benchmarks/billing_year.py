"""Bill many subscriptions through a year of an advanced clock, and hold the money to the unit.

Every subscription is monthly at 29.00 EUR. The worker's own jobs renew, draft and issue, one
customer a transaction, on a fresh PostgreSQL with full durability; each invoice is marked as paid.
"""

import argparse
import os
import resource
import time
from datetime import timedelta

from benchmarks import renewals

DAYS = 365
PRICE_MINOR = 2900


def main(arguments: list[str]) -> int:
    """Run the year, print its speed and memory, and return 0 where every minor unit is right."""
    options = _options(arguments)
    os.environ.setdefault("DEBUG", "1")
    from core.testing.servers import PostgresServer  # noqa: PLC0415 - settings come first

    with PostgresServer() as server:
        os.environ["DATABASE_URL"] = server.url
        renewals.prepare(subscriptions=options.subscriptions)
        return _run(subscriptions=options.subscriptions, days=options.days)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks billing_year", description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=DAYS)
    return parser.parse_args(arguments)


def _run(*, subscriptions: int, days: int) -> int:
    """Advance day by day: renew, issue, pay."""
    from billing.services import issuing  # noqa: PLC0415 - needs the settings
    from core import clock  # noqa: PLC0415 - as above
    from core.services import worker  # noqa: PLC0415 - as above
    from subscriptions.services import sweeping  # noqa: PLC0415 - as above

    before, began = _megabytes(), time.monotonic()
    done, seconds = {"renew": 0, "issue": 0, "pay": 0}, {"renew": 0.0, "issue": 0.0, "pay": 0.0}
    kinds = {"renew": sweeping.SweepJob(), "issue": issuing.IssueJob()}
    for day in range(1, days + 1):
        standing = clock.FixedClock(at=renewals.STARTED + timedelta(days=day))
        for name, job in kinds.items():
            started = time.monotonic()
            while passed := worker.run_pass(
                jobs=[job], clock=standing, should_stop=lambda: False, limit=1_000
            ).done:
                done[name] += passed
            seconds[name] += time.monotonic() - started
        started = time.monotonic()
        done["pay"] += _pay_all(standing)
        seconds["pay"] += time.monotonic() - started
    total = time.monotonic() - began
    print(f"{subscriptions} subscriptions, {days} days in {total:.0f} s")
    for name, count in done.items():
        print(f"{name:>6}: {count} at {count / (seconds[name] or 1):.0f} a second")
    print(f"memory: {before:.0f} MB before, {_megabytes():.0f} MB at most")
    return _audit(count=done["renew"], subscriptions=subscriptions)


def _pay_all(standing: object) -> int:
    from billing.models import Invoice  # noqa: PLC0415 - needs the settings
    from billing.services import payments  # noqa: PLC0415 - as above
    from subscriptions.services.timeline import Actor  # noqa: PLC0415 - as above

    owed = list(Invoice.objects.filter(status="open").values_list("id", flat=True))
    for invoice_id in owed:
        payments.mark(
            invoice_id=invoice_id,
            status="succeeded",
            reference="",
            actor=Actor(name="benchmark"),
            clock=standing,
        )
    return len(owed)


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
