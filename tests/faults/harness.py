"""Run an engine of one's own, load it over HTTP, break it, and hold it to its promises.

Everything listens on 127.0.0.1, is bounded, and is stopped by its process id. FAULTS=long asks for
the long figures, as `make torture` does.
"""

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from core.testing import servers

ROOT = Path(__file__).resolve().parents[2]
IS_LONG = os.environ.get("FAULTS") == "long"
LIMIT = 1_000_000
FEW = 40
SETUP = f"""
from core import clock as clocks
from subscriptions.models import Entitlement
from subscriptions.services import catalog
from tests import club, factories
now = clocks.DatabaseClock().now()
limits = {{"api_calls": {LIMIT}, "tokens": {LIMIT}, "few": {FEW}, "court_minutes": {LIMIT}}}
by_minute = {{"limit_units": {LIMIT}, "reset_interval": "minute"}}
for rank, (key, price) in enumerate({{"free": 0, "basic": 0, "pro": 0, "gold": 2900}}.items()):
    plan = factories.make_plan(
        key, at=now, limits=limits, rank=rank, price_minor=price, publish=False
    )
    draft, pings = plan.versions.get(), factories.make_feature("pings", at=now)
    Entitlement.objects.create(plan_version=draft, feature=pings, **by_minute)
    catalog.publish(plan_version_id=draft.pk, clock=factories.standing(now))
factories.make_customer(at=now, name="acme")
venue = club.make_venue(time_zone="UTC")
for number in range(4):
    club.make_resource(f"court-{{number}}", venue=venue)
print("credential", factories.make_service_key().credential)
"""
PRODUCTION = {
    "DEBUG": "0",
    "SECRET_KEY": secrets.token_urlsafe(48),
    "JWT_SIGNING_KEY": secrets.token_urlsafe(48),
    "HTTPS_ONLY": "0",
}
_numbers = count(1)
Figure = TypeVar("Figure", int, float)


def figure(*, short: Figure, long: Figure) -> Figure:
    """Return how much the run at hand asks for."""
    return long if IS_LONG else short


SECONDS_MAX = figure(short=240, long=4800)


@dataclass(frozen=True, kw_only=True)
class Seed:
    """The data directory of a migrated database with plans, its password, a backend's key."""

    data: Path
    password: str
    credential: str

    @classmethod
    def made_in(cls, folder: Path) -> "Seed":
        """Return the folder's seed; the first call makes it."""
        data, facts = folder / "data", folder / "facts.json"
        if not facts.exists():
            folder.mkdir()
            with Postgres("fsync=off") as postgres:
                credential = Engine(database_url=postgres.url).set_up().credential
                postgres.shut_down()
                subprocess.run(["cp", "-a", postgres.directory / "data", data], check=True)
            facts.write_text(json.dumps({"password": postgres.password, "credential": credential}))
        return cls(data=data, **json.loads(facts.read_text()))


class Postgres(servers.PostgresServer):
    """A PostgreSQL that can be killed, and started again on its data; a copy of the seed's."""

    def __init__(self, *options: str, seed: Seed | None = None) -> None:
        super().__init__()
        self._options = options
        self._command: Sequence[str] = ()
        self._seed = seed
        self.credential = seed.credential if seed else ""
        self._password = self.password = seed.password if seed else self._password

    def _make_data(self, data: Path, *, programs: Path) -> None:
        if self._seed is None:
            super()._make_data(data, programs=programs)
        else:
            subprocess.run(["cp", "-a", self._seed.data, data], check=True)

    def _launch(self, command: Sequence[str], *, is_ready: Callable[[], bool]) -> None:
        self._command = [*command, *(part for each in self._options for part in ("-c", each))]
        super()._launch(self._command, is_ready=is_ready)

    def shut_down(self) -> None:
        """Stop in good order, and leave the data."""
        os.kill(self.process_id, signal.SIGINT)
        assert self._process is not None
        self._process.wait()

    def kill(self) -> None:
        """Kill the postmaster by SIGKILL and await the end of its children."""
        os.kill(self.process_id, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self._dismiss_guard()

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
    """An engine under test: its code, database and web server, and a backend's credential."""

    def __init__(
        self, *, database_url: str, credential: str = "", root: Path = ROOT, **environment: str
    ) -> None:
        self.root = root
        self.database_url = database_url
        self.port = servers.free_port()
        self.environment = os.environ | {
            "DEBUG": "1",
            "LOG_JSON": "0",
            "DATABASE_URL": database_url,
            "REDIS_URL": "",
            "LOCK_TIMEOUT_MS": "2000",
            "PYTHONPATH": str(root),
            **environment,
        }
        self.credential = credential
        self._workers = self._threads = 1
        self._server: subprocess.Popen[bytes] | None = None

    def manage(self, *words: str, **environment: str) -> str:
        """Run a management command and return what it prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=self.root,
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

    def serve(self, *, workers: int = 2, threads: int = 8) -> "Engine":
        """Start the web server and await it."""
        self._workers, self._threads = workers, threads
        self._start()
        self.await_ready()
        return self

    def _start(self) -> None:
        command = [sys.executable, "manage.py", "serve", "--port", str(self.port)]
        command += ["--workers", str(self._workers), "--threads", str(self._threads)]
        self._server = subprocess.Popen(
            command,
            cwd=self.root,
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

    def worker_ids(self) -> list[int]:
        """Return the process ids of the web server's workers that live."""
        assert self._server is not None
        server = self._server.pid
        try:
            return [
                int(each)
                for each in Path(f"/proc/{server}/task/{server}/children").read_text().split()
            ]
        except OSError:
            return []

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
        return self.post("usage/consume/", body, key=key)

    def post(self, path: str, body: object, *, key: str = "") -> tuple[int, Any]:
        """Return status and body of a mutation under the key, or under a new one."""
        named = {"Idempotency-Key": key or f"key-{next(_numbers)}"}
        status, answer, _ = self.ask("POST", f"/api/{path}", body, **named)
        return status, answer

    def new_customer(self) -> str:
        """Make a customer, and return its external key."""
        name = f"customer-{os.getpid()}-{next(_numbers)}"
        status, answer = self.post("customers/", {"external_key": name, "name": name})
        assert status == 201, answer
        return name

    def stop(self) -> None:
        """Stop the web server by its process group."""
        if self._server is not None and self._server.poll() is None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
