"""Bring up an engine on a PostgreSQL of its own, with one feature and many customers."""

import functools
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

STARTED = datetime(2026, 1, 1, tzinfo=UTC)
FEATURE = "bench_calls"
LIMIT = 10**11
BEGAN = time.time_ns()
_numbers = count(1)


@contextmanager
def engine(*, connections: int) -> Iterator[str]:
    """Yield the address of a migrated PostgreSQL with full durability, and stop it at the end."""
    os.environ["DEBUG"] = "1"
    from core.testing.servers import PostgresServer  # noqa: PLC0415 - settings come first

    with PostgresServer() as server:
        os.environ["DATABASE_URL"] = server.url
        set_up(connections=connections)
        migrate()
        yield server.url


def set_up(*, connections: int) -> None:
    """Set Django up on the database of `DATABASE_URL`."""
    os.environ |= {"DEBUG": "1", "DATABASE_POOL_MAX": str(connections)}
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "subscriptionEngine.settings")
    import django  # noqa: PLC0415 - needs the environment

    django.setup()
    from django.conf import settings  # noqa: PLC0415 - as above

    settings.DEBUG = False  # else every statement is kept


def migrate() -> None:
    """Make the tables, and publish a default plan with the feature."""
    from django.core.management import call_command  # noqa: PLC0415 - needs the settings

    call_command("migrate", verbosity=0)
    sell()


def prefix() -> str:
    """Return what the keys of this process begin with."""
    return f"{BEGAN}-"


@functools.cache
def customer_id(number: int) -> UUID:
    """Return the id of a customer; pgbench can write it from the number."""
    return UUID(f"00000000-0000-7000-8000-{number:012d}")


def make_customers(numbers: range) -> None:
    """Make customers with a current balance each: one by its first use, the others as it is."""
    from django.db import connection  # noqa: PLC0415 - needs the settings

    from core.models import Customer  # noqa: PLC0415 - as above

    Customer.objects.bulk_create(
        [
            Customer(
                id=customer_id(number),
                external_key=f"bench-{number}",
                name="bench",
                created_at=STARTED,
            )
            for number in numbers
        ],
        batch_size=1000,
    )
    consume(numbers[0])
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT string_agg(attname, ', ') FROM pg_attribute"
            " WHERE attrelid = 'metering_balance'::regclass AND attnum > 0 AND NOT attisdropped"
            " AND attname NOT IN ('id', 'customer_id', 'used_units')"
        )
        columns = cursor.fetchone()[0]
        cursor.execute(
            f"INSERT INTO metering_balance (customer_id, used_units, {columns})"
            f" SELECT customer.id, 0, {columns} FROM metering_balance AS opened,"
            " core_customer AS customer WHERE opened.customer_id = %s"
            " AND customer.id <> %s AND customer.id = ANY(%s)",
            [customer_id(numbers[0])] * 2 + [[customer_id(number) for number in numbers]],
        )
        cursor.execute("ANALYZE")


def consume(number: int) -> None:
    """Consume a unit as a caller does, under a key of its own."""
    consumption, clock, keyed = _parts()
    request = consumption.Request(
        customer_id=customer_id(number),
        wanted=(consumption.Wanted(feature_key=FEATURE, units=1),),
        keyed=keyed(key=f"{BEGAN}-{next(_numbers)}", fingerprint="f"),
    )
    consumption.consume(request, clock=clock)


@functools.cache
def _parts() -> tuple[Any, Any, Any]:
    from core import clock  # noqa: PLC0415 - needs the settings
    from core.services.idempotency import KeyedRequest  # noqa: PLC0415 - as above
    from metering.services import consumption  # noqa: PLC0415 - as above

    return consumption, clock.process_clock(), KeyedRequest


def feature_id() -> int:
    """Return the feature's id."""
    from subscriptions import selectors  # noqa: PLC0415 - needs the settings

    return selectors.get_feature(key=FEATURE).id


