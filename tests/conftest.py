"""Share what every test needs: a clock that stands still, and a clean process."""

import gc
import os
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import redis
from django.core.cache import caches
from django.db import connection, transaction
from django.test import TransactionTestCase
from hypothesis import HealthCheck, settings

from core import clock
from core.api import access, authentication
from metering.api import showing
from subscriptions import selectors, switches

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
# A run of the suite draws the same examples each time; the long forms draw new ones.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")
# mutmut runs the suite again and again in one process, and each mutant must meet the same examples.
settings.register_profile(
    "mutants",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.differing_executors],
)


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


@pytest.fixture
def redis_url() -> str:
    """Return the address of the tests' Redis, emptied; skip where there is none."""
    url = os.environ.get("TEST_REDIS_URL") or os.environ.get("REDIS_URL")
    if not url:
        pytest.skip("no Redis: run manage.py verify, or give TEST_REDIS_URL")
    redis.Redis.from_url(url).flushdb()
    return url


KEPT_TABLES = {"django_migrations", "django_content_type", "auth_permission"}
FILLED_TABLES = """
    SELECT oid::regclass::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND pg_relation_size(oid) > 0
"""


def empty_tables(_: TransactionTestCase) -> None:
    """Empty the tables after a test that commits, of rows that are dead as well.

    Truncating all of them would take many times as long. What migrations made of types and
    permissions stays.
    """
    is_postgres = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        if is_postgres:
            cursor.execute(FILLED_TABLES)
            found = [row[0] for row in cursor.fetchall()]
        else:
            found = connection.introspection.django_table_names(
                only_existing=True, include_views=False
            )
        names = sorted(set(found) - KEPT_TABLES)
        with transaction.atomic():
            if is_postgres:  # no trigger refuses, no foreign key asks
                cursor.execute("SET LOCAL session_replication_role = replica")
            for name in names:
                cursor.execute(f"DELETE FROM {name}")
        if is_postgres and names:
            cursor.execute(f"VACUUM {', '.join(names)}")


TransactionTestCase._fixture_teardown = empty_tables


def _kept_rows(django_db_setup, django_db_blocker) -> Iterator[None]:
    """Keep the rows of the class's or module's fixtures for its tests, and undo them with it.

    Each test stands on a savepoint above them: what it writes is undone with it.
    """
    whole = transaction.atomic()
    whole._from_testcase = True
    with django_db_blocker.unblock(), whole:
        yield
        transaction.set_rollback(True)


kept_rows = pytest.fixture(_kept_rows, scope="module", name="kept_rows")
kept_rows_of_class = pytest.fixture(_kept_rows, scope="class", name="kept_rows_of_class")


@pytest.fixture(autouse=True)
def _clean_process() -> Iterator[None]:
    """Forget what a process remembers, since each test has other rows."""
    selectors.forget_all()
    switches.remember({}, loaded_at=float("inf"))  # never too old: tests of switches forget it
    authentication.forget_callers()
    access.forget_ids()
    showing.forget()
    for each in caches.all(initialized_only=True):
        each.clear()
    yield
    selectors.forget_all()


@pytest.fixture(autouse=True)
def _fast_passwords(settings) -> None:
    """Hash passwords quickly; argon2 is production's."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _static_files_when_asked(settings) -> None:
    """Look for a static file when it is asked for, not for all of them in each test's client."""
    settings.WHITENOISE_AUTOREFRESH = True


def pytest_collection_finish() -> None:
    """Keep what is imported and collected out of every later garbage collection."""
    gc.collect()
    gc.freeze()
