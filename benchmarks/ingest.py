"""Ingest events exactly once, killed on the way, and beside a raw COPY of the same rows.

`python -m benchmarks ingest` starts a PostgreSQL of its own and ends with exit code 0 only where
every figure is exact to the unit.
"""

import argparse
import io
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import django
import orjson
from django.conf import settings

BATCH = 10_000
COPY = """
    COPY metering_meterevent (customer_id, source, event_id, item, event_type, occurred_at,
                              received_at, position, meter_id, value, text, groups) FROM STDIN
"""


def main(arguments: list[str]) -> int:
    """Run both parts on a fresh PostgreSQL, and return 0 where all is exact."""
    options = _options(arguments)
    if options.worker:
        return _work(Path(options.worker), size=options.events)
    os.environ.setdefault("DEBUG", "1")
    from core.testing.servers import PostgresServer  # noqa: PLC0415 - settings come first

    with PostgresServer() as server:
        os.environ["DATABASE_URL"] = server.url
        _prepare(customers=options.customers)
        is_exact = _killed(options)
        _raced(options)
    return 0 if is_exact else 1


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks ingest", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="events of the killed run")
    parser.add_argument("--kills", type=int, default=20, help="times the ingester is killed")
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds beside COPY")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _prepare(*, customers: int) -> None:
    """Migrate, and make the customers and the meter."""
    _configure()
    from django.core.management import call_command  # noqa: PLC0415 - needs the settings

    from benchmarks import _streams as streams  # noqa: PLC0415 - as above
    from core.clock import FixedClock  # noqa: PLC0415 - as above
    from core.models import Customer  # noqa: PLC0415 - as above
    from metering.services import meters  # noqa: PLC0415 - as above

    at = datetime.now(UTC).replace(microsecond=0)
    call_command("migrate", verbosity=0)
    meters.define(streams.METER, clock=FixedClock(at=at))
    Customer.objects.bulk_create(
        (
            Customer(id=UUID(int=number + 1), external_key=f"c{number}", name="-", created_at=at)
            for number in range(customers)
        ),
        batch_size=5_000,
    )


def _configure() -> None:
    os.environ.setdefault("DEBUG", "1")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "subscriptionEngine.settings")
    django.setup()
    from django.conf import settings  # noqa: PLC0415 - needs the environment

    settings.DEBUG = False  # else every statement is written twice and kept


def _stream(*, size: int, at: datetime):  # noqa: ANN202 - its module needs the settings
    from benchmarks import _streams as streams  # noqa: PLC0415 - as above
    from core.models import Customer  # noqa: PLC0415 - as above

    ids = list(Customer.objects.order_by("id").values_list("id", flat=True))
    return streams.Stream.of(size=size, customer_ids=ids, at=at)


def _work(progress: Path, *, size: int) -> int:
    """Ingest the stream from where the progress file stands; killed at any point by the parent."""
    _configure()
    from core import clock  # noqa: PLC0415 - as above
    from metering.services import ingest  # noqa: PLC0415 - as above

    state = orjson.loads(progress.read_bytes())
    stream = _stream(size=size, at=datetime.fromisoformat(state["at"]))
    for start in range(state["done"], size, BATCH):
        events = [stream.event(number) for number in stream.numbers[start : start + BATCH]]
        ingest.ingest(events=events, clock=clock.process_clock())
        written = progress.with_suffix(".new")
        written.write_bytes(orjson.dumps(state | {"done": start + BATCH}))
        written.replace(progress)
    return 0


def _killed(options: argparse.Namespace) -> bool:
    """Kill the ingester again and again, let it resume, and compare with plain Python."""
    from django.db import connections  # noqa: PLC0415 - as above

    connections.close_all()
    at = datetime.now(UTC).replace(microsecond=0)
    chance, kills, started = random.Random(20), 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:
        progress = Path(folder) / "progress.json"
        progress.write_bytes(orjson.dumps({"at": at.isoformat(), "done": 0}))
        command = [sys.executable, "-m", "benchmarks", "ingest", "--worker", str(progress)]
        command += ["--events", str(options.events)]
        while _done(progress) < options.events:
            worker = subprocess.Popen(command, cwd=settings.BASE_DIR)
            if kills < options.kills:
                _wait_for_more(worker, progress)
                time.sleep(chance.random() * 0.5)
                if worker.poll() is None:
                    worker.send_signal(signal.SIGKILL)
                    kills += 1
            if worker.wait() not in {0, -signal.SIGKILL}:
                return False
    seconds = time.monotonic() - started
    print(f"{options.events:,} events sent, killed {kills} times, {seconds:.0f} s")
    return _is_exact(_stream(size=options.events, at=at))


def _done(progress: Path) -> int:
    return int(orjson.loads(progress.read_bytes())["done"])


def _wait_for_more(worker: "subprocess.Popen[bytes]", progress: Path) -> None:
    before = _done(progress)
    while worker.poll() is None and _done(progress) == before:
        time.sleep(0.01)


