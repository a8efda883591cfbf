"""Killed at any step of a renewal, the worker loses nothing and renews nothing twice.

Set CRASHES to 100 for the long run; each point is hit so many times.
"""

import os
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from core import clock, db, events, faults, locks
from core.models import OutboxDelivery, OutboxEvent, WorkFailure
from core.services import deliveries, worker
from subscriptions import renewals
from subscriptions.models import Subscription, TimelineEntry
from subscriptions.services import moves, sweeping, timeline
from tests import factories
from tests.concurrency import racing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
CRASHES = int(os.environ.get("CRASHES", "2"))
CUSTOMERS = 2 * CRASHES
RENEWED = "subscription.renewed"
POINTS = (
    "sweep_begun",
    "sweep_locked",
    "boundary_stored",
    "boundary_recorded",
    "renewal_published",
    "sweep_told",
    "sweep_committed",
)
LATE = clock.FixedClock(at=AT + timedelta(days=32))


def one_pass(job, *, limit=CUSTOMERS) -> worker.Totals:
    return worker.run_pass(jobs=[job], clock=LATE, should_stop=lambda: False, limit=limit)


@pytest.fixture
def subscribed(settings):
    settings.DEBUG = True
    factories.make_plan("pro", at=AT, price_minor=100)
    for _ in range(CUSTOMERS):
        factories.subscribe(factories.make_customer(at=AT), "pro", at=AT)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("subscribed")
class TestRenewal:
    def test_control_a_crash_between_two_commits_would_renew_twice(self):
        """The fact committed before the row, as a worker without one transaction would do it."""
        row = Subscription.objects.first()

        def publish_then_die():
            with db.transaction():
                locked = moves.lock_rows_step(customer=row.customer, clock=LATE)
                timeline.renewed_step(
                    locked.rows[0],
                    period=renewals.billing_period(locked.rows[0], at=LATE.at),
                    at=LATE.at,
                )
            faults.point("between")

        racing.dying("between", publish_then_die)
        one_pass(sweeping.SweepJob())
        told = Counter(
            each.payload["subscription"] for each in OutboxEvent.objects.filter(event_type=RENEWED)
        )
        assert told[str(row.pk)] == 2

    @pytest.mark.parametrize("point", POINTS)
    def test_is_done_once_whatever_the_point_of_the_crash(self, point):
        job = sweeping.SweepJob()
        for _ in range(CRASHES):
            racing.dying(point, lambda: one_pass(job, limit=1))
            one_pass(job, limit=1)
        one_pass(job)
        told = Counter(
            (each.payload["subscription"], each.payload["period_starts_at"])
            for each in OutboxEvent.objects.filter(event_type=RENEWED)
        )
        assert len(told) == CUSTOMERS
        assert set(told.values()) == {1}
        assert TimelineEntry.objects.filter(event="period_ended_renew").count() == CUSTOMERS
        assert not Subscription.objects.filter(due_at__lte=LATE.at).exists()
        assert not WorkFailure.objects.exists()


@pytest.mark.usefixtures("subscribed")
class TestDelivery:
    @pytest.mark.parametrize("point", ["delivery_leased", "delivery_handed_over"])
    def test_comes_again_after_the_lease_of_a_worker_that_died(self, point):
        given = []
        events.register_consumer(
            events.Consumer(
                name="test",
                event_types=frozenset({RENEWED}),
                deliver=lambda event: given.append(event.pk),
            )
        )
        try:
            one_pass(sweeping.SweepJob())
            job = deliveries.DeliveryJob()
            racing.dying(point, lambda: one_pass(job, limit=1))
            assert one_pass(job).done == CUSTOMERS - 1
            later = clock.FixedClock(at=LATE.at + deliveries.LEASE)
            worker.run_pass(jobs=[job], clock=later, should_stop=lambda: False)
        finally:
            events.forget_consumer(name="test")
        assert len(set(given)) == CUSTOMERS
        assert not OutboxDelivery.objects.filter(delivered_at__isnull=True).exists()


class TestSideBySide:
    def test_four_workers_renew_each_period_once(self, subscribed):
        def sweep():
            totals = worker.Totals()
            for _ in range(5):
                totals += one_pass(sweeping.SweepJob())
            return totals

        outcomes = racing.in_threads([sweep] * 4)
        assert sum(each.done for each in outcomes) == CUSTOMERS
        assert sum(each.failed for each in outcomes) == 0
        assert OutboxEvent.objects.filter(event_type=RENEWED).count() == CUSTOMERS

    def test_a_customer_whom_somebody_has_locked_is_left_to_him(self, subscribed):
        row = Subscription.objects.first()
        barrier = threading.Barrier(2)

        def hold():
            with db.transaction():
                locks.lock_customer(customer_id=row.customer_id)
                barrier.wait()
                barrier.wait()

        def pass_by():
            barrier.wait()
            moved = sweeping.settle_free(customer_id=row.customer_id, clock=LATE)
            barrier.wait()
            return moved

        assert racing.in_threads([hold, pass_by]) == [None, 0]
        assert sweeping.settle_free(customer_id=row.customer_id, clock=LATE) == 1
