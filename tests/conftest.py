"""Share what every test needs: a clock that stands still, and a clean process."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from django.core.cache import caches
from django.db import connection

from core import clock
from subscriptions import selectors

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests that need row locks to PostgreSQL."""
    if connection.vendor == "postgresql":
        return
    kept = [item for item in items if item.get_closest_marker("postgres") is None]
    if len(kept) < len(items):
        left = [item for item in items if item.get_closest_marker("postgres") is not None]
        config.hook.pytest_deselected(items=left)
        items[:] = kept


@pytest.fixture
def at() -> datetime:
    """Return the instant at which the tests' clock stands."""
    return NOW


@pytest.fixture
def standing_clock(at: datetime) -> Iterator[clock.FixedClock]:
    """Let the edges read the standing clock."""
    standing = clock.FixedClock(at=at)
    with clock.overridden(standing):
        yield standing


@pytest.fixture(autouse=True)
def _clean_process() -> Iterator[None]:
    """Forget what a process remembers, since each test has other rows."""
    selectors.forget_features()
    for each in caches.all(initialized_only=True):
        each.clear()
    yield
    selectors.forget_features()


@pytest.fixture(autouse=True)
def _fast_passwords(settings) -> None:
    """Hash passwords quickly; argon2 is production's."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
