"""Run every check of the project: what `make test` does, and on demand what `make torture` does.

The checks read files and run beside each other. The suite runs once on PostgreSQL; SQLite runs
again what it could answer otherwise: services, the usage API and races. What never asks the
database (units, the house), brings its own (README, servers), asks it only for rows to show (the
admin, the matrix of callers, generated requests) or walks the rules alone (random lives of bills,
lives that are explained) runs once. The rules are covered by both.
"""

import concurrent.futures
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.testing import servers

TOOL = (sys.executable, "-m")
MANAGE = (sys.executable, "manage.py")
PRODUCTION = {
    "DEBUG": "0",
    "SECRET_KEY": "a-secret-key-for-the-deploy-check-alone-0123456789-abcdefghijklm",
    "JWT_SIGNING_KEY": "a-signing-key-for-the-deploy-check-alone-0123456789",
    "HTTPS_ONLY": "1",
}
WORKERS = "2"
SUITE = ("pytest", "-n", WORKERS, "-q")
COVERED_PERCENT = "97"
COVERED, COVERED_ON_SQLITE = ".slipcover.json", ".slipcover.sqlite.json"
# It may not see into the tests themselves, and warns of that.
SLIPCOVER = (sys.executable, "-W", "ignore::RuntimeWarning", "-m", "slipcover", "--out")
ON_SQLITE = ("tests/integration", "tests/api/metering", "tests/concurrency")
NOT_ON_SQLITE = (
    "**/test_admin.py",
    "**/test_audited_forms.py",
    "**/test_explained_lives.py",
    "**/test_explained_past.py",
    "**/test_lives.py",
    "**/test_readme.py",
    "**/test_servers.py",
)
CHECKS: Mapping[str, tuple[str, ...]] = {
    "types": (*TOOL, "mypy", "."),
    "lint": (*TOOL, "ruff", "check", "."),
    "format": (*TOOL, "ruff", "format", "--check", "."),
    "layers": (str(Path(sys.executable).parent / "lint-imports"),),
    "migrations": (*MANAGE, "makemigrations", "--check", "--dry-run"),
    "deploy": (*MANAGE, "check", "--deploy", "--fail-level", "WARNING"),
    "schema": (*MANAGE, "schema", "--check"),
}
SUITES: Mapping[str, tuple[str, ...]] = {
    "sqlite": (
        *SLIPCOVER,
        COVERED_ON_SQLITE,
        "--json",
        "-m",
        *SUITE,
        *ON_SQLITE,
        *(f"--ignore-glob={each}" for each in NOT_ON_SQLITE),
    ),
    "postgres": (*SLIPCOVER, COVERED, "--json", "-m", *SUITE),
    # by itself: with workers, slipcover would look for their figures a second time in vain
    "coverage": (
        *SLIPCOVER,
        COVERED,
        "--fail-under",
        COVERED_PERCENT,
        "--merge",
        COVERED,
        COVERED_ON_SQLITE,
    ),
    "faults": (*TOOL, "pytest", "-s", "--timeout", "0", "tests/faults"),
    "requests": (*TOOL, "pytest", "--timeout", "0", "tests/contract"),
}
ON_DEMAND = {"faults": {"FAULTS": "long"}, "requests": {"SCHEMATHESIS_EXAMPLES": "200"}}
ON_POSTGRES = ("postgres", *ON_DEMAND)
STEPS = {**CHECKS, **SUITES}


class Command(BaseCommand):
    """Run the checks beside each other, then the suites, and stop at the first that fails."""

    help = "Run linters, types, layers, migrations, deploy and schema checks, and the suite."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument(
            "--only", action="append", choices=list(STEPS), help="Run this step alone; repeatable."
        )

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Run the steps."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        chosen = options["only"] or [name for name in STEPS if name not in ON_DEMAND]
        _run_checks([name for name in CHECKS if name in chosen])
        for name in SUITES:
            if name in chosen:
                servers.announce(f"── {name}")
                started = time.monotonic()
                with _environment(name) as environment:
                    done = subprocess.run(
                        STEPS[name], env=environment, cwd=settings.BASE_DIR, check=False
                    )
                _conclude(name, done.returncode, started)


def _run_checks(names: list[str]) -> None:
    """Run checks beside each other, and show what each printed as one piece when it ended."""
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(int(WORKERS)) as pool:
        running = {pool.submit(_check, name): name for name in names}
        for future in concurrent.futures.as_completed(running):
            done = future.result()
            servers.announce(f"── {running[future]}\n{done.stdout.rstrip()}")
            if done.returncode:
                pool.shutdown(cancel_futures=True)
            _conclude(running[future], done.returncode, started)


def _check(name: str) -> subprocess.CompletedProcess[str]:
    """Run one check and keep what it prints."""
    with _environment(name) as environment:
        return subprocess.run(
            STEPS[name],
            env=environment,
            cwd=settings.BASE_DIR,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def _conclude(name: str, returncode: int, started: float) -> None:
    """Tell how long a step took, or stop where it failed."""
    if returncode:
        message = f"{name} failed: {' '.join(STEPS[name])}"
        raise CommandError(message)
    servers.announce(f"   {name}: done after {time.monotonic() - started:.0f} s")


@contextlib.contextmanager
def _environment(step: str) -> Iterator[dict[str, str]]:
    """Give a step what it needs: servers for the suite, a strict environment for deploying."""
    environment = os.environ | {"DEBUG": os.environ.get("DEBUG", "1")} | ON_DEMAND.get(step, {})
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # dozens of processes would each compile anew
    with contextlib.ExitStack() as stack:
        if step == "deploy":
            environment |= PRODUCTION
        elif step == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="engine-"))
            environment["DATABASE_URL"] = f"sqlite:///{folder}/db.sqlite3"
        if step in {"sqlite", *ON_POSTGRES} and not environment.get("REDIS_URL"):
            servers.announce("   starting Redis")
            environment["TEST_REDIS_URL"] = stack.enter_context(servers.RedisServer()).url
        is_postgres = environment.get("DATABASE_URL", "").startswith("postgres")
        if step in ON_POSTGRES and not is_postgres:
            servers.announce("   starting PostgreSQL")
            postgres = servers.PostgresServer(is_durable=False)  # tests of crashes start their own
            environment["DATABASE_URL"] = stack.enter_context(postgres).url
        yield environment
