"""R16: memory does not grow with requests, and connections stay within the pool."""

import pytest

from benchmarks.soak import SLOPE_MB_MAX, Sample, Soak, soak
from tests.faults.harness import IS_LONG, PRODUCTION, SECONDS_MAX, Engine, figure
from tests.faults.load import report

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(SECONDS_MAX)]
POOL, WORKERS = 20, 2
SECONDS, EVERY = figure(short=2.0, long=1800.0), figure(short=0.2, long=18.0)


@pytest.fixture
def production(postgres):
    """Serve with production's settings: a development server logs its statements."""
    made = Engine(database_url=postgres.url, credential=postgres.credential, **PRODUCTION)
    yield made.serve(workers=WORKERS)
    made.stop()


class TestSoak:
    """`python -m benchmarks soak` is the long form."""

    def test_stays_within_the_pool(self, production):
        seen = soak(production, seconds=SECONDS, every=EVERY)
        assert seen.violations == []
        assert seen.samples[-1].requests > 0
        assert 0 < seen.sessions_max() <= POOL * WORKERS
        figures = {"requests": seen.samples[-1].requests, "connections": seen.sessions_max()}
        if IS_LONG:
            assert seen.slope_mb() < SLOPE_MB_MAX
            figures["slope_mb"] = f"{seen.slope_mb():.2f}"
        report("R16 soak", **figures)

    def test_control_a_leak_shows(self):
        leaking = [
            Sample(requests=1000 * n, megabytes=100 + 0.2 * n, sessions=1) for n in range(40)
        ]
        assert Soak(samples=leaking).slope_mb() == pytest.approx(2.0)
