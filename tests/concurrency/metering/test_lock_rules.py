"""Show what the rules on locks and time are for, each beside its control."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection, transaction
from uuid_utils.compat import uuid7

from core import clock, db
from core.models import Customer
from metering import errors
from metering.models import Balance, UsageEntry
from tests import factories
from tests.concurrency import racing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
DEADLOCK = "40P01"


@pytest.fixture
def customer(at):
    factories.make_plan("free", at=STARTED, limits={"api_calls": 100})
    customer = factories.make_customer(at=STARTED)
    factories.consume(customer, 10, at=at)
    return customer


class TestNoKeyLocks:
    """A child's deferred foreign key takes KEY SHARE on its parents inside COMMIT."""

    def run(self, customer, *, no_key: bool) -> list[str]:
        """Return the outcomes of two transactions that respect the lock order.

        One locks the balance, then writes an entry, whose foreign key asks for the customer at
        COMMIT. The other locks the customer, then the balance.
        """
        row = Balance.objects.get()
        entry = UsageEntry.objects.get()
        both_locked = threading.Barrier(2)

        def consumer() -> str:
            with transaction.atomic():
                list(Balance.objects.select_for_update(no_key=no_key).filter(pk=row.pk))
                both_locked.wait()
                entry.pk, entry.key = uuid7(), "another"
                entry.save(force_insert=True)
                waiting.wait(timeout=5)
            return "done"

        def changer() -> str:
            with transaction.atomic():
                list(Customer.objects.select_for_update(no_key=no_key).filter(pk=customer.pk))
                both_locked.wait()
                waiting.set()
                list(Balance.objects.select_for_update(no_key=no_key).filter(pk=row.pk))
            return "done"

        waiting = threading.Event()
        return sorted(racing.in_threads([_outcome(consumer), _outcome(changer)]))

    def test_control_plain_for_update_deadlocks(self, customer):
        assert self.run(customer, no_key=False) == [DEADLOCK, "done"]

    def test_no_key_does_not(self, customer):
        assert self.run(customer, no_key=True) == ["done", "done"]


def _outcome(action):
    def run() -> str:
        try:
            return action()
        except OperationalError as error:
            return db.sqlstate(error)

    return run


class SteppingClock:
    """Show one instant before the lock is granted and another afterwards."""

    def __init__(self, *, before: datetime, after: datetime) -> None:
        self.instant, self.after = before, after

    def now(self) -> datetime:
        return self.instant

    def step(self) -> None:
        self.instant = self.after


def consume_while_locked(customer, stepping, *, change=lambda: None):
    """Consume in one thread while another holds the balance, lets time pass, and lets go."""
    held, done = threading.Event(), threading.Event()

    def holder():
        with transaction.atomic():
            list(Balance.objects.select_for_update(no_key=True).filter(is_current=True))
            held.set()
            _await_waiter()
            change()
            stepping.step()
        done.set()

    def waiter():
        held.wait()
        keyed = factories.idempotency.KeyedRequest(key="late", fingerprint="f")
        asked = factories.consumption.Request(
            customer_id=customer.pk,
            wanted=[factories.consumption.Wanted(feature_key="api_calls", units=1)],
            keyed=keyed,
        )
        try:
            return factories.consumption.consume(asked, clock=stepping).entries[0]
        except errors.UsageDenied as denied:
            return denied

    return racing.in_threads([holder, waiter])[1]


def _await_waiter() -> None:
    """Return once another backend waits for a lock, at most five seconds later."""
    for _ in range(500):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
        time.sleep(0.01)
    message = "nobody waits for the lock"
    raise AssertionError(message)


class TestTimeAfterTheLock:
    def test_a_request_that_waited_past_the_period_counts_in_the_new_one(self, customer):
        stepping = SteppingClock(
            before=datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC),
            after=datetime(2026, 4, 1, tzinfo=UTC),
        )

        entry = consume_while_locked(customer, stepping)

        assert entry.consumed_at == stepping.after
        assert entry.period_starts_at == datetime(2026, 4, 1, tzinfo=UTC)
        assert sorted(Balance.objects.values_list("used_units", "is_current")) == [
            (1, True),
            (10, False),
        ]

    def test_control_the_time_before_the_lock_would_count_in_the_old_one(self, customer):
        before = datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC)
        entry = factories.consume(customer, 1, at=before).entries[0]
        assert entry.period_starts_at == STARTED

    def test_a_request_that_waited_past_a_lower_limit_is_refused_by_it(self, customer, at):
        stepping = SteppingClock(before=at, after=at + timedelta(seconds=1))

        def lower():
            Balance.objects.filter(is_current=True).update(limit_units=10, ceiling_units=10)

        denied = consume_while_locked(customer, stepping, change=lower)

        assert isinstance(denied, errors.UsageLimitReached)
        assert (denied.facts()["limit"], denied.facts()["used"]) == (10, 10)
        assert Balance.objects.get().used_units == 10

    def test_a_decision_is_never_earlier_than_the_last_one_on_its_row(self, customer, at):
        entry = factories.consume(customer, 1, at=at - timedelta(hours=1)).entries[0]
        assert entry.consumed_at == at


class TestLockOrder:
    def test_refuses_a_lower_lock_after_a_higher_one(self, customer):
        with db.transaction():
            db.note_lock(rank=db.LockRank.BALANCE, key="")
            with pytest.raises(db.LockOrderViolated):
                db.note_lock(rank=db.LockRank.CUSTOMER, key=str(customer.pk))

    def test_starts_anew_in_the_next_transaction(self, customer):
        with db.transaction():
            db.note_lock(rank=db.LockRank.BALANCE, key="")
        with db.transaction():
            db.note_lock(rank=db.LockRank.CUSTOMER, key=str(customer.pk))

    def test_two_plan_changes_and_a_storm_of_consumes_never_deadlock(self, customer):
        factories.make_plan("a", at=STARTED, limits={"api_calls": 10_000}, rank=1)
        now = clock.process_clock().now()

        def changer():
            for _ in range(10):
                row = factories.subscribe(customer, "a", at=now)
                factories.lifecycle.cancel_now(
                    subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(now)
                )
            return 10

        def consumer():
            granted = 0
            for _ in range(30):
                try:
                    factories.consume(customer, 1, at=now)
                    granted += 1
                except errors.UsageLimitReached:
                    continue
            return granted

        before = _deadlocks()
        outcomes = racing.in_threads([changer, consumer, consumer, consumer])

        assert _deadlocks() == before
        counted = sum(Balance.objects.values_list("used_units", flat=True))
        assert counted == 10 + sum(outcomes[1:])


def _deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return cursor.fetchone()[0]
