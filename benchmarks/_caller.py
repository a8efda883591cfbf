"""Consume over HTTP from many connections of one process, as cheaply as Python can.

What a number asks for is a function of the number alone, so that whoever sends it again sends the
same, and everything can be recounted from the numbers. Imports nothing of the engine.
"""

import asyncio
import json
import random
import time
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from hashlib import blake2b

REPEATS = 0.3
READS_EVERY = 50
PAUSE_SECONDS = 0.2
ANSWER_SECONDS_MAX = 20.0
CONNECT_PAUSE_SECONDS, CONNECTS_MAX = 0.05, 1200
GRANTED, DENIED, BUSY, LOST = 200, 403, 503, 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one process sends, where to, and which of the processes it is."""

    port: int
    credential: str
    attempts: int
    connections: int
    process: int
    processes: int
    load: "Load"
    seed: int = 1


@dataclass(kw_only=True)
class Result:
    """What one process was told: of each number whether it was granted, and its body's digest."""

    outcomes: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    repeats: int = 0
    reads: int = 0
    latencies: array = field(default_factory=lambda: array("f"))


@dataclass(frozen=True, kw_only=True)
class Load:
    """Say what each number consumes: of a hot customer, of many, or of one with a small limit."""

    name: str = "load"
    customers: int = 50

    def customers_all(self) -> list[str]:
        """Return the external keys of all customers."""
        many = [f"{self.name}-{number}" for number in range(self.customers)]
        return [f"{self.name}-hot", self.small, *many]

    @property
    def small(self) -> str:
        """Return the customer who reaches his limit; his units come one by one."""
        return f"{self.name}-small"

    def key(self, number: int) -> str:
        """Return the number's idempotency key."""
        return f"{self.name}-{number}"

    def wanted(self, number: int) -> tuple[str, str, int]:
        """Return customer, feature and units of the number."""
        if number % 10 == 9:
            return self.small, "few", 1
        whose = "hot" if number % 10 < 4 else number // 10 % self.customers
        return f"{self.name}-{whose}", "tokens", 1 + number % 3


def run(task: Task) -> Result:
    """Send the task's attempts and return what was answered; nothing is settled."""
    caller = Caller(task)
    drive(caller)
    return caller.result


def drive(caller: "Caller") -> None:
    """Let the caller send until his attempts are used up, or he is stopped."""
    asyncio.run(caller.work())


def send_once(task: Task, number: int) -> tuple[int, bytes] | None:
    """Return the number's outcome, asked once; None where it is still unknown."""
    caller = Caller(task)
    asyncio.run(caller.send(number))
    return caller.result.outcomes.get(number)


class Caller:
    """Choose numbers, send them from every connection, and note the answers."""

    def __init__(self, task: Task) -> None:
        self.task, self.result = task, Result()
        self._chance = random.Random(task.seed * 1000 + task.process)
        self._sent = self._new = 0
        self._again: deque[tuple[float, int]] = deque()

    def stop(self) -> None:
        """Send nothing more."""
        self._sent = self.task.attempts

    async def work(self) -> None:
        """Send until the attempts are used up."""
        await asyncio.gather(*(self._call() for _ in range(self.task.connections)))

    async def _call(self) -> None:
        connection = self._connection()
        while (number := self._next()) is not None:
            status = await self._send(connection, number)
            if status in {BUSY, LOST}:
                await asyncio.sleep(PAUSE_SECONDS)
        connection.close()

    async def send(self, number: int) -> None:
        """Send one number on a connection of its own."""
        connection = self._connection()
        await self._send(connection, number)
        connection.close()

    def _connection(self) -> "Connection":
        return Connection(port=self.task.port, credential=self.task.credential)

    async def _send(self, connection: "Connection", number: int) -> int:
        customer, feature, units = self.task.load.wanted(number)
        body = {"customer": customer, "feature": feature, "units": units}
        began = time.perf_counter()
        status, content = await connection.ask(
            "usage/consume/", body, key=self.task.load.key(number)
        )
        self.result.latencies.append(time.perf_counter() - began)
        self._note(number, status, content)
        if status == GRANTED and len(self.result.latencies) % READS_EVERY == 0:
            await self._read(connection, body, json.loads(content))
        return status

    def _next(self) -> int | None:
        """Return what is sent next: what is unknown, something known again, or a new number."""
        if self._sent >= self.task.attempts:
            return None
        self._sent += 1
        if self._again and self._again[0][0] <= time.monotonic():
            return self._again.popleft()[1]
        if self._new and self._chance.random() < REPEATS:
            self.result.repeats += 1
            return self._chance.randrange(self._new * self.task.processes)
        number = self._new * self.task.processes + self.task.process
        self._new += 1
        return number

    def _note(self, number: int, status: int, content: bytes) -> None:
        result = self.result
        result.statuses[status] += 1
        if status in {BUSY, LOST}:
            if number not in result.outcomes:
                result.unknown.add(number)
            self._again.append((time.monotonic() + PAUSE_SECONDS, number))
            return
        fault = fault_in(status, content)
        if fault:
            result.violations.append(f"{number}: {fault}")
        digest = (status, blake2b(content, digest_size=8).digest())
        before = result.outcomes.setdefault(number, digest)
        if before != digest:
            result.violations.append(f"{number}: answered {before[0]}, then {status} anew")
        result.unknown.discard(number)

    async def _read(self, connection: "Connection", body: dict, told: dict) -> None:
        """Ask what remains: the caller's own write is in it (I6)."""
        status, content = await connection.ask("usage/check/", body)
        if status != GRANTED:
            return
        self.result.reads += 1
        remaining = json.loads(content)["remaining"]
        if remaining > told["remaining"]:
            self.result.violations.append(
                f"{told['id']}: told {told['remaining']}, read {remaining}"
            )


def fault_in(status: int, content: bytes) -> str:
    """Return what is wrong with one answer: undocumented (I7), or denied with room (I4)."""
    if status == GRANTED:
        return ""
    problem = json.loads(content)
    if status != DENIED or problem.get("code") != "usage_limit_reached":
        return f"{status} {problem.get('code')}"
    if problem["used"] + problem["held"] + problem["requested"] <= problem["limit"]:
        return "denied although there was room"
    return ""


class Connection:
    """Keep one connection alive, and open it anew where it was cut."""

    def __init__(self, *, port: int, credential: str) -> None:
        self._port = port
        self._head = (
            " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: Api-Key {credential}\r\n"
        )
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, body: object, *, key: str = "") -> tuple[int, bytes]:
        """Return status and content; status 0 where none came."""
        streams = await self._open()
        content = json.dumps(body).encode()
        named = f"Idempotency-Key: {key}\r\n" if key else ""
        head = f"POST /api/{path}{self._head}{named}Content-Length: {len(content)}\r\n\r\n"
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await self._exchange(*streams, head.encode() + content)
        except (OSError, EOFError, TimeoutError):
            self.close()
            return LOST, b""

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the open connection; where nobody listens, nothing is sent and it waits."""
        for _ in range(CONNECTS_MAX):
            if self._streams is not None:
                return self._streams
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(CONNECT_PAUSE_SECONDS)
        raise TimeoutError

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes
    ) -> tuple[int, bytes]:
        writer.write(message)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        content = await reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return int(head[9:12]), content

    def close(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
