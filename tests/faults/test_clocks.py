"""R9: hosts whose clocks are a day wrong or jump, and a wait over a period's end."""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.faults.harness import ROOT, SECONDS_MAX, Engine
from tests.faults.load import report, together

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(SECONDS_MAX)]
SHIFTED = f"{Path(__file__).parent / 'shifted'}{os.pathsep}{ROOT}"
LIBRARIES = sorted(map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")))
SECONDS_BEFORE = 2.5
ENTRIES = (
    "SELECT e.consumed_at, e.period_starts_at, b.period_starts_at, b.period_ends_at, e.key"
    " FROM metering_usageentry e JOIN metering_balance b ON b.id = e.balance_id"
    " JOIN core_customer c ON c.id = e.customer_id"
    " WHERE c.external_key = %s ORDER BY e.consumed_at"
)


@pytest.fixture(scope="module")
def wrong(postgres):
    """Serve with a clock that jumps between 25 hours ahead and 25 hours behind."""
    made = Engine(
        database_url=postgres.url,
        credential=postgres.credential,
        PYTHONPATH=SHIFTED,
        CLOCK_SHIFT_HOURS="25",
        CLOCK_JUMPS="1",
    ).serve(workers=1)
    yield made
    made.stop()


@pytest.fixture
def faked(postgres):
    """Serve from two hosts whose C library tells a day and an hour more, and less."""
    if not LIBRARIES:
        pytest.skip("no libfaketime here (Debian: apt install faketime)")
    made = [
        Engine(database_url=postgres.url, credential=postgres.credential, **faking(shift))
        for shift in ("+25h", "-25h")
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda each: each.serve(workers=1), made))
    yield made
    for each in made:
        each.stop()


def faking(shift: str) -> dict[str, str]:
    """Return the environment in which every clock but the monotonic one is shifted."""
    return {
        "LD_PRELOAD": LIBRARIES[0],
        "FAKETIME": shift,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def before_a_minute(engine) -> str:
    """Return a customer whose first minute ends shortly."""
    customer = engine.new_customer()
    with psycopg.connect(engine.database_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE core_customer SET created_at = clock_timestamp() - %s * interval '1 second'"
            " WHERE external_key = %s",
            [60 - SECONDS_BEFORE, customer],
        )
    return customer


def entries_of(engine, customer):
    with psycopg.connect(engine.database_url) as connection:
        return connection.execute(ENTRIES, [customer]).fetchall()


def database_now(engine):
    with psycopg.connect(engine.database_url) as connection:
        return connection.execute("SELECT clock_timestamp()").fetchone()[0]


def counted_once(entries, *, began, ended) -> int:
    """Hold each use to one period of the database's clock; return how many periods there are."""
    assert all(began <= consumed_at <= ended for consumed_at, *_ in entries)
    assert all(first <= at < end and first == own for at, own, first, end, _ in entries)
    periods = {own for _, own, *_ in entries}
    assert len(periods) == 2
    return len(periods)


class TestClocks:
    def test_that_are_wrong_or_jump_count_each_use_in_exactly_one_period(self, engine, wrong):
        customer, began = before_a_minute(engine), database_now(engine)
        until = time.monotonic() + 2 * SECONDS_BEFORE

        def use(number):
            host, told = (engine, wrong)[number % 2], 0
            while time.monotonic() < until:
                key = f"{customer}-{number}-{told}"
                status, _ = host.consume(key, customer=customer, feature="pings")
                assert status == 200
                told += 1
            return told

        told = sum(together([lambda number=number: use(number) for number in range(4)]))
        ended, entries = database_now(engine), entries_of(engine, customer)

        assert len(entries) == told
        periods = counted_once(entries, began=began, ended=ended)
        report("R9 clocks", uses=told, periods=periods, hosts="right; 25 h ahead and behind")

    def test_of_the_c_library_that_are_wrong_decide_nothing_either(self, engine, faked):
        customer, began = before_a_minute(engine), database_now(engine)
        until, told = time.monotonic() + 2 * SECONDS_BEFORE, 0
        while time.monotonic() < until:
            for host in faked:
                status, _ = host.consume(f"{customer}-{told}", customer=customer, feature="pings")
                assert status == 200
                told += 1
        ended, entries = database_now(engine), entries_of(engine, customer)

        assert len(entries) == told
        periods = counted_once(entries, began=began, ended=ended)
        report("R9 libfaketime", uses=told, periods=periods, hosts="25 h ahead, 25 h behind")

    @pytest.mark.skipif(not LIBRARIES, reason="no libfaketime here (Debian: apt install faketime)")
    @pytest.mark.parametrize(("shift", "hours"), [("+25h", 25), ("-25h", -25)])
    def test_control_the_c_library_lies_indeed(self, shift, hours):
        done = subprocess.run(
            [sys.executable, "-S", "-c", "import time; print(time.time())"],
            env=os.environ | faking(shift),
            check=True,
            capture_output=True,
            text=True,
        )
        assert float(done.stdout) - time.time() == pytest.approx(hours * 3600, abs=60)

    def test_control_the_host_is_wrong_indeed(self, wrong):
        found = wrong.manage("doctor", CLOCK_JUMPS="")
        assert re.search(r"this host and the database differ by (89|90)\d{3}", found)

    def test_a_wait_over_a_periods_end_counts_in_the_new_one(self, engine):
        customer = before_a_minute(engine)
        assert engine.consume(f"{customer}-open", customer=customer, feature="pings")[0] == 200
        ends_at = entries_of(engine, customer)[0][3]
        time.sleep(max(0.0, (ends_at - database_now(engine)).total_seconds() - 0.5))

        def hold():
            with psycopg.connect(engine.database_url) as connection:
                connection.execute(
                    "SELECT b.id FROM metering_balance b JOIN core_customer c"
                    " ON c.id = b.customer_id WHERE c.external_key = %s FOR UPDATE OF b, c",
                    [customer],
                )
                time.sleep(1)

        def wait():
            time.sleep(0.2)
            asked_at = database_now(engine)
            status, _ = engine.consume(f"{customer}-late", customer=customer, feature="pings")
            return status, asked_at

        _, (status, asked_at) = together([hold, wait])
        consumed_at, own, first, end, key = entries_of(engine, customer)[-1]

        assert (status, key) == (200, f"{customer}-late")
        assert asked_at < ends_at <= consumed_at < end
        assert own == first == ends_at
        report("R9 wait", asked_at=asked_at, counted_at=consumed_at, period_from=own)
