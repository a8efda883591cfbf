"""P10: book (with its hold of units) and cancel, beside pgbench with the same statements.

`python -m benchmarks bookings` starts a PostgreSQL of its own. The statements of one booking and
one cancellation are recorded as the engine sends them and turned into a pgbench script: the same
text, the same transactions, other ids. Both run in turns on the same server. At the end every
booking is cancelled, nothing is held, nothing overlaps, and no deadlock was counted.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import django

HOURS_EACH = 30
HOUR = timedelta(hours=1)
MINUTES_MONTHLY = 10_000_000
BALANCE_ID_FIRST, RESOURCE_ID_FIRST = 1_000_001, 2_000_001
CLIENT = (
    "SELECT customer::text, balance::text,"
    " (first_at + :slot * interval '1 hour')::text AS start_at,"
    " (first_at + (:slot + 1) * interval '1 hour')::text AS end_at"
    " FROM bench_client WHERE client = :client_id"
)


def main(arguments: list[str]) -> int:
    """Run the rounds and return 0 where all is exact and no deadlock was counted."""
    options = _options(arguments)
    os.environ |= {"DEBUG": "1", "DATABASE_POOL_MAX": str(options.threads + 4)}
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "subscriptionEngine.settings")
    from core.testing.servers import PostgresServer  # noqa: PLC0415 - settings come first

    with PostgresServer() as server, tempfile.TemporaryDirectory(prefix="engine-") as folder:
        os.environ["DATABASE_URL"] = server.url
        django.setup()
        from django.conf import settings  # noqa: PLC0415 - needs the environment

        settings.DEBUG = False  # else every statement is written twice and kept
        club = Club.make(threads=options.threads, resources=options.resources)
        script = Path(folder) / "bookings.sql"
        script.write_text(Recorder(club=club).script())
        _warm(club)
        rounds = [
            (_engine(club, seconds=options.seconds), _pgbench(script, server.url, options, folder))
            for _ in range(options.rounds)
        ]
        return _report(club, rounds, options)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks bookings", description=__doc__)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--resources", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=8.0, help="of one turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each, interleaved")
    return parser.parse_args(arguments)


@dataclass(kw_only=True)
class Turn:
    """How long each pair of booking and cancelling took, in seconds, in one turn."""

    seconds: float
    taken: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Return pairs a second."""
        return len(self.taken) / self.seconds

    @property
    def p99_ms(self) -> float:
        """Return the time that 99 of 100 pairs did not exceed, in milliseconds."""
        return sorted(self.taken)[int(len(self.taken) * 0.99)] * 1000


@dataclass(frozen=True, kw_only=True)
class Club:
    """Resources shared by as many customers as threads, each with hours of his own."""

    customer_ids: list[UUID]
    resource_keys: list[str]
    first: datetime
    deadlocks_before: int

    @classmethod
    def make(cls, *, threads: int, resources: int) -> "Club":
        """Migrate, and make plan, venue, resources and customers."""
        from django.core.management import call_command  # noqa: PLC0415 - needs the settings

        call_command("migrate", verbosity=0)
        _number_from(table="metering_balance", first=BALANCE_ID_FIRST)
        _number_from(table="resources_resource", first=RESOURCE_ID_FIRST)
        from core import clock  # noqa: PLC0415 - as above
        from core.models import Customer  # noqa: PLC0415 - as above
        from resources import models  # noqa: PLC0415 - as above

        at = clock.process_clock().now()
        type_ = _sell(at=at)
        venue = models.Venue.objects.create(key="club", name="Club", time_zone="UTC")
        for weekday in range(7):
            models.OpeningRule.objects.create(
                venue=venue, weekday=weekday, opens_at="00:00", closes_at="00:00"
            )
        keys = [f"court-{number + 1}" for number in range(resources)]
        for key in keys:
            models.Resource.objects.create(venue=venue, type=type_, key=key, name=key)
        customers = [
            Customer.objects.create(external_key=f"c{number}", name="-", created_at=at)
            for number in range(threads)
        ]
        midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(
            customer_ids=[each.pk for each in customers],
            resource_keys=keys,
            first=midnight + timedelta(days=2),
            deadlocks_before=deadlocks(),
        )

    def start(self, thread: int, number: int) -> datetime:
        """Return one of the thread's own hours: slots never collide, rows of resources do."""
        return self.first + timedelta(hours=thread * HOURS_EACH + number % HOURS_EACH)


