"""Run the tests' PostgreSQL and Redis in the foreground, for use from another terminal."""

import signal
from typing import Any

from django.core.management.base import BaseCommand

from core.testing import servers


class Command(BaseCommand):
    """Start both servers, print their addresses, and stop them on Ctrl-C."""

    help = "Run PostgreSQL and Redis for tests until Ctrl-C."

    def handle(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - Django's signature
        """Run the servers."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with servers.PostgresServer() as postgres, servers.RedisServer() as redis:
            self.stdout.write(f"export DATABASE_URL={postgres.url}")
            self.stdout.write(f"export REDIS_URL={redis.url}")
            self.stdout.write("Ctrl-C stops both.")
            self.stdout.flush()
            try:
                signal.pause()
            except KeyboardInterrupt:
                self.stdout.write("stopping")
