"""Run every check of the project: what `make test` does."""

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
STEPS: Mapping[str, tuple[str, ...]] = {
    "lint": (*TOOL, "ruff", "check", "."),
    "format": (*TOOL, "ruff", "format", "--check", "."),
    "types": (*TOOL, "mypy", "."),
    "layers": (str(Path(sys.executable).parent / "lint-imports"),),
    "migrations": (*MANAGE, "makemigrations", "--check", "--dry-run"),
    "deploy": (*MANAGE, "check", "--deploy", "--fail-level", "WARNING"),
    "schema": (*MANAGE, "schema", "--check"),
    "sqlite": (*TOOL, "pytest", "-n", WORKERS, "-m", "not postgres", "-q", "--no-cov"),
    "postgres": (*TOOL, "pytest", "-n", WORKERS, "--cov", "--cov-report=term:skip-covered"),
}


class Command(BaseCommand):
    """Run the steps in order and stop at the first that fails."""

    help = "Run linters, types, layers, migrations, deploy and schema checks, and the suite."

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the options."""
        parser.add_argument(
            "--only", action="append", choices=list(STEPS), help="Run this step alone; repeatable."
        )

    def handle(self, *_: Any, **options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Run the steps."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        chosen = options["only"] or list(STEPS)
        for number, name in enumerate(chosen, start=1):
            servers.announce(f"── {number}/{len(chosen)} {name}")
            started = time.monotonic()
            with _environment(name) as environment:
                done = subprocess.run(
                    STEPS[name], env=environment, cwd=settings.BASE_DIR, check=False
                )
            if done.returncode:
                message = f"{name} failed: {' '.join(STEPS[name])}"
                raise CommandError(message)
            servers.announce(f"   {name}: {time.monotonic() - started:.0f} s")


@contextlib.contextmanager
def _environment(step: str) -> Iterator[dict[str, str]]:
    """Give a step what it needs: servers for the suite, a strict environment for deploying."""
    environment = os.environ | {"DEBUG": os.environ.get("DEBUG", "1")}
    with contextlib.ExitStack() as stack:
        if step == "deploy":
            environment |= PRODUCTION
        elif step == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="engine-"))
            environment["DATABASE_URL"] = f"sqlite:///{folder}/db.sqlite3"
        if step in {"sqlite", "postgres"} and not environment.get("REDIS_URL"):
            servers.announce("   starting Redis")
            environment["TEST_REDIS_URL"] = stack.enter_context(servers.RedisServer()).url
        if step == "postgres" and not environment.get("DATABASE_URL", "").startswith("postgres"):
            servers.announce("   starting PostgreSQL")
            environment["DATABASE_URL"] = stack.enter_context(servers.PostgresServer()).url
        yield environment