def _number_from(*, table: str, first: int) -> None:
    """Let the table's ids begin so high that no other number is mistaken for one."""
    from django.db import connection  # noqa: PLC0415 - needs the settings

    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} ALTER COLUMN id RESTART WITH {first}")


def _sell(*, at: datetime):  # noqa: ANN202 - its module needs the settings
    """Publish the default plan with court minutes and return the type that takes them."""
    from core import clock  # noqa: PLC0415 - needs the settings
    from resources import models  # noqa: PLC0415 - as above
    from subscriptions.models import (  # noqa: PLC0415 - as above
        Entitlement,
        Feature,
        Plan,
        PlanGroup,
        PlanVersion,
        Price,
    )
    from subscriptions.services import catalog  # noqa: PLC0415 - as above

    group = PlanGroup.objects.create(key="main", name="Main")
    feature = Feature.objects.create(
        key="court_minutes", name="-", type="metered", plan_group=group, created_at=at
    )
    plan = Plan.objects.create(key="free", name="Free", plan_group=group, created_at=at)
    version = PlanVersion.objects.create(plan=plan, number=1, created_at=at)
    Price.objects.create(plan_version=version, key="free", currency="EUR", unit_amount_minor=0)
    Entitlement.objects.create(plan_version=version, feature=feature, limit_units=MINUTES_MONTHLY)
    catalog.publish(plan_version_id=version.pk, clock=clock.process_clock())
    type_ = models.ResourceType.objects.create(key="court", name="Court", feature=feature)
    models.BookingPolicy.objects.create(type=type_, days_ahead=365, free_cancel_minutes=0)
    return type_


def _pair(club: Club, thread: int, number: int, *, resource_key: str) -> None:
    """Book an hour and cancel it, as the API would."""
    from core import clock  # noqa: PLC0415 - needs the settings
    from core.actors import Actor  # noqa: PLC0415 - as above
    from core.services.idempotency import KeyedRequest  # noqa: PLC0415 - as above
    from resources.api import bodies  # noqa: PLC0415 - as above
    from resources.models import Booking  # noqa: PLC0415 - as above
    from resources.opening import Span  # noqa: PLC0415 - as above
    from resources.services import booking, ending, planning  # noqa: PLC0415 - as above

    start = club.start(thread, number)
    actor, key = Actor(name="bench"), f"{thread}-{number}-{time.monotonic_ns()}"
    order = planning.Order(
        customer_id=club.customer_ids[thread],
        span=Span(starts_at=start, ends_at=start + timedelta(hours=1)),
        wishes=[planning.Wish(resource_key=resource_key)],
        actor=actor,
    )
    booked = booking.book(
        order,
        keyed=KeyedRequest(key=f"b{key}", fingerprint="b"),
        render=bodies.recorded_booking,
        clock=clock.process_clock(),
    )
    ending.cancel(
        row=Booking.objects.get(pk=UUID(str(booked.body["id"]))),
        actor=actor,
        keyed=KeyedRequest(key=f"c{key}", fingerprint="c"),
        render=bodies.recorded_booking,
        clock=clock.process_clock(),
    )


def _warm(club: Club) -> None:
    """Open every customer's usage periods, so that both sides run on rows that stand."""
    for thread in range(len(club.customer_ids)):
        for number in range(0, HOURS_EACH, 10):
            _pair(club, thread, number, resource_key=club.resource_keys[0])


