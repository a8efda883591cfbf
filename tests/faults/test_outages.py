"""R5, R6, R8: without Redis, over a bad network, on a full disk: closed, never wrong."""

import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import redis

from core.testing import servers
from tests.faults.harness import SECONDS_MAX, Engine, Postgres, figure
from tests.faults.load import REQUEST_SECONDS_MAX, Load, report, verify
from tests.faults.proxy import Proxy

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(SECONDS_MAX)]
REDIS, NETWORK, DISK = (figure(short=1, long=each) for each in (20, 25, 20))
EPISODE_SECONDS = 0.4
REDIS_PAUSE_SECONDS = figure(short=1.5, long=5.0)
ADDED_SECONDS_MAX = 0.05
HANG_SECONDS = 2.5
BOUNDS = ("ANSWER_TIMEOUT_MS", "LOCK_TIMEOUT_MS", "STATEMENT_TIMEOUT_MS")
HOLD = {"feature": "tokens", "units": 1, "ttl_seconds": 60}


class TestRedis:
    """R5: what happens to Redis changes no decision."""

    def test_killed_flushed_paused_full_or_wrong_changes_no_decision(self, postgres):
        with servers.RedisServer() as cache:
            engine = Engine(
                database_url=postgres.url,
                credential=postgres.credential,
                REDIS_URL=cache.url,
                RATE_LIMIT_KEY="1000000/60",
            )
            engine.serve(workers=1)
            client = redis.Redis.from_url(cache.url, socket_timeout=2)
            pause_ms = str(int(REDIS_PAUSE_SECONDS * 1000))
            try:
                with Load(engine, customer=engine.new_customer()) as load:
                    time.sleep(REDIS * EPISODE_SECONDS)
                    calm = len(load.seconds)
                    for _ in range(REDIS):
                        client.flushall()
                        time.sleep(EPISODE_SECONDS)
                        client.execute_command("CLIENT", "PAUSE", pause_ms, "ALL")
                        time.sleep(REDIS_PAUSE_SECONDS + 0.1)
                        client.config_set("maxmemory", "1")
                        time.sleep(EPISODE_SECONDS)
                        client.config_set("maxmemory", "0")
                        for key in client.scan_iter():
                            client.set(key, b"\x80wrong")
                        time.sleep(EPISODE_SECONDS)
                    os.kill(cache.process_id, 9)
                    time.sleep(EPISODE_SECONDS)
                    added = mean(load.seconds[calm:]) - mean(load.seconds[:calm])
                load.settle()
                figures = verify(load, postgres.url)
            finally:
                engine.stop()
        assert load.statuses.keys() <= {200}
        assert added <= ADDED_SECONDS_MAX
        report(
            "R5 Redis",
            attempts=load.attempts,
            added_ms=f"{added * 1000:.1f}",
            slowest_s=f"{load.slowest:.2f}",
            **figures,
        )

    def test_that_is_not_there_at_the_start_changes_none_either(self, postgres):
        engine = Engine(
            database_url=postgres.url,
            credential=postgres.credential,
            REDIS_URL=f"redis://127.0.0.1:{servers.free_port()}/0",
            RATE_LIMIT_KEY="1000000/60",
        )
        try:
            engine.serve(workers=1)
            with Load(engine, customer=engine.new_customer()) as load:
                time.sleep(EPISODE_SECONDS)
            load.settle()
            figures = verify(load, postgres.url)
        finally:
            engine.stop()
        assert load.statuses.keys() == {200}
        report("R5 Redis, never there", attempts=load.attempts, **figures)


