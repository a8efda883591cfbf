"""The worker: what is due is done once, what fails waits longer each time, and is parked."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import call_command

from core import clock, events
from core.models import OutboxDelivery, OutboxEvent, WorkFailure
from core.services import deliveries, jobs, worker
from subscriptions.models import Subscription
from subscriptions.services import sweeping
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Fragile:
    """A kind of work with two pieces, of which one fails for as long as it is told to."""

    name = "fragile"

    def __init__(self):
        self.is_broken, self.worked = True, []

    def list_due(self, *, at, limit, excluded):
        return [key for key in ("good", "bad") if key not in excluded][:limit]

    def work(self, *, key, clock):
        if key == "bad" and self.is_broken:
            raise RuntimeError("no luck")
        self.worked.append(key)
        return True


def never() -> bool:
    return False


def run_pass(job, *, at=AT) -> worker.Totals:
    return worker.run_pass(jobs=[job], clock=clock.FixedClock(at=at), should_stop=never)


@pytest.fixture
def consumer():
    """Register a consumer that keeps what it is given."""
    given: list[OutboxEvent] = []
    registered = events.Consumer(
        name="test", event_types=frozenset({"subscription.renewed"}), deliver=given.append
    )
    events.register_consumer(registered)
    yield given
    events.forget_consumer(name="test")


def subscribed(*, at=AT):
    factories.make_plan("pro", at=at, price_minor=100)
    return factories.subscribe(factories.make_customer(at=at), "pro", at=at)


class TestFailure:
    def test_lets_the_others_go_on_and_comes_again_later_each_time(self):
        job, at = Fragile(), AT
        for attempts in range(1, worker.ATTEMPTS_MAX + 1):
            assert run_pass(job, at=at) == worker.Totals(done=1, failed=1)
            row = WorkFailure.objects.get()
            assert (row.attempts, row.error) == (attempts, "RuntimeError: no luck")
            assert run_pass(job, at=at) == worker.Totals(done=1)
            if row.next_attempt_at is not None:
                longest = min(2.0**attempts, 3600)
                waited = (row.next_attempt_at - at).total_seconds()
                assert longest / 2 <= waited <= longest
                at = row.next_attempt_at
        assert WorkFailure.objects.get().next_attempt_at is None
        assert run_pass(job, at=at + 365 * DAY) == worker.Totals(done=1)

    def test_that_is_parked_is_shown_and_tried_anew_when_told(self):
        WorkFailure.objects.create(job="fragile", key="bad", attempts=10, failed_at=AT, error="x")
        shown = StringIO()
        with pytest.raises(SystemExit):
            call_command("parked", "--json", stdout=shown)
        assert json.loads(shown.getvalue())["key"] == "bad"
        with clock.overridden(clock.FixedClock(at=AT)):
            call_command("parked", "--retry", stdout=shown)
        call_command("parked", stdout=shown)
        job = Fragile()
        job.is_broken = False
        run_pass(job)
        assert (job.worked, WorkFailure.objects.count()) == (["good", "bad"], 0)


class TestRun:
    def test_stops_when_told_between_two_pieces_and_waits_where_nothing_is_due(self):
        job, waits = Fragile(), []
        job.is_broken = False
        answers = iter([False, False, True, True])
        totals = worker.run(
            jobs=[job],
            clock=clock.FixedClock(at=AT),
            should_stop=lambda: next(answers),
            wait=waits.append,
        )
        assert (totals, job.worked, waits) == (worker.Totals(done=1), ["good"], [])
        job.list_due = lambda **_: []
        answers = iter([False, False, True])
        worker.run(
            jobs=[job],
            clock=clock.FixedClock(at=AT),
            should_stop=lambda: next(answers),
            wait=waits.append,
        )
        assert waits == [worker.IDLE_SECONDS]

    def test_is_wired_to_every_kind_of_work(self):
        names = [job.name for job in jobs.registered()]
        assert names[:4] == ["subscriptions", "late usage", "invoices", "outbox"]


class TestDelivery:
    def test_brings_each_event_to_its_consumer_once(self, consumer):
        row = subscribed()
        job = deliveries.DeliveryJob()
        sweeping.settle_free(customer_id=row.customer_id, clock=clock.FixedClock(at=AT + 32 * DAY))
        assert [run_pass(job).done, run_pass(job).done] == [1, 0]
        assert [each.payload["subscription"] for each in consumer] == [str(row.pk)]
        assert OutboxDelivery.objects.get().delivered_at == AT

    def test_leaves_a_leased_one_alone_until_the_lease_ends(self, consumer):
        event = OutboxEvent.objects.create(event_type="x", payload={}, occurred_at=AT)
        leased = OutboxDelivery.objects.create(event=event, consumer="test", leased_until=AT + DAY)
        job = deliveries.DeliveryJob()
        assert job.list_due(at=AT, limit=9, excluded=[]) == []
        standing = clock.FixedClock(at=AT)
        assert job.work(key=str(leased.pk), clock=standing) is False
        assert job.work(key=str(uuid4()), clock=standing) is False
        assert job.work(key=str(leased.pk), clock=clock.FixedClock(at=AT + DAY)) is True
        assert job.work(key=str(leased.pk), clock=clock.FixedClock(at=AT + DAY)) is False
        assert consumer == [event]

    def test_to_nobody_known_fails_and_keeps_the_event(self):
        event = OutboxEvent.objects.create(event_type="x", payload={}, occurred_at=AT)
        OutboxDelivery.objects.create(event=event, consumer="gone")
        assert run_pass(deliveries.DeliveryJob()) == worker.Totals(failed=1)
        delivery = OutboxDelivery.objects.get()
        assert (delivery.delivered_at, delivery.leased_until) == (None, None)
        assert "gone" in WorkFailure.objects.get().error


class TestSweep:
    def test_renews_what_is_due_once_and_passes_test_clocks_by(self):
        row = subscribed()
        other = factories.make_customer(at=AT, test_clock_at=AT)
        factories.subscribe(other, "pro", at=AT)
        shown = StringIO()
        with clock.overridden(clock.FixedClock(at=AT + 32 * DAY)):
            call_command("sweep", "--json", stdout=shown)
            call_command("sweep", stdout=shown)
        assert shown.getvalue() == '{"done": 1, "failed": 0}\n0 done, 0 failed\n'
        renewed = OutboxEvent.objects.filter(event_type="subscription.renewed")
        assert [each.payload["subscription"] for each in renewed] == [str(row.pk)]
        assert renewed.get().occurred_at == datetime(2026, 4, 10, 12, tzinfo=UTC)

    def test_goes_through_a_long_absence_in_bounds(self):
        row = subscribed()
        Subscription.objects.update(price=None)
        plan = factories.make_plan("daily", at=AT, publish=False, price_minor=1)
        plan.versions.get().prices.update(interval="day")
        factories.catalog.publish(
            plan_version_id=plan.versions.get().pk, clock=factories.standing(AT)
        )
        row = factories.subscribe(factories.make_customer(at=AT), "daily", at=AT)
        late = AT + 250 * DAY
        turns = [
            sweeping.settle_free(customer_id=row.customer_id, clock=clock.FixedClock(at=late))
            for _ in range(4)
        ]
        assert turns == [1, 1, 1, 0]
        renewed = OutboxEvent.objects.filter(event_type="subscription.renewed")
        starts = [each.payload["period_starts_at"] for each in renewed]
        assert len(starts) == len(set(starts)) == 250

    def test_of_a_customer_who_is_not_there_does_nothing(self):
        assert sweeping.settle_free(customer_id=uuid4(), clock=clock.FixedClock(at=AT)) == 0


class TestCommand:
    def test_makes_one_pass_and_prints_what_was_done(self, consumer):
        subscribed()
        shown = StringIO()
        with clock.overridden(clock.FixedClock(at=AT + 32 * DAY)):
            call_command("worker", "--once", "--json", stdout=shown)
        assert json.loads(shown.getvalue()) == {"done": 4, "failed": 0}
        with clock.overridden(clock.FixedClock(at=AT + 32 * DAY)):
            call_command("worker", "--seconds", "0.01", stdout=shown)
        assert "0 done, 0 failed" in shown.getvalue()
