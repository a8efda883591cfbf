"""Killed at any step of renewing and issuing, the worker bills each period once, without a gap.

Set CRASHES to 100 for the long run; each point is hit so many times.
"""

import os
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from billing.models import Invoice, InvoiceLine, MrrMovement
from billing.services import issuing
from core import clock
from core.models import WorkFailure
from core.services import worker
from subscriptions.services import sweeping
from tests import factories
from tests.concurrency import racing

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgres,
    pytest.mark.timeout(900),
]
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
CRASHES = int(os.environ.get("CRASHES", "2"))
CUSTOMERS = 2 * CRASHES
LATE = clock.FixedClock(at=AT + timedelta(days=32))
POINTS = (
    "sweep_locked",
    "boundary_stored",
    "renewal_published",
    "sweep_told",
    "sweep_committed",
    "issue_locked",
    "issue_written",
    "issue_committed",
)


def one_pass(*, limit: int = worker.BATCH) -> worker.Totals:
    jobs = [sweeping.SweepJob(), issuing.IssueJob()]
    return worker.run_pass(jobs=jobs, clock=LATE, should_stop=lambda: False, limit=limit)


@pytest.fixture
def subscribed(settings):
    settings.DEBUG = True
    factories.make_plan("pro", at=AT, price_minor=100)
    for _ in range(CUSTOMERS):
        factories.subscribe(factories.make_customer(at=AT), "pro", at=AT)


@pytest.mark.usefixtures("subscribed")
class TestRenewal:
    @pytest.mark.parametrize("point", POINTS)
    def test_is_billed_once_whatever_the_point_of_the_crash(self, point):
        for _ in range(CRASHES):
            racing.dying(point, lambda: one_pass(limit=1))
        while one_pass().done:
            pass
        billed = Counter(
            InvoiceLine.objects.filter(kind="recurring").values_list("subscription", "starts_at")
        )
        assert len(billed) == 2 * CUSTOMERS
        assert set(billed.values()) == {1}
        numbers = Invoice.objects.values_list("number", flat=True)
        assert sorted(numbers) == list(range(1, 2 * CUSTOMERS + 1))
        assert MrrMovement.objects.count() == CUSTOMERS
        assert not WorkFailure.objects.exists()
