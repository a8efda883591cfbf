"""R15: migrate from an older release under load, while old and new code serve together.

The old code comes from git. It serves, the new code migrates, then both serve the same customer.
Ends with 0 where every answer fits the ledger, nobody waited for a lock over two seconds, and the
audit is clean.
"""

import argparse
import io
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.harness import PRODUCTION, ROOT, Engine, Postgres
from tests.faults.load import Load, verify

LOCK_SECONDS_MAX = 2.0
LONGEST = (
    "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)"
    " FROM pg_locks WHERE NOT granted"
)


class Both(Engine):
    """Ask two servers in turn, as a load balancer does in the middle of a release."""

    def __init__(self, *engines: Engine) -> None:
        super().__init__(database_url=engines[0].database_url)
        self._engines, self._turn = engines, 0

    def consume(self, key: str, **wanted: str) -> tuple[int, Any]:
        """Consume at the next server."""
        self._turn += 1
        return self._engines[self._turn % len(self._engines)].consume(key, **wanted)


class Waits:
    """Watch how long anybody waits for a lock, while the block runs."""

    def __init__(self, url: str) -> None:
        self.longest = 0.0
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Waits":  # noqa: PYI034 - nobody inherits
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._stopping.wait(0.05):
                row = connection.execute(LONGEST).fetchone()
                self.longest = max(self.longest, float(row[0]) if row else 0.0)


def main(arguments: Sequence[str]) -> int:
    """Roll from the old release to this one, print the figures, and return 0 where all held."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="engine-old-") as folder, Postgres() as postgres:
        _unpack(options.old, to=Path(folder))
        old = Engine(database_url=postgres.url, root=Path(folder), **PRODUCTION).set_up()
        new = Engine(database_url=postgres.url, credential=old.credential, **PRODUCTION)
        try:
            old.serve(workers=1)
            with Load(old) as before, Waits(postgres.url) as waits:
                time.sleep(options.seconds)
                new.manage("migrate", "--verbosity", "0")
                time.sleep(options.seconds)
            new.serve(workers=1)
            with Load(Both(old, new), outcomes=before.outcomes, unknown=before.unknown) as load:
                time.sleep(options.seconds)
            load.settle()
            load.violations += before.violations
            figures = verify(load, postgres.url)
            new.manage("audit")
        except (AssertionError, subprocess.CalledProcessError) as error:
            print(getattr(error, "stdout", ""), getattr(error, "stderr", ""), error)
            return 1
        finally:
            old.stop()
            new.stop()
    statuses = dict(before.statuses + load.statuses)
    print(f"R15 rolling from {options.old}: {figures}, answers {statuses}")
    print(f"longest wait for a lock {waits.longest:.2f} s, slowest answer {before.slowest:.2f} s")
    return 0 if waits.longest <= LOCK_SECONDS_MAX else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks rolling", description=__doc__)
    parser.add_argument("--old", required=True, help="commit or tag of the old release")
    parser.add_argument("--seconds", type=float, default=5.0, help="of load in each phase (5)")
    return parser.parse_args(arguments)


def _unpack(commit: str, *, to: Path) -> None:
    """Unpack the commit's files."""
    command = ["git", "archive", commit]
    archive = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(to, filter="data")
