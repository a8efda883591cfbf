"""Run an engine of one's own, load it over HTTP, break it, and hold it to its promises.

Everything listens on 127.0.0.1, is bounded, and is stopped by its process id. FAULT_SCALE
multiplies the short figures; `make torture` sets it.
"""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg

from core.testing import servers

ROOT = Path(__file__).resolve().parents[2]
SCALE = int(os.environ.get("FAULT_SCALE", "1"))
LIMIT = 1_000_000
DEFINITIVE_SECONDS_MAX = 30.0
REQUEST_SECONDS_MAX = 6.0
REPLAYS_MAX = 200
SETUP = f"""
from core import clock as clocks
from core.services import service_keys
from tests import factories
now = clocks.DatabaseClock().now()
factories.make_plan("free", at=now, limits={{"api_calls": {LIMIT}, "few": 40}})
for name in ("acme", "workers", "pool"):
    factories.make_customer(at=now, name=name)
print("credential", factories.make_service_key().credential)
"""


class Postgres(servers.PostgresServer):
    """A PostgreSQL that can be killed, and started again on its data."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._options = options
        self._command: Sequence[str] = ()

    def _launch(self, command: Sequence[str], *, is_ready: Callable[[], bool]) -> None:
        self._command = [*command, *(part for each in self._options for part in ("-c", each))]
        super()._launch(self._command, is_ready=is_ready)

    def kill(self) -> None:
        """Kill the postmaster by SIGKILL and await the end of its children."""
        os.kill(self.process_id, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()

    def restart(self) -> None:
        """Start again on the same data; crash recovery runs."""
        deadline = time.monotonic() + 30
        while True:
            try:
                super()._launch(self._command, is_ready=self._answers)
            except RuntimeError:  # children of the killed postmaster are still there
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def kill_backends(self) -> int:
        """Kill one working backend by SIGKILL: the server ends all sessions and recovers."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND pid <> pg_backend_pid() LIMIT 1"
            ).fetchone()
        if row is None:
            return 0
        os.kill(row[0], signal.SIGKILL)
        return 1