def _is_exact(stream) -> bool:  # noqa: ANN001 - as above
    from django.db.models import Count, Sum  # noqa: PLC0415 - as above

    from metering.models import MeterEvent  # noqa: PLC0415 - as above

    rows = MeterEvent.objects.values("customer_id").annotate(events=Count("id"), units=Sum("value"))
    counted = {row["customer_id"]: (row["events"], row["units"]) for row in rows}
    expected = dict(stream.expected())
    kinds = Counter(_kind(number) for number in stream.numbers)
    again = len(stream.numbers) - len(set(stream.numbers))
    print(f"  of them {again:,} sent again, {kinds['late']:,} late, {kinds['invalid']:,} invalid")
    print(f"  events   expected {_total(expected, 0):>14,}   counted {_total(counted, 0):>14,}")
    print(f"  units    expected {_total(expected, 1):>14,}   counted {_total(counted, 1):>14,}")
    wrong = sum(counted.get(each) != expected.get(each) for each in counted.keys() | expected)
    print(f"  customers that differ: {wrong}")
    return wrong == 0


def _kind(number: int) -> str:
    from benchmarks import _streams as streams  # noqa: PLC0415 - as above

    if streams.is_late(number):
        return "late"
    return "invalid" if streams.is_invalid(number) else "valid"


def _total(figures: dict[UUID, tuple[int, int]], place: int) -> int:
    return sum(each[place] for each in figures.values())


def _raced(options: argparse.Namespace) -> None:
    """Print events a second beside a raw COPY of the same rows, interleaved."""
    print(f"{BATCH:,} events a call, {options.rounds} rounds, the same rows by raw COPY")
    for title, customers in (("uniform", options.customers), ("skewed", 100)):
        ratios, ours, raw, read = [], [], [], []
        for number in range(options.rounds + 1):
            events = _fresh(title, number, customers=customers)
            copied = _timed_copy(_fresh(f"{title} copy", number, customers=customers))
            ingested, from_json = _timed_ingest(events)
            if number:  # the first round warms up
                ratios.append(copied / ingested)
                ours.append(BATCH / ingested)
                raw.append(BATCH / copied)
                read.append(copied / from_json)
        print(
            f"  {title:8} {statistics.median(ours):>9,.0f} events/s   COPY"
            f" {statistics.median(raw):>9,.0f} rows/s   ratio {statistics.median(ratios):.2f}"
            f" [{min(ratios):.2f} … {max(ratios):.2f}]   read from JSON as well"
            f" {statistics.median(read):.2f}"
        )


def _fresh(title: str, number: int, *, customers: int) -> list[dict[str, object]]:
    """Return events that nobody sent before, as CloudEvents."""
    chance = random.Random(f"{title} {number}")
    at = datetime.now(UTC) - timedelta(minutes=5)
    return [
        {
            "specversion": "1.0",
            "id": f"{title}-{number}-{index:06}",
            "source": "/bench",
            "type": "bench.used",
            "subject": f"c{chance.randrange(customers)}",
            "time": (at + timedelta(milliseconds=index)).isoformat(),
            "data": {"n": 1 + index % 97, "region": "eu"},
        }
        for index in range(BATCH)
    ]


def _timed_ingest(events: list[dict[str, object]]) -> tuple[float, float]:
    """Return the seconds of counting the events, and those of reading them from JSON as well."""
    from core import clock  # noqa: PLC0415 - as above
    from metering.api import cloudevents  # noqa: PLC0415 - as above
    from metering.services import ingest  # noqa: PLC0415 - as above

    body = orjson.dumps(events)
    customers = {f"c{number}": UUID(int=number + 1) for number in range(100_000)}
    started = time.perf_counter()
    sent = [cloudevents.read_one(each) for each in orjson.loads(body)]
    arrived = cloudevents.addressed(sent, customers=customers)
    read = time.perf_counter()
    outcomes = ingest.ingest(events=arrived, clock=clock.process_clock())
    ended = time.perf_counter()
    if {each.result for each in outcomes} != {"counted"}:
        raise AssertionError
    return ended - read, ended - started


def _timed_copy(events: list[dict[str, object]]) -> float:
    """Return the seconds of one COPY of the rows that counting the events would write."""
    from django.db import connection, transaction  # noqa: PLC0415 - as above

    from metering.models import Meter  # noqa: PLC0415 - as above

    meter_id, now = Meter.objects.get().pk, datetime.now(UTC).isoformat()
    lines = io.StringIO()
    for position, each in enumerate(sorted(events, key=lambda each: (each["subject"], each["id"]))):
        number = int(str(each["subject"])[1:])
        data: dict[str, object] = each["data"]  # type: ignore[assignment] # made above
        lines.write(
            f"{UUID(int=number + 1)}\t/bench\t{each['id']}\t0\tbench.used\t{each['time']}\t{now}"
            f'\t{position}\t{meter_id}\t{data["n"]}\t\\N\t{{"region": "eu"}}\n'
        )
    text = lines.getvalue().encode()
    connection.ensure_connection()
    started = time.perf_counter()
    with transaction.atomic(), connection.cursor() as cursor, cursor.copy(COPY) as copy:
        copy.write(text)
    return time.perf_counter() - started