def sell() -> None:
    """Publish a default plan with the feature."""
    from core import clock  # noqa: PLC0415 - needs the settings
    from subscriptions.models import (  # noqa: PLC0415 - as above
        Entitlement,
        Feature,
        Plan,
        PlanGroup,
        PlanVersion,
    )
    from subscriptions.services import catalog  # noqa: PLC0415 - as above

    group = PlanGroup.objects.create(key="main", name="Main")
    plan = Plan.objects.create(key="free", name="Free", plan_group=group, created_at=STARTED)
    version = PlanVersion.objects.create(plan=plan, number=1, created_at=STARTED)
    feature = Feature.objects.create(
        key=FEATURE, name="Calls", type="metered", plan_group=group, created_at=STARTED
    )
    Entitlement.objects.create(plan_version=version, feature=feature, limit_units=LIMIT)
    catalog.publish(plan_version_id=version.pk, clock=clock.FixedClock(at=STARTED))


def in_threads(work: Callable[[int, int], None], *, threads: int, seconds: float) -> float:
    """Return how many a second all threads do together; `work` is told thread and number."""
    from django.db import connections  # noqa: PLC0415 - needs the settings

    barrier = threading.Barrier(threads + 1)

    def run(thread: int) -> int:
        done = 0
        barrier.wait()
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            work(thread, done)
            done += 1
        connections.close_all()
        return done

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(run, thread) for thread in range(threads)]
        barrier.wait()
        began = time.monotonic()
        total = sum(future.result() for future in futures)
        return total / (time.monotonic() - began)


def pgbench(url: str, script: str, *, clients: int, seconds: float) -> float:
    """Return the transactions a second of PostgreSQL's own load program, statements prepared."""
    from core.testing import servers  # noqa: PLC0415 - settings come first

    program = shutil.which("pgbench") or str(servers.find_postgres_programs() / "pgbench")
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        command = [program, "-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2))]
        command += ["-T", str(max(int(seconds), 1)), "-f", file.name, url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    line = next(each for each in done.stdout.splitlines() if each.startswith("tps ="))
    return float(line.split()[2])


def statements(*, customers: int) -> str:
    """Return a pgbench script of one consume: the statements that the engine sends, no more."""
    from metering import locks  # noqa: PLC0415 - needs the settings
    from metering.services import posting  # noqa: PLC0415 - as above

    who = "('00000000-0000-7000-8000-' || lpad(:who::text, 12, '0'))::uuid"
    lock = _filled(locks.LOCK_ROWS, [f"ARRAY[{who}]", f"ARRAY[{feature_id()}]", "ARRAY['']"])
    fresh = "ARRAY[gen_random_uuid()]"
    post = _filled(
        posting.POST,
        [
            "ARRAY[:id]",
            "ARRAY[1]",
            "ARRAY[now()]",
            fresh,
            fresh,
            "ARRAY[gen_random_uuid()::text]",
            "ARRAY[0]",
            "ARRAY['f']",
            "ARRAY[:id]",
            "ARRAY[1]",
            "ARRAY[:used_units + 1]",
            "ARRAY[NULL]",
            "ARRAY[now()]",
            "ARRAY['{}']",
            "1",
        ],
    )
    return f"\\set who random(0, {customers - 1})\nBEGIN;\n{lock} \\gset\n{post};\nCOMMIT;\n"


def _filled(statement: str, values: Sequence[str]) -> str:
    """Return the statement on one line with the values in its places."""
    parts = " ".join(statement.split()).split("%s")
    return "".join(part + value for part, value in zip(parts, [*values, ""], strict=True))


def differences() -> list[str]:
    """Return what counters, ledger and limits do not agree on; nothing where all is exact."""
    from metering.services import auditing  # noqa: PLC0415 - needs the settings

    found, _ = auditing.audit()
    return [str(each) for each in found]
