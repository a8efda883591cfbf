"""P9: consuming on a small engine beside the same on one that has grown, in turns.

Both stand on one PostgreSQL: 10,000 lines of the ledger and 10,000 balances, and `--lines` with
`--balances`. Each turn consumes in a process of its own, over random customers. `--full` grows to
10,000,000 lines and 1,000,000 balances, which takes some minutes and gigabytes.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time

import psycopg

from benchmarks import _engine
from benchmarks._table import Figure, report

SMALL = 10_000
THREADS = 16
GROW = """
    INSERT INTO metering_usageentry (
        id, operation_id, customer_id, key, item, fingerprint, kind, feature_id, balance_id, units,
        used_units, held_units, limit_units, period_starts_at, period_ends_at, carried_units, scope,
        consumed_at, metadata)
    SELECT gen_random_uuid(), gen_random_uuid(), row.customer_id, 'old-' || number, 0, 'f',
           'consume', row.feature_id, row.id, 0, 0, 0, row.limit_units, row.period_starts_at,
           row.period_ends_at, 0, '', now() - interval '1 day', '{}'
    FROM generate_series(%s::bigint, %s::bigint) AS number
    JOIN metering_balance AS row ON row.id = %s + number %% %s
"""


def main(arguments: list[str]) -> int:
    """Run the rounds, print the table, and return 0 where every count is exact."""
    options = _options(arguments)
    if options.turn:
        print(json.dumps(_turn(options)))
        return 0
    rounds, seconds = (7, 10.0) if options.full else (3, 4.0)
    lines, balances = (10_000_000, 1_000_000) if options.full else (options.lines, options.balances)
    from core.testing.servers import PostgresServer  # noqa: PLC0415 - settings come first

    os.environ["DEBUG"] = "1"
    with PostgresServer() as server:
        urls = {}
        for name, size, customers in (("small", SMALL, SMALL), ("large", lines, balances)):
            urls[name] = _database(server.url, name)
            began = time.monotonic()
            _child(urls[name], customers=customers, seconds=1.0, grow=size)
            took = time.monotonic() - began
            print(f"  {name}: {size:,} lines, {customers:,} balances, {took:.0f} s")
        turns: dict[str, list[dict[str, float]]] = {"small": [], "large": []}
        for number in range(rounds):
            for name in ("small", "large") if number % 2 else ("large", "small"):
                customers = SMALL if name == "small" else balances
                turns[name].append(_child(urls[name], customers=customers, seconds=seconds))
            print(f"  {number + 1}/{rounds}", flush=True)
    faults = sum(each["differences"] for name in turns for each in turns[name])
    against = f"{SMALL:,} lines and balances"
    name = f"{lines:,} lines, {balances:,} balances"
    figures = [
        Figure(name=f"P9 rate, {name}", against=against, goal="≥ 0.95"),
        Figure(name="P9 median latency, inverse", against=against, goal="≥ 0.91"),
    ]
    for figure, what in zip(figures, ("rate", "speed"), strict=True):
        figure.ours = [each[what] for each in turns["large"]]
        figure.theirs = [each[what] for each in turns["small"]]
    exact = f"{faults} differences" if faults else "exact"
    report("growth", figures, notes=[f"{THREADS} threads; {exact}"])
    return 1 if faults else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks growth", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--balances", type=int, default=100_000)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--turn", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--customers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--grow", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _database(url: str, name: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{url.rsplit('/', 1)[0]}/{name}"


def _child(url: str, **options: float) -> dict[str, float]:
    """Take a turn in a process of its own, on this database."""
    command = [sys.executable, "-m", "benchmarks", "growth", "--turn"]
    command += [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        command,
        env=os.environ | {"DATABASE_URL": url},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _turn(options: argparse.Namespace) -> dict[str, float]:
    """Grow where told, else consume, and return rate, inverse median latency and differences."""
    _engine.set_up(connections=THREADS + 4)
    if options.grow:
        _grow(options.grow, customers=options.customers)
        return {}
    chance = random.Random(time.time_ns())
    taken: list[float] = []

    def consume(*_: int) -> None:
        began = time.perf_counter()
        _engine.consume(chance.randrange(options.customers))
        taken.append(time.perf_counter() - began)

    for _ in range(200):
        consume()
    taken.clear()
    rate = _engine.in_threads(consume, threads=THREADS, seconds=options.seconds)
    from metering.models import UsageEntry  # noqa: PLC0415 - needs the settings

    counted = UsageEntry.objects.filter(key__startswith=_engine.prefix()).count()
    return {
        "rate": rate,
        "speed": 1 / statistics.median(taken),
        "differences": abs(counted - len(taken) - 200),
    }


def _grow(lines: int, *, customers: int) -> None:
    from django.db import connection  # noqa: PLC0415 - needs the settings

    from metering.models import Balance  # noqa: PLC0415 - as above

    _engine.migrate()
    _engine.make_customers(range(customers))
    first = Balance.objects.order_by("id").values_list("pk", flat=True)[0]
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        for start in range(0, lines, 500_000):
            end = min(start + 500_000, lines) - 1
            cursor.execute(GROW, [start, end, first, customers])
        cursor.execute("VACUUM (ANALYZE) metering_usageentry")
        cursor.execute("VACUUM (ANALYZE) metering_balance")
        cursor.execute("CHECKPOINT")