class Engine:
    """An engine under test: its database, its web server, and a backend's credential."""

    def __init__(self, *, database_url: str, **environment: str) -> None:
        self.port = servers.free_port()
        self.environment = os.environ | {
            "DEBUG": "1",
            "LOG_JSON": "0",
            "DATABASE_URL": database_url,
            "REDIS_URL": "",
            "LOCK_TIMEOUT_MS": "2000",
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self.credential = ""
        self._workers = 1
        self._server: subprocess.Popen[bytes] | None = None

    def manage(self, *words: str, **environment: str) -> str:
        """Run a management command and return what it prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self.environment | environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def set_up(self) -> "Engine":
        """Migrate, and make a plan, a customer and a backend's key."""
        self.manage("migrate", "--verbosity", "0")
        printed = self.manage("shell", "--verbosity", "0", "-c", SETUP)
        self.credential = printed.split("credential ")[1].strip()
        return self

    def serve(self, *, workers: int = 2) -> "Engine":
        """Start the web server and await it."""
        self._workers = workers
        self._start()
        self.await_ready()
        return self

    def _start(self) -> None:
        command = [sys.executable, "manage.py", "serve", "--port", str(self.port)]
        command += ["--workers", str(self._workers), "--threads", "8"]
        self._server = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def await_ready(self, seconds: float = 60) -> None:
        """Return once /readyz answers 200; a server that gave up is started, as a supervisor does.

        :raises TimeoutError: where it does not answer in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._server is not None and self._server.poll() is not None:
                self._start()
            status, _, _ = self.ask("GET", "/readyz")
            if status == 200:
                return
            time.sleep(0.2)
        raise TimeoutError

    def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, body and headers of one request; status 0 where none came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {
            "Authorization": f"Api-Key {self.credential}",
            "Content-Type": "application/json",
        } | headers
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, sent)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content or b"null"), dict(answer.getheaders())
        except (OSError, http.client.HTTPException, ValueError):
            return 0, None, {}
        finally:
            connection.close()

    def consume(
        self, key: str, *, customer: str = "acme", feature: str = "api_calls"
    ) -> tuple[int, Any]:
        """Return status and body of consuming a unit under the key."""
        body = {"customer": customer, "feature": feature, "units": 1}
        status, answer, _ = self.ask(
            "POST", "/api/usage/consume/", body, **{"Idempotency-Key": key}
        )
        return status, answer

    def stop(self) -> None:
        """Stop the web server by its process group."""
        if self._server is not None and self._server.poll() is None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()


@dataclass
class Load:
    """Consume from several threads, repeat some keys, and note every outcome."""

    engine: Engine
    threads: int = 6
    feature: str = "api_calls"
    customer: str = "acme"
    outcomes: dict[str, tuple[int, Any]] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._workers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._workers = [
            threading.Thread(target=self._work, args=(number,)) for number in range(self.threads)
        ]
        for each in self._workers:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for each in self._workers:
            each.join()

    @property
    def attempts(self) -> int:
        """Return the number of requests made."""
        return self.statuses.total()

    def settle(self) -> float:
        """Send what is unknown until it is definitive, and return the seconds that took.

        Then some of what is known is sent again: it must answer as it did.
        """
        started = time.monotonic()
        for key in sorted(self.unknown):
            while not self.send(key):
                if time.monotonic() - started > DEFINITIVE_SECONDS_MAX:
                    self.violations.append(f"{key} is not definitive")
                    return DEFINITIVE_SECONDS_MAX
                time.sleep(0.1)
        settled = time.monotonic() - started
        for key in list(self.outcomes)[:REPLAYS_MAX]:
            self.send(key)
        return settled

    def send(self, key: str) -> bool:
        """Send the key once, and tell whether its outcome is definitive."""
        started = time.monotonic()
        status, body = self.engine.consume(key, customer=self.customer, feature=self.feature)
        seconds = time.monotonic() - started
        with self._lock:
            self.statuses[status] += 1
            self.slowest = max(self.slowest, seconds)
            return self._note(key, status, body)

    def _note(self, key: str, status: int, body: Any) -> bool:
        if status in {0, 503}:
            self.unknown.add(key)
            return False
        if status == 403 and isinstance(body, dict):
            body = {name: body[name] for name in body if name != "request_id"}
        if status not in {200, 403}:
            self.violations.append(f"{key}: {status} {body}")
        before = self.outcomes.setdefault(key, (status, body))
        if before != (status, body):
            self.violations.append(f"{key}: first {before}, then {(status, body)}")
        self.unknown.discard(key)
        return True

    def _work(self, number: int) -> None:
        chance = random.Random(number)
        mine: list[str] = []
        while not self._stopping.is_set():
            if mine and chance.random() < 0.3:
                key = chance.choice(mine)
            else:
                key = uuid.uuid4().hex
                mine.append(key)
            self.send(key)


def verify(load: Load, url: str, *, limit: int = LIMIT) -> dict[str, int]:
    """Hold the database to what was acknowledged; return the figures.

    Everything granted is in the ledger once, the counter equals its recount, and neither is over.
    """
    granted = {key for key, (status, _) in load.outcomes.items() if status == 200}
    with psycopg.connect(url) as connection:
        counted = dict(
            connection.execute(
                "SELECT e.key, count(*) FROM metering_usageentry e"
                " JOIN core_customer c ON c.id = e.customer_id WHERE c.external_key = %s"
                " AND e.kind = 'consume' AND e.item = 0 GROUP BY e.key",
                (load.customer,),
            ).fetchall()
        )
        used, recounted = connection.execute(
            "SELECT (SELECT coalesce(sum(b.used_units), 0) FROM metering_balance b"
            " JOIN core_customer c ON c.id = b.customer_id"
            " JOIN subscriptions_feature f ON f.id = b.feature_id"
            " WHERE f.key = %(feature)s AND c.external_key = %(customer)s),"
            " (SELECT coalesce(sum(e.units), 0) FROM metering_usageentry e"
            " JOIN core_customer c ON c.id = e.customer_id"
            " JOIN subscriptions_feature f ON f.id = e.feature_id"
            " WHERE f.key = %(feature)s AND c.external_key = %(customer)s AND e.kind = 'consume')",
            {"feature": load.feature, "customer": load.customer},
        ).fetchone() or (0, 0)
    lost = granted - counted.keys()
    twice = [key for key, number in counted.items() if number != 1]
    assert load.violations == []
    assert not lost, f"{len(lost)} acknowledged units are lost"
    assert not twice
    assert used == recounted <= limit
    assert counted.keys() <= granted | load.unknown
    return {"granted": len(granted), "used": int(used), "unknown": len(load.unknown)}


def report(name: str, **figures: object) -> None:
    """Print one line of figures."""
    text = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in figures.items())
    sys.stdout.write(f"{name}: {text}\n")
