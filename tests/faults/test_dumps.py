"""R17: what is dumped under load and restored is whole."""

import os
import subprocess
import time

import psycopg
import pytest

from core.testing import servers
from tests.faults.harness import IS_LONG, SECONDS_MAX, Engine, figure
from tests.faults.load import Load, report, verify

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(SECONDS_MAX)]
LEDGER = "metering_usageentry"
DUMPS = figure(short=1, long=20)
WARM_SECONDS = 0.7


def dump(url: str, *options: str) -> bytes:
    program = servers.find_postgres_programs() / "pg_dump"
    command = [program, "--no-sync", *options, url]
    return subprocess.run(command, check=True, capture_output=True).stdout


def restore(url: str, *dumps: bytes, stops: bool = True) -> str:
    """Make a database of the dumps, and return its address; the first error stops, unless told."""
    name = f"restored_{time.monotonic_ns()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    restored = url.rpartition("/")[0] + f"/{name}"
    program = servers.find_postgres_programs() / "psql"
    for each in dumps:
        subprocess.run(
            [program, "--quiet", "--set", f"ON_ERROR_STOP={int(stops)}", restored],
            input=each,
            check=True,
            capture_output=True,
            env=os.environ | {"PGOPTIONS": "-c synchronous_commit=off"},
        )
    return restored


class TestDump:
    def test_under_load_restores_whole(self, engine):
        for _ in range(DUMPS):
            with Load(engine, customer=engine.new_customer()) as load:
                time.sleep(WARM_SECONDS)
                acknowledged = {key for key, (status, _) in load.outcomes.items() if status == 200}
                dumped = dump(engine.database_url)
            load.settle()
            figures = verify(load, engine.database_url)
            restored = restore(engine.database_url, dumped)
            assert "clean" in Engine(database_url=restored).manage("audit")
            with psycopg.connect(restored) as connection:
                rows = connection.execute(f"SELECT key FROM {LEDGER}").fetchall()
            assert acknowledged <= {key for (key,) in rows}
        report("R17 dump", dumps=DUMPS, acknowledged_before=len(acknowledged), **figures)

    @pytest.mark.skipif(not IS_LONG, reason="long: make torture")
    def test_control_two_instants_do_not_fit_together(self, engine):
        with Load(engine, customer=engine.new_customer()) as load:
            time.sleep(WARM_SECONDS)
            counters = dump(engine.database_url, f"--exclude-table-data={LEDGER}")
            time.sleep(WARM_SECONDS)
            lines = dump(engine.database_url, "--data-only", f"--table={LEDGER}")
        load.settle()
        restored = restore(engine.database_url, counters, lines, stops=False)
        with pytest.raises(subprocess.CalledProcessError) as refused:
            Engine(database_url=restored).manage("audit")
        assert "used equals the ledger" in refused.value.stdout
