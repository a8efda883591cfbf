"""P4 … P7, P11: the API over HTTP, beside what answers a constant and what counts without keeping.

All are served by granian in one process with as many threads, and asked over kept connections, in
turns. P4: stock DRF with stateless JWT. P5: the engine's own stack around a constant. P6: `limits`
and DRF's throttle in Redis, whose counts a crash loses. P7: `subscriptions/me/`, and unchanged.
P11: the worker's memory. At the end grants = counter = ledger.
"""

import argparse
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import django

from benchmarks import _asking
from benchmarks._table import Figure, interleave, report

ROOT = Path(__file__).parent.parent
USERS = 200
CONNECTIONS = 64
SECONDS_TO_START = 60.0
KEYS = {
    "SECRET_KEY": "a-secret-key-for-the-benchmark-alone-0123456789-abcdefghijklm",
    "JWT_SIGNING_KEY": "a-signing-key-for-the-benchmark-alone-0123456789-ABCDEFGHIJ",
    "ACCESS_TOKEN_SECONDS": "86400",
    "HTTPS_ONLY": "0",
    "ALLOWED_HOSTS": "127.0.0.1",
}
BODY = b'{"feature":"bench_calls","units":1}'
Turn = Callable[[], float]


def main(arguments: list[str]) -> int:
    """Run the rounds, print the table, and return 0 where every count is exact."""
    parser = argparse.ArgumentParser(prog="benchmarks http", description=__doc__)
    parser.add_argument("--threads", type=int, default=32, help="of each server")
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args(arguments)
    rounds, seconds = (7, 10.0) if options.full else (3, 4.0)
    os.environ |= KEYS | {"DEBUG": "1"}
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "subscriptionEngine.settings")
    from core.testing.servers import PostgresServer, RedisServer  # noqa: PLC0415 - settings first

    with PostgresServer() as postgres, RedisServer() as redis, contextlib.ExitStack() as stack:
        os.environ |= {"DATABASE_URL": postgres.url, "BENCHMARK_REDIS_URL": redis.url}
        tokens = _prepare()
        serve = ["manage.py", "serve", "--threads", str(options.threads)]
        engine = stack.enter_context(_served(serve, DEBUG="0"))
        light = stack.enter_context(
            _served(serve, DEBUG="0", DJANGO_SETTINGS_MODULE="benchmarks._light")
        )
        granian = ["-m", "granian", "--interface", "wsgi", "--no-access-log"]
        granian += ["--blocking-threads", str(options.threads), "benchmarks._constant:application"]
        stock = stack.enter_context(_served(granian))
        asking = _Asking(tokens=tokens, seconds=seconds)
        asking.consumed(engine.port, count=1_000)
        before = engine.memory_kb()
        figures = interleave(
            [
                (
                    Figure(name=name, against=against, goal=goal),
                    ours,
                    theirs,
                )
                for name, against, goal, ours, theirs in asking.comparisons(
                    engine.port, light.port, stock.port
                )
            ],
            rounds=rounds,
        )
        notes = [f"{USERS} users, {CONNECTIONS} connections, {options.threads} threads a server"]
        more = 100_000 if options.full else 5_000
        asking.consumed(engine.port, count=more)
        after = engine.memory_kb()
        notes.append(
            f"P11 the engine's worker: {before / 1024:.0f} MB after 1,000 requests, "
            f"{after / 1024:.0f} MB after all rounds and {more:,} more "
            f"({after / before - 1:+.1%}); goal ≤ +5 %, ≤ 200 MB"
        )
        faults = _differences()
        notes.append("exact: grants = counter = ledger" if not faults else str(faults[:5]))
        report("http", figures, notes=notes)
        return 1 if faults else 0