def _engine(club: Club, *, seconds: float) -> Turn:
    """Let every thread book and cancel for the time, and return what each pair took."""
    turn, lock = Turn(seconds=seconds), threading.Lock()
    until = time.monotonic() + seconds

    def work(thread: int) -> None:
        from django.db import connections  # noqa: PLC0415 - needs the settings

        chance, taken, number = random.Random(thread), [], 0
        while time.monotonic() < until:
            began = time.monotonic()
            _pair(club, thread, number, resource_key=chance.choice(club.resource_keys))
            taken.append(time.monotonic() - began)
            number += 1
        connections.close_all()
        with lock:
            turn.taken += taken

    threads = len(club.customer_ids)
    with ThreadPoolExecutor(threads) as pool:
        for each in [pool.submit(work, number) for number in range(threads)]:
            each.result()
    return turn


@dataclass(kw_only=True)
class Recorder:
    """Record the statements of one pair, and write them for pgbench with ids of its own."""

    club: Club
    statements: list[tuple[bool, str, list[object]]] = field(default_factory=list)
    fresh: dict[str, str] = field(default_factory=dict)

    def script(self) -> str:
        """Return the script; its first two statements find the client's rows and make ids."""
        from django.db import connection  # noqa: PLC0415 - needs the settings

        _pair(self.club, 0, 0, resource_key=self.club.resource_keys[0])
        with connection.execute_wrapper(self._note):
            _pair(self.club, 0, 1, resource_key=self.club.resource_keys[0])
        self._make_client_table()
        lines = self._written()
        ids = ", ".join(f"gen_random_uuid()::text AS {name}" for name in self.fresh.values())
        last = RESOURCE_ID_FIRST + len(self.club.resource_keys) - 1
        return "\n".join(
            [
                f"\\set slot random(0, {HOURS_EACH - 1})",
                f"\\set resource random({RESOURCE_ID_FIRST}, {last})",
                f"{CLIENT} \\gset",
                f"SELECT {ids} \\gset",
                *lines,
                "",
            ]
        )

    def _note(self, execute, sql, params, many, context):  # noqa: ANN001, ANN202 - Django's signature
        is_atomic = context["connection"].in_atomic_block
        self.statements.append((is_atomic, str(sql), list(params or ())))
        return execute(sql, params, many, context)

    def _written(self) -> list[str]:
        lines, is_open = [], False
        for is_atomic, sql, given in self.statements:
            if is_atomic != is_open:
                lines.append("BEGIN;" if is_atomic else "COMMIT;")
                is_open = is_atomic
            text = sql % tuple(self._written_value(each) for each in given) if given else sql
            lines.append(f"{' '.join(text.split())};")
        return lines + (["COMMIT;"] if is_open else [])

    def _written_value(self, value: object) -> str:  # noqa: PLR0911 - one line for each kind
        """Return the value as a literal, or the variable that stands for it."""
        from django.db import connection  # noqa: PLC0415 - needs the settings
        from psycopg import sql  # noqa: PLC0415 - as above

        start = self.club.start(0, 1)
        if value == self.club.customer_ids[0]:
            return ":customer::uuid"
        if isinstance(value, UUID):
            return f":{self._fresh(str(value))}::uuid"
        if isinstance(value, str) and value[:4] in {"b0-1", "c0-1"}:
            return f":{self._fresh(value)}"
        if isinstance(value, datetime) and value in {start, start + HOUR}:
            return f":{'start' if value == start else 'end'}_at::timestamptz"
        if type(value) is int and value >= RESOURCE_ID_FIRST:
            return ":resource::bigint"
        if type(value) is int and value >= BALANCE_ID_FIRST:
            return ":balance::bigint"
        connection.ensure_connection()
        return _without_colons(sql.Literal(value).as_string(connection.connection).strip())

    def _fresh(self, value: str) -> str:
        return self.fresh.setdefault(value, f"fresh{len(self.fresh)}")

    def _make_client_table(self) -> None:
        """Write which rows belong to which client of pgbench."""
        from django.db import connection  # noqa: PLC0415 - needs the settings

        _warm(self.club)
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE bench_client (client int PRIMARY KEY, customer uuid, balance bigint,"
                " first_at timestamptz)"
            )
            for number, customer_id in enumerate(self.club.customer_ids):
                cursor.execute(
                    "INSERT INTO bench_client SELECT %s, customer_id, id, %s"
                    " FROM metering_balance WHERE customer_id = %s AND is_current",
                    [number, self.club.start(number, 0), customer_id],
                )


