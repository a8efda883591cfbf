"""Consume through the service beside a naive transaction of the ORM, on one key and on many.

The naive comparator does what most code does: `select_for_update` the counter, test, save, write a
line; no idempotency, no periods, no denial, no replay. Both run in the same process on the same
PostgreSQL with full durability, in turn; afterwards grants = counter = ledger, never over.
"""

import argparse
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count

STARTED = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = 10**9
_numbers = count(1)
Work = Callable[[int], None]


def main(arguments: list[str]) -> int:
    """Run the rounds, print the table, and return 0 where every count is exact."""
    options = _options(arguments)
    os.environ.setdefault("DEBUG", "1")
    from core.testing.servers import PostgresServer  # noqa: PLC0415 - settings come first

    with PostgresServer() as server:
        os.environ["DATABASE_URL"] = server.url
        os.environ["DATABASE_POOL_MAX"] = str(options.threads)
        _prepare()
        return _run(options)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks consume", description=__doc__)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--customers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args(arguments)


def _prepare() -> None:
    import django  # noqa: PLC0415 - needs the environment

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "subscriptionEngine.settings")
    django.setup()
    from django.conf import settings  # noqa: PLC0415 - as above
    from django.core.management import call_command  # noqa: PLC0415 - as above
    from django.db import connection  # noqa: PLC0415 - as above

    settings.DEBUG = False
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE naive_counter (id bigserial PRIMARY KEY, used bigint)")
        cursor.execute(
            "CREATE TABLE naive_entry (id bigserial PRIMARY KEY, counter_id bigint, units bigint)"
        )


def _run(options: argparse.Namespace) -> int:
    failures = 0
    for title, customers in (("hot key", 1), (f"{options.customers} customers", options.customers)):
        engine, naive = _workers(customers=customers)
        for number in range(customers):
            engine(number)
        rounds = []
        for _ in range(options.rounds):
            ours = _turn(engine, options)
            theirs = _turn(naive, options)
            rounds.append((ours, theirs))
        ratios = [ours / theirs for ours, theirs in rounds]
        print(
            f"{title}, {options.threads} threads: engine "
            f"{statistics.median(ours for ours, _ in rounds):,.0f}/s, naive "
            f"{statistics.median(theirs for _, theirs in rounds):,.0f}/s, ratio "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})"
        )
    failures += _differences()
    print("exact" if not failures else f"{failures} differences")
    return 1 if failures else 0


def _workers(*, customers: int) -> tuple[Work, Work]:
    """Make the customers, and return one consume of the engine and one of the comparator."""
    from django.db import models, transaction  # noqa: PLC0415 - needs the settings

    from core import clock  # noqa: PLC0415 - as above
    from core.models import Customer  # noqa: PLC0415 - as above
    from core.services.idempotency import KeyedRequest  # noqa: PLC0415 - as above
    from metering.services import consumption  # noqa: PLC0415 - as above

    _sell()
    made = [
        Customer.objects.create(
            external_key=f"bench{next(_numbers)}", name="bench", created_at=STARTED
        )
        for _ in range(customers)
    ]
    counter, entry = _naive_models(models)
    counters = [counter.objects.create(used=0).pk for _ in made]

    def engine(number: int) -> None:
        request = consumption.Request(
            customer_id=made[number % customers].pk,
            wanted=[consumption.Wanted(feature_key="bench_calls", units=1)],
            keyed=KeyedRequest(key=f"key{next(_numbers)}", fingerprint="f"),
        )
        consumption.consume(request, clock=clock.process_clock())

    def naive(number: int) -> None:
        with transaction.atomic():
            row = counter.objects.select_for_update().get(pk=counters[number % customers])
            if row.used + 1 <= LIMIT:
                row.used += 1
                row.save()
                entry.objects.create(counter_id=row.pk, units=1)

    return engine, naive


_naive: list[type] = []


def _naive_models(models):  # noqa: ANN001, ANN202 - Django's module
    if not _naive:
        meta = {"app_label": "naive", "managed": False}
        fields = {"__module__": __name__, "used": models.BigIntegerField()}
        table = type("Meta", (), meta | {"db_table": "naive_counter"})
        _naive.append(type("Counter", (models.Model,), fields | {"Meta": table}))
        fields = {
            "__module__": __name__,
            "counter_id": models.BigIntegerField(),
            "units": models.BigIntegerField(),
        }
        table = type("Meta", (), meta | {"db_table": "naive_entry"})
        _naive.append(type("Entry", (models.Model,), fields | {"Meta": table}))
    return _naive


def _sell() -> None:
    from core import clock  # noqa: PLC0415 - needs the settings
    from subscriptions.models import (  # noqa: PLC0415 - as above
        Entitlement,
        Feature,
        Plan,
        PlanGroup,
        PlanVersion,
    )
    from subscriptions.services import catalog  # noqa: PLC0415 - as above

    if Plan.objects.exists():
        return
    group = PlanGroup.objects.create(key="main", name="Main")
    plan = Plan.objects.create(key="free", name="Free", plan_group=group, created_at=STARTED)
    version = PlanVersion.objects.create(plan=plan, number=1, created_at=STARTED)
    feature = Feature.objects.create(
        key="bench_calls", name="Calls", type="metered", plan_group=group, created_at=STARTED
    )
    Entitlement.objects.create(plan_version=version, feature=feature, limit_units=LIMIT)
    catalog.publish(plan_version_id=version.pk, clock=clock.FixedClock(at=STARTED))


def _turn(work: Work, options: argparse.Namespace) -> float:
    """Return how many a second all threads do together."""
    from django.db import connections  # noqa: PLC0415 - needs the settings

    barrier = threading.Barrier(options.threads + 1)

    def run(thread: int) -> int:
        done = 0
        barrier.wait()
        ends_at = time.monotonic() + options.seconds
        while time.monotonic() < ends_at:
            work(thread + done * options.threads)
            done += 1
        connections.close_all()
        return done

    with ThreadPoolExecutor(options.threads) as pool:
        futures = [pool.submit(run, thread) for thread in range(options.threads)]
        barrier.wait()
        began = time.monotonic()
        total = sum(future.result() for future in futures)
        return total / (time.monotonic() - began)


def _differences() -> int:
    from metering.services import auditing  # noqa: PLC0415 - needs the settings

    found, _ = auditing.audit()
    for each in found:
        print(each, file=sys.stderr)
    return len(found)