class _Asking:
    """The requests, whoever answers them."""

    def __init__(self, *, tokens: dict[str, list[str]], seconds: float) -> None:
        self._tokens, self._seconds = tokens, seconds
        self._keys = itertools.count()

    def comparisons(
        self, engine: int, light: int, stock: int
    ) -> list[tuple[str, str, str, Turn, Turn]]:
        """Return name, comparator, goal, and the turns of both."""
        consume = "/api/usage/consume/"
        uniform, hot = (
            self._posts(engine, consume, "own"),
            self._posts(engine, consume, "own", users=1),
        )
        constant = self._posts(stock, "/stock/", "stock")
        read = self._gets(stock, "/stock/", "stock")
        me = "/api/subscriptions/me/"
        return [
            ("P4 consume, uniform", "constant, stock", "≥ 0.8", uniform, constant),
            ("P4 consume, hot", "constant, stock", "≥ 1.0", hot, constant),
            (
                "P5 consume",
                "constant, own stack",
                "≥ 0.45",
                uniform,
                self._posts(light, consume, "own"),
            ),
            (
                "P6 consume",
                "`limits` in Redis",
                "≥ 1.2",
                uniform,
                self._posts(stock, "/limited/", "stock"),
            ),
            (
                "P6 consume",
                "DRF's throttle in Redis",
                "≥ 2.2",
                uniform,
                self._posts(stock, "/throttled/", "stock"),
            ),
            ("P7 me", "constant, stock", "≥ 0.45", self._gets(engine, me, "own"), read),
            (
                "P7 me, unchanged",
                "constant, stock",
                "≥ 0.8",
                self._gets(engine, me, "own", is_known=True),
                read,
            ),
        ]

    def _posts(self, port: int, path: str, kind: str, *, users: int = USERS) -> Turn:
        heads = [
            _asking.post(path, body=BODY, headers={"Authorization": f"Bearer {token}"})
            for token in self._tokens[kind][:users]
        ]

        def request(number: int) -> bytes:
            key = next(self._keys)
            return heads[number % users] + b"key%d\r\n\r\n" % key + BODY

        return self._turn(port, request, b"200")

    def _gets(self, port: int, path: str, kind: str, *, is_known: bool = False) -> Turn:
        texts = []
        for token in self._tokens[kind]:
            headers = {"Authorization": f"Bearer {token}"}
            if is_known:
                headers["If-None-Match"] = "*"
            texts.append(_asking.get(path, headers=headers))
        return self._turn(
            port, lambda number: texts[number % USERS], b"304" if is_known else b"200"
        )

    def _turn(self, port: int, request: Callable[[int], bytes], status: bytes) -> Turn:
        return lambda: _asking.rate(
            port=port,
            connections=CONNECTIONS,
            seconds=self._seconds,
            request=request,
            status=status,
        )

    def consumed(self, port: int, *, count: int) -> None:
        """Consume so often, at least."""
        turn = self._posts(port, "/api/usage/consume/", "own")
        done = 0.0
        while done < count:
            done += turn() * self._seconds


class _Server:
    """A served program: its port and process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def memory_kb(self) -> int:
        """Return the resident memory of its worker: the greatest of its processes."""
        own = str(self.process.pid)
        sizes = []
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                lines = dict(
                    line.split(":", 1) for line in status.read_text().splitlines() if ":" in line
                )
                if own in {lines["Pid"].strip(), lines["PPid"].strip()} and "VmRSS" in lines:
                    sizes.append(int(lines["VmRSS"].split()[0]))
        return max(sizes)


@contextlib.contextmanager
def _served(command: list[str], **environment: str) -> Iterator[_Server]:
    """Serve on a free port, and stop it by its process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, *command, "--port", str(port)],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                msg = f"{' '.join(command)} does not serve"
                raise SystemExit(msg)
            time.sleep(0.1)
        yield _Server(process, port)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _prepare() -> dict[str, list[str]]:
    """Migrate, sell, register users, and return their tokens for the engine and for the stock."""
    django.setup()
    import jwt  # noqa: PLC0415 - needs the settings
    from django.core.management import call_command  # noqa: PLC0415 - as above

    from benchmarks import _engine  # noqa: PLC0415 - as above
    from core import clock  # noqa: PLC0415 - as above
    from core.api import tokens  # noqa: PLC0415 - as above
    from core.models import Customer, Member, RefreshToken, User  # noqa: PLC0415 - as above

    call_command("migrate", verbosity=0)
    _engine.sell()
    _engine.make_customers(range(USERS))
    own, stock = [], []
    now = clock.process_clock().now()
    for number in range(USERS):
        user = User.objects.create(username=f"user{number}", email=f"user{number}@example.com")
        Member.objects.create(
            user=user, customer=Customer.objects.get(external_key=f"bench-{number}")
        )
        refresh = RefreshToken(created_at=now, expires_at=now)
        own.append(tokens.pair(user=user, refresh=refresh)["access"])
        claims = {"token_type": "access", "exp": int(time.time()) + 86_400, "jti": str(number)}
        key = "a-signing-key-for-the-benchmark-alone-0123456789-abcdefghij"
        stock.append(jwt.encode(claims | {"user_id": str(number)}, key, algorithm="HS256"))
    return {"own": own, "stock": stock}


def _differences() -> list[str]:
    from benchmarks import _engine  # noqa: PLC0415 - needs the settings

    return _engine.differences()