class TestNetwork:
    """R6: the way to the database is cut, hangs, drops replies, is slow."""

    def test_that_is_bad_ends_every_request_and_loses_nothing(self, postgres):
        proxy = Proxy(target_port=postgres.port)
        straight = postgres.url
        crooked = straight.replace(f":{postgres.port}/", f":{proxy.port}/")
        engine = Engine(database_url=crooked, credential=postgres.credential)
        engine.serve(workers=1)
        episodes = 0
        try:
            with Load(engine, customer=engine.new_customer()) as load:
                for _ in range(NETWORK):
                    for mode in ("cut", "slow", "drop_replies", "hang"):
                        time.sleep(EPISODE_SECONDS)
                        proxy.set_mode(mode)
                        time.sleep(EPISODE_SECONDS)
                        proxy.set_mode("cut")
                        proxy.set_mode("open")
                        episodes += 1
                time.sleep(EPISODE_SECONDS)
            engine.await_ready()
            settled = load.settle()
            figures = verify(load, straight)
        finally:
            engine.stop()
            proxy.close()
        assert load.slowest <= REQUEST_SECONDS_MAX
        report(
            "R6 network",
            episodes=episodes,
            attempts=load.attempts,
            slowest_s=f"{load.slowest:.2f}",
            settled_s=f"{settled:.1f}",
            **figures,
        )

    @pytest.mark.parametrize("bound_ms", [1000, 0])
    def test_that_hangs_is_given_up_within_the_bound_and_without_it_is_not(
        self, postgres, bound_ms
    ):
        proxy = Proxy(target_port=postgres.port)
        engine = Engine(
            database_url=postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/"),
            credential=postgres.credential,
            ANSWER_TIMEOUT_MS=str(bound_ms),
            LOCK_TIMEOUT_MS="1000" if bound_ms else "9000",
        ).serve(workers=1)
        try:
            load = Load(engine, customer=engine.new_customer())
            keys = [f"hang-{bound_ms}-{number}" for number in range(4)]
            proxy.set_mode("hang")
            with ThreadPoolExecutor(len(keys)) as pool:
                sending = [pool.submit(load.send, key) for key in keys]
                ended, hanging = wait(sending, timeout=HANG_SECONDS)
                proxy.set_mode("cut")
                proxy.set_mode("open")
            engine.await_ready()
            settled = load.settle()
            figures = verify(load, postgres.url)
        finally:
            engine.stop()
            proxy.close()
        assert (len(ended), len(hanging)) == ((4, 0) if bound_ms else (0, 4))
        assert figures["used"] == len(keys)
        report(
            f"R6 hang, bound {bound_ms} ms",
            ended=len(ended),
            hanging=len(hanging),
            slowest_s=f"{load.slowest:.2f}",
            settled_s=f"{settled:.1f}",
        )

    def test_that_hangs_ends_every_request_in_time_with_the_settings_as_they_come(self, postgres):
        proxy = Proxy(target_port=postgres.port)
        engine = Engine(
            database_url=postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/"),
            credential=postgres.credential,
        )
        for name in BOUNDS:
            engine.environment.pop(name, None)
        engine.serve(workers=1, threads=16)
        try:
            customer = engine.new_customer()
            asked = _asked(engine, customer)
            for ask in asked:
                assert ask()[0] in {200, 201}
            proxy.set_mode("hang")
            # at first on connections that stand, then on those that are to be made anew
            with ThreadPoolExecutor(2 * len(asked)) as pool:
                sent = []
                for _ in range(2):
                    sent += [pool.submit(_timed, ask) for ask in asked]
                    time.sleep(HANG_SECONDS)
                answers = [each.result() for each in sent]
            proxy.set_mode("cut")
            proxy.set_mode("open")
            engine.await_ready()
            assert engine.consume("after", customer=customer)[1]["used"] == 2
        finally:
            engine.stop()
            proxy.close()
        slowest = max(seconds for _, _, seconds in answers)
        report("R6 hang, default bounds", requests=len(answers), slowest_s=f"{slowest:.2f}")
        assert {(status, code) for status, code, _ in answers} <= {
            (503, "unavailable"),
            (503, "lock_timeout"),
        }
        assert slowest <= REQUEST_SECONDS_MAX


def _asked(engine: Engine, customer: str) -> list[Callable[[], tuple[int, Any]]]:
    """Return requests of several kinds: a group's, one of a single transaction, and a read."""
    path = f"/api/entitlements/?customer={customer}"
    return [
        lambda: engine.consume(secrets.token_hex(8), customer=customer),
        lambda: engine.post("usage/holds/", {**HOLD, "customer": customer}),
        lambda: engine.ask("GET", path)[:2],
    ]


def _timed(ask: Callable[[], tuple[int, Any]]) -> tuple[int, str, float]:
    """Return status, problem code and seconds of a request."""
    began = time.monotonic()
    status, body = ask()
    return status, (body or {}).get("code", ""), time.monotonic() - began


@pytest.fixture
def small_disk():
    """Mount 160 MB where root may; skip elsewhere."""
    folder = Path(tempfile.mkdtemp(prefix="engine-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=160m,mode=0777", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


class TestDisk:
    """R8: no space is left under PostgreSQL."""

    def test_that_is_full_refuses_and_loses_nothing(self, seed, small_disk, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
        slack = ("wal_keep_size=0", "max_wal_size=32MB", "min_wal_size=32MB")
        with Postgres(*slack, seed=seed) as postgres:
            engine = Engine(database_url=postgres.url, credential=seed.credential)
            engine.serve(workers=1)
            ballast, episodes = small_disk / "ballast", 0
            try:
                with Load(engine) as load:
                    for _ in range(DISK):
                        time.sleep(EPISODE_SECONDS)
                        _fill(ballast)
                        time.sleep(2)
                        ballast.unlink()
                        episodes += 1
                        _await_or_restart(engine, postgres)
                    time.sleep(EPISODE_SECONDS)
                load.settle()
                figures = verify(load, postgres.url)
            finally:
                engine.stop()
        report("R8 disk", episodes=episodes, statuses=dict(load.statuses), **figures)


def _fill(ballast: Path) -> None:
    """Write until nothing more fits."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 65_536)
        except OSError:
            return


def _await_or_restart(engine: Engine, postgres: Postgres) -> None:
    """Let the database come back: PostgreSQL stops where its log cannot be written."""
    try:
        engine.await_ready(5)
    except TimeoutError:
        postgres.kill()
        postgres.restart()
        engine.await_ready()
