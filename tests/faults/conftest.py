"""Share what is dear: a migrated database, made once, and an engine that serves from a copy."""

import fcntl

import pytest

from tests.faults.harness import Engine, Postgres, Seed


@pytest.fixture(scope="session")
def seed(tmp_path_factory) -> Seed:
    """Return a migrated database with plans and a service key; workers of xdist share it."""
    shared = tmp_path_factory.getbasetemp()
    if shared.name.startswith("popen"):
        shared = shared.parent
    with (shared / "seed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return Seed.made_in(shared / "seed")


@pytest.fixture(scope="session")
def postgres(seed):
    """Run a PostgreSQL for the tests that leave it running."""
    with Postgres(seed=seed) as running:
        yield running


@pytest.fixture(scope="session")
def engine(postgres):
    """Serve from two processes; in the end every counter of all tests is audited."""
    made = Engine(database_url=postgres.url, credential=postgres.credential).serve()
    yield made
    made.stop()
    assert "clean" in made.manage("audit")
