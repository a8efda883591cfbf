"""R16: memory does not grow with requests, and connections stay within the pool."""

import pytest

from benchmarks.soak import SLOPE_MB_MAX, Sample, Soak, soak
from tests.faults.harness import SCALE
from tests.faults.load import report

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(240 * SCALE)]
POOL, WORKERS = 20, 2


class TestSoak:
    """`python -m benchmarks soak` is the long form."""

    def test_stays_within_the_pool(self, engine):
        seen = soak(engine, seconds=2.0 * SCALE, every=0.2)
        assert seen.violations == []
        assert seen.samples[-1].requests > 0
        assert 0 < seen.sessions_max() <= POOL * WORKERS
        if SCALE > 1:
            assert seen.slope_mb() < SLOPE_MB_MAX
        report("R16 soak", requests=seen.samples[-1].requests, connections=seen.sessions_max())

    def test_control_a_leak_shows(self):
        leaking = [
            Sample(requests=1000 * n, megabytes=100 + 0.2 * n, sessions=1) for n in range(40)
        ]
        assert Soak(samples=leaking).slope_mb() == pytest.approx(2.0)
