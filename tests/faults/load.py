"""Consume over HTTP while something breaks, note every outcome, and hold the database to them."""

import random
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import psycopg

from tests.faults.harness import LIMIT, Engine, figure

DEFINITIVE_SECONDS_MAX = 30.0
REQUEST_SECONDS_MAX = 6.0
REPLAYS_MAX = 200
PAUSE_SECONDS = figure(short=0.02, long=0.0)  # the short form leaves the machine to other tests
Outcome = TypeVar("Outcome")


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
    seconds: list[float] = field(default_factory=list)

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

    @property
    def slowest(self) -> float:
        """Return the seconds of the slowest request."""
        return max(self.seconds)

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
            self.seconds.append(seconds)
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
            time.sleep(PAUSE_SECONDS)


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


def together(actions: Sequence[Callable[[], Outcome]]) -> list[Outcome]:
    """Return what the actions return, all started at one instant, each in a thread."""
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], Outcome]) -> Outcome:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return [future.result() for future in [pool.submit(run, each) for each in actions]]