def _without_colons(literal: str) -> str:
    """Return the literal with no colon within its quotes: pgbench takes each for a variable."""
    body, quote, cast = literal.rpartition("'")
    if ":" not in body:
        return literal
    if body.startswith("'"):
        body = "E" + body.replace("\\", "\\\\")
    return body.replace(":", "\\x3a") + quote + cast


def _pgbench(script: Path, url: str, options: argparse.Namespace, folder: str) -> Turn:
    """Run the script with as many clients as threads, and return what each run took."""
    program = shutil.which("pgbench") or str(servers_program("pgbench"))
    command = [program, "-n", "-M", "prepared", "-c", str(options.threads), "-j", "2"]
    command += ["-T", str(int(options.seconds)), "-f", str(script), "-l"]
    command += ["--log-prefix", f"{folder}/taken", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    turn = Turn(seconds=int(options.seconds))
    for log in Path(folder).glob("taken.*"):
        turn.taken += [int(line.split()[2]) / 1e6 for line in log.read_text().splitlines()]
        log.unlink()
    return turn


def servers_program(name: str) -> Path:
    """Return a program of the PostgreSQL that the tests bring along."""
    from core.testing import servers  # noqa: PLC0415 - settings come first

    return Path(servers.find_postgres_programs()) / name


def deadlocks() -> int:
    """Return how many deadlocks PostgreSQL has counted in this database."""
    from django.db import connection  # noqa: PLC0415 - needs the settings

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def _report(club: Club, rounds: list[tuple[Turn, Turn]], options: argparse.Namespace) -> int:
    """Print the table and return 0 where everything is exact."""
    print(f"\nP10: book + hold + cancel, {options.threads} threads, {options.resources} resources")
    print("| round | engine pairs/s | pgbench pairs/s | ratio | engine p99 | pgbench p99 | ratio |")
    print("|---|---|---|---|---|---|---|")
    for number, (ours, theirs) in enumerate(rounds, start=1):
        print(
            f"| {number} | {ours.rate:.0f} | {theirs.rate:.0f} | {ours.rate / theirs.rate:.2f} "
            f"| {ours.p99_ms:.0f} ms | {theirs.p99_ms:.0f} ms | {ours.p99_ms / theirs.p99_ms:.1f} |"
        )
    ratios = [ours.rate / theirs.rate for ours, theirs in rounds]
    counted = deadlocks() - club.deadlocks_before
    faults = _faults()
    print(
        f"median ratio {statistics.median(ratios):.2f} "
        f"(min {min(ratios):.2f}, max {max(ratios):.2f}); deadlocks {counted}; "
        f"{faults or 'exact'}; {os.cpu_count()} cores shared by all"
    )
    return 1 if faults or counted else 0


def _faults() -> str:
    """Return what the engine's rows do not explain; empty where all is exact."""
    from metering.models import Balance  # noqa: PLC0415 - needs the settings
    from resources.models import Allocation, Booking  # noqa: PLC0415 - as above

    if Booking.objects.open().exists() or Allocation.objects.filter(is_live=True).exists():
        return "a booking was left"
    if Balance.objects.exclude(held_units=0, used_units=0).exists():
        return "units were left"
    return ""


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
