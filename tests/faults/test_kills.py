"""R3, R4: killed processes, backends and servers lose nothing and count nothing twice."""

import signal
import subprocess
import sys
import time

import psycopg
import pytest

from tests.faults.harness import SECONDS_MAX, Engine, Postgres, figure
from tests.faults.load import Load, report, verify

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(SECONDS_MAX)]
CRASH_POINTS = ("before_the_key", "after_the_update", "before_commit", "after_commit")
CRASHES, KILLS = figure(short=3, long=100), figure(short=1, long=20)
WARM_SECONDS = 0.5
CRASHER = """
import os, signal, sys
from core import clock as clocks, db
from core.models import Customer
from core.services.idempotency import KeyedRequest
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from metering.services import consumption

point, keys = sys.argv_point, sys.argv_keys
customer = Customer.objects.get(external_key=sys.argv_customer)

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def dying(function, *, before):
    def run(*args, **kwargs):
        if before:
            die()
        answer = function(*args, **kwargs)
        die()
        return answer
    return run

def at_statement(words, *, before):
    execute, deadly = CursorWrapper._execute, dying(CursorWrapper._execute, before=before)

    def run(self, sql, *parameters):
        is_it = words in sql.replace('"', "")
        return (deadly if is_it else execute)(self, sql, *parameters)

    return run

def consume(key):
    request = consumption.Request(
        customer_id=customer.pk,
        wanted=[consumption.Wanted(feature_key="api_calls", units=1)],
        keyed=KeyedRequest(key=key, fingerprint="f"),
    )
    return consumption.consume(request, clock=clocks.process_clock())

consume("warm-" + point)
connections.close_all()
connection.close_pool()
deaths = 0
for key in keys:
    child = os.fork()
    if child == 0:
        if point == "before_the_key":
            CursorWrapper._execute = at_statement("INSERT INTO metering_usageentry", before=True)
        elif point == "after_the_update":
            CursorWrapper._execute = at_statement("UPDATE metering_balance", before=False)
        else:
            before = point == "before_commit"
            BaseDatabaseWrapper._commit = dying(BaseDatabaseWrapper._commit, before=before)
        consume(key)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    deaths += os.WIFSIGNALED(status)
for key in keys:
    first = consume(key)
    again = consume(key)
    entries = {each.pk for each in [*first.entries, *again.entries]}
    print("outcome", first.replayed, again.replayed, len(entries))
print("deaths", deaths)
"""
CLAIMER = """
import os, signal, sys
import psycopg

with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    claim = "INSERT INTO claim VALUES ('one') ON CONFLICT DO NOTHING"
    if connection.execute(claim).rowcount:
        if "dies" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)
        connection.execute("UPDATE counter SET used = used + 1")
"""


class TestCrashPoints:
    """R3: a process that dies at the worst instant."""

    @pytest.mark.parametrize("point", CRASH_POINTS)
    def test_leave_one_effect_after_the_retry(self, engine, postgres, point):
        keys = [f"{point}-{number}" for number in range(CRASHES)]
        customer = engine.new_customer()
        given = (
            f"sys.argv_point, sys.argv_keys, sys.argv_customer = {point!r}, {keys!r}, {customer!r}"
        )
        code = f"import sys; {given}\n{CRASHER}"
        printed = engine.manage("shell", "--verbosity", "0", "-c", code)
        assert f"deaths {CRASHES}" in printed
        outcomes = [line.split()[1:] for line in printed.splitlines() if "outcome" in line]
        survived = str(point == "after_commit")
        assert outcomes == [[survived, "True", "1"]] * CRASHES
        load = Load(engine, customer=customer)
        load.outcomes = dict.fromkeys([*keys, f"warm-{point}"], (200, None))
        figures = verify(load, postgres.url)
        report(f"R3 crash {point}", kills=CRASHES, **figures)

    def test_control_a_claim_before_the_write_loses_the_unit(self, postgres):
        """Two commits instead of one: who dies between them has a key without an effect."""
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE claim (key text PRIMARY KEY)")
            connection.execute("CREATE TABLE counter AS SELECT 0 AS used")
            died = subprocess.run(
                [sys.executable, "-c", CLAIMER, postgres.url, "dies"], check=False
            )
            retried = subprocess.run([sys.executable, "-c", CLAIMER, postgres.url], check=False)
            counted = connection.execute("SELECT used, (SELECT count(*) FROM claim) FROM counter")
            assert (died.returncode, retried.returncode) == (-signal.SIGKILL, 0)
            assert counted.fetchone() == (0, 1)
            connection.execute("DROP TABLE claim, counter")


class TestDatabase:
    """R4: a killed backend, a killed server, crash recovery."""

    def test_killed_loses_nothing(self, seed):
        with Postgres(seed=seed) as postgres:
            engine = Engine(database_url=postgres.url, credential=seed.credential).serve()
            backends = servers_killed = 0
            try:
                with Load(engine) as load:
                    for _ in range(KILLS):
                        time.sleep(WARM_SECONDS)
                        backends += postgres.kill_backends()
                        engine.await_ready()
                        time.sleep(WARM_SECONDS)
                        postgres.kill()
                        postgres.restart()
                        servers_killed += 1
                        engine.await_ready()
                    time.sleep(WARM_SECONDS)
                settled = load.settle()
                figures = verify(load, postgres.url)
            finally:
                engine.stop()
        report(
            "R4 database",
            backends_killed=backends,
            servers_killed=servers_killed,
            attempts=load.attempts,
            settled_s=f"{settled:.1f}",
            **figures,
        )

    def test_control_without_synchronous_commit_acknowledged_units_are_lost(self, seed):
        slack = ("synchronous_commit=off", "wal_writer_delay=10000", "checkpoint_timeout=3600")
        with Postgres(*slack, seed=seed) as postgres:
            engine = Engine(database_url=postgres.url, credential=seed.credential).serve()
            try:
                with Load(engine) as load:
                    time.sleep(2 * WARM_SECONDS)
                    postgres.kill()
                postgres.restart()
                with pytest.raises(AssertionError, match="are lost"):
                    verify(load, postgres.url)
            finally:
                engine.stop()
