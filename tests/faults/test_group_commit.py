"""Group commit over HTTP: callers that go and servers that stop lose and repeat nothing."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.faults.harness import SECONDS_MAX, Engine, figure
from tests.faults.load import Load, report, verify

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(SECONDS_MAX)]
CALLERS, GONE = 12, figure(short=12, long=240)
LOCK = (
    "SELECT 1 FROM metering_balance b JOIN core_customer c ON c.id = b.customer_id"
    " WHERE c.external_key = %s FOR NO KEY UPDATE OF b"
)


def call_and_go(engine: Engine, *, key: str, customer: str) -> None:
    """Send a consume, and close the connection without reading."""
    body = json.dumps({"customer": customer, "feature": "api_calls", "units": 1})
    with socket.create_connection(("127.0.0.1", engine.port)) as peer:
        peer.sendall(
            "\r\n".join(
                [
                    "POST /api/usage/consume/ HTTP/1.1",
                    "Host: 127.0.0.1",
                    f"Authorization: Api-Key {engine.credential}",
                    "Content-Type: application/json",
                    f"Idempotency-Key: {key}",
                    f"Content-Length: {len(body)}",
                    "",
                    body,
                ]
            ).encode()
        )


class TestCallersThatGo:
    def test_are_counted_once_and_find_their_answer_under_the_key(self, engine, postgres):
        load = Load(engine, customer=engine.new_customer())
        keys = [f"gone-{number}" for number in range(GONE)]
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(lambda key: call_and_go(engine, key=key, customer=load.customer), keys))
        load.unknown = set(keys)
        load.settle()
        figures = verify(load, postgres.url)
        assert load.violations == []
        assert {load.outcomes[key][0] for key in keys} == {200}
        report("callers that go", callers=len(keys), **figures)


class TestServersThatStop:
    """Callers wait for a locked balance while their server is told to stop."""

    def stopped_while_they_wait(self, postgres, *, by: signal.Signals) -> tuple[list[int], Load]:
        engine = Engine(database_url=postgres.url, credential=postgres.credential)
        engine.serve(workers=1, threads=CALLERS)
        load = Load(engine, customer=engine.new_customer())
        assert load.send("first")
        keys = [f"waiting-{number}" for number in range(CALLERS)]
        with (
            psycopg.connect(postgres.url) as holder,
            ThreadPoolExecutor(CALLERS) as pool,
        ):
            holder.execute(LOCK, (load.customer,))
            asked = [pool.submit(engine.consume, key, customer=load.customer) for key in keys]
            time.sleep(0.5)
            stop = threading.Thread(target=stop_by, args=(engine, by))
            stop.start()
            time.sleep(0.2)
            holder.rollback()
            statuses = [each.result()[0] for each in asked]
            stop.join()
        load.unknown = set(keys)
        engine.serve(workers=1, threads=CALLERS)
        load.settle()
        engine.stop()
        return statuses, load

    def test_answer_who_waits_before_they_go(self, postgres):
        statuses, load = self.stopped_while_they_wait(postgres, by=signal.SIGTERM)
        assert statuses == [200] * CALLERS
        assert load.violations == []
        verify(load, postgres.url)

    def test_control_a_killed_one_answers_nobody_and_the_keys_tell(self, postgres):
        statuses, load = self.stopped_while_they_wait(postgres, by=signal.SIGKILL)
        assert statuses == [0] * CALLERS
        assert load.violations == []
        figures = verify(load, postgres.url)
        report("a server killed while they wait", **figures)


def stop_by(engine: Engine, by: signal.Signals) -> None:
    """Send the signal: to the server, which tells its workers, or to all where it kills."""
    server = engine._server
    assert server is not None
    with contextlib.suppress(ProcessLookupError):
        if by is signal.SIGKILL:
            os.killpg(server.pid, by)
        else:
            os.kill(server.pid, by)
    server.wait(timeout=30)
