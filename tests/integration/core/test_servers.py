"""The tests' own servers: they start, answer, and leave nothing behind, however they end."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from core.testing import servers

SCRIPT = """
import signal, sys, time
from core.testing.servers import PostgresServer, RedisServer
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
with {kind}() as server:
    print(server.process_id, server.directory, flush=True)
    time.sleep(60)
"""


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition, *, seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


class TestServers:
    def test_answer_and_leave_nothing_behind(self):
        with servers.PostgresServer() as postgres:
            connection = psycopg.connect(postgres.url)
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            connection.close()
            assert is_running(postgres.process_id)
        assert not is_running(postgres.process_id)
        assert not postgres.directory.exists()

    def test_of_redis_answer_and_leave_nothing_behind(self):
        with (
            servers.RedisServer() as redis,
            socket.create_connection(("127.0.0.1", redis.port)) as connection,
        ):
            connection.sendall(b"SET a 1\r\n")
            assert connection.recv(5) == b"+OK\r\n"
        assert not is_running(redis.process_id)
        assert not redis.directory.exists()

    @pytest.mark.parametrize("kind", ["PostgresServer", "RedisServer"])
    @pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
    def test_end_with_their_owner(self, kind, end):
        owner = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(kind=kind)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(Path.cwd())},
            text=True,
        )
        process_id, directory = owner.stdout.readline().split()
        assert is_running(int(process_id))

        owner.send_signal(end)
        owner.communicate()

        assert wait_until(lambda: not is_running(int(process_id)))
        assert wait_until(lambda: not Path(directory).exists())

    def test_keep_their_directory_where_a_launch_fails_and_another_follows(self):
        with servers.RedisServer() as redis:
            os.kill(redis.process_id, signal.SIGKILL)
            redis._process.wait()
            for _ in range(2):  # each launch has a guard of its own, which would remove it
                with pytest.raises(RuntimeError, match="Redis did not start"):
                    redis._launch(["false"], is_ready=lambda: False)
            redis._launch(["sleep", "60"], is_ready=lambda: True)
            time.sleep(0.5)
            assert redis.directory.exists()
            assert is_running(redis.process_id)
        assert not redis.directory.exists()

    def test_name_what_is_missing_with_its_remedy(self, monkeypatch):
        monkeypatch.setattr(servers.shutil, "which", lambda _: None)
        monkeypatch.setattr(servers.Path, "glob", lambda *_: iter(()))
        monkeypatch.setattr(servers.importlib.util, "find_spec", lambda _: None)
        with pytest.raises(servers.ProgramMissing, match="install PostgreSQL"):
            servers.find_postgres_programs()
        with pytest.raises(servers.ProgramMissing, match="install redis-server"):
            servers.find_redis_program()

    def test_run_from_the_packages_where_the_machine_has_none(self, monkeypatch):
        monkeypatch.setattr(servers.shutil, "which", lambda _: None)
        glob = Path.glob
        monkeypatch.setattr(
            servers.Path,
            "glob",
            lambda path, pattern: iter(()) if "postgresql" in str(path) else glob(path, pattern),
        )
        monkeypatch.setattr(servers, "_is_open_to_all", lambda _: False)
        with servers.PostgresServer() as postgres, psycopg.connect(postgres.url) as connection:
            assert connection.info.server_version >= 180000
        with servers.RedisServer() as redis:
            assert redis.port
