"""Group commit under fire: whatever breaks, every waiter is answered and every unit counted once.

`one_group` makes requests meet in one transaction; each fault is shown beside its control.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.db import OperationalError, connection, transaction
from django.db.backends.postgresql.base import DatabaseWrapper

from core import clock
from core import errors as core_errors
from core.services.idempotency import KeyedRequest
from metering import errors, locks
from metering.locks import Wait
from metering.models import Balance, UsageEntry
from metering.services import auditing, combining, consumption, groups, posting
from metering.services.consumption import Wanted
from subscriptions.services import actions
from tests import factories
from tests.concurrency import racing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
LIMIT = 20
SECONDS = 10


@pytest.fixture
def customers():
    factories.make_plan("free", at=STARTED, limits={"api_calls": LIMIT})
    made = [factories.make_customer(at=STARTED) for _ in range(4)]
    for each in made:
        factories.consume(each, 1, at=clock.process_clock().now())
    return made


def asking(customer, key, *, units=1, fingerprint="f"):
    """Return a callable that consumes, and returns what came of it."""
    asked = consumption.Request(
        customer_id=customer.pk,
        wanted=[Wanted(feature_key="api_calls", units=units)],
        keyed=KeyedRequest(key=key, fingerprint=fingerprint),
    )

    def run():
        try:
            return consumption.consume(asked, clock=clock.process_clock())
        except core_errors.DomainError as error:
            return error

    return run


class Gate:
    """Hold back the lone request and the drainer's first group until the others are queued."""

    def __init__(self, monkeypatch) -> None:
        self._decide = groups.decide
        self._open = threading.Event()
        self.sizes: list[int] = []
        monkeypatch.setattr(groups, "decide", self)

    def __call__(self, group, **options):
        self._open.wait(timeout=SECONDS)
        self.sizes.append(len(group))
        return self._decide(group, **options)

    def open_when_queued(self, count: int) -> None:
        deadline = time.monotonic() + SECONDS
        while len(combining._combiner._queue) < count and time.monotonic() < deadline:
            time.sleep(0.001)
        self._open.set()


@pytest.fixture
def one_group(monkeypatch, customers):
    """Run actions so that all of them are decided in one group; return what they return."""

    def run(actions: Sequence[Callable[[], object]]) -> list[object]:
        gate = Gate(monkeypatch)
        outcomes: list[object] = [None] * len(actions)

        def act(number: int) -> None:
            try:
                outcomes[number] = actions[number]()
            finally:
                connection.close()

        def start(target, *arguments) -> threading.Thread:
            thread = threading.Thread(target=target, args=arguments)
            thread.start()
            return thread

        def open_the_way(number: int) -> None:
            try:
                asking(customers[-1], f"way{number}")()
            finally:
                connection.close()

        threads = [start(open_the_way, 0)]
        wait_until(lambda: combining._combiner._is_lone)
        threads.append(start(open_the_way, 1))
        wait_until(lambda: combining._combiner._is_draining and not combining._combiner._queue)
        for number in range(len(actions)):
            threads.append(start(act, number))
            wait_until(lambda: len(combining._combiner._queue) > number)  # noqa: B023 - run at once
        gate.open_when_queued(len(actions))
        for thread in threads:
            thread.join(timeout=SECONDS)
        assert not any(thread.is_alive() for thread in threads)
        assert len(actions) in gate.sizes, gate.sizes
        return outcomes

    return run


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.001)


def used(customer) -> int:
    return Balance.objects.get(customer=customer, is_current=True).used_units


def counted(customer) -> int:
    return UsageEntry.objects.filter(customer=customer, kind="consume").count()


def kinds(outcomes) -> Counter[str]:
    return Counter(
        "granted" if isinstance(each, consumption.Consumed) else type(each).__name__
        for each in outcomes
    )


class TestGroup:
    def test_is_decided_in_turn_exactly_to_the_limit_in_one_transaction(self, customers, one_group):
        first, second = customers[:2]
        asks = [asking(first, f"key{number}") for number in range(LIMIT + 2)]
        outcomes = one_group([*asks, asking(second, "key")])

        assert kinds(outcomes) == {"granted": LIMIT, "UsageLimitReached": 3}
        figures = [each.entries[0].used_units for each in outcomes[: LIMIT - 1]]
        assert figures == list(range(2, LIMIT + 1))
        entries = UsageEntry.objects.filter(customer=first, key__startswith="key")
        assert {(used(first), counted(first)), (used(second), counted(second))} == {
            (LIMIT, LIMIT),
            (2, 2),
        }
        assert len(transactions(entries.filter(kind="consume"))) == 1
        assert entries.filter(kind="denied").count() == 3

    def test_twins_in_it_have_one_effect_and_equal_answers(self, customers, one_group):
        twins = [asking(customers[0], "one", units=3) for _ in range(4)]
        other = asking(customers[0], "one", units=3, fingerprint="another")
        outcomes = one_group([*twins, other])

        assert kinds(outcomes) == {"granted": 4, "IdempotencyKeyReused": 1}
        answers = {
            str([(e.pk, e.used_units, e.consumed_at) for e in o.entries]) for o in outcomes[:4]
        }
        assert len(answers) == 1
        assert Counter(each.replayed for each in outcomes[:4]) == {False: 1, True: 3}
        assert used(customers[0]) == 4

    def test_a_key_that_is_recorded_already_is_replayed_and_the_rest_counted(
        self, customers, one_group
    ):
        before = asking(customers[0], "old", units=2)()
        outcomes = one_group(
            [
                asking(customers[0], "old", units=2),
                *(asking(customers[1], f"k{n}") for n in range(3)),
            ]
        )
        assert outcomes[0].replayed
        assert [each.pk for each in outcomes[0].entries] == [each.pk for each in before.entries]
        assert (used(customers[0]), used(customers[1])) == (3, 4)


def transactions(entries) -> set[int]:
    """Return the ids of the transactions that wrote the entries."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT xmin::text FROM metering_usageentry WHERE id = ANY(%s)",
            [list(entries.values_list("pk", flat=True))],
        )
        return {int(row[0]) for row in cursor.fetchall()}


class Broken:
    """Stand in for a function: fail on groups of several, before or after doing its work."""

    def __init__(self, function, *, error: Exception, does_its_work: bool) -> None:
        self._function, self._error, self._does = function, error, does_its_work
        self.failed = 0

    def __call__(self, *arguments, **named):
        if threading.current_thread().name != "group commit":
            return self._function(*arguments, **named)
        if self._does:
            self._function(*arguments, **named)
        self.failed += 1
        raise self._error


class TestFaults:
    def test_an_error_before_the_commit_reaches_no_waiter_and_each_is_decided_alone(
        self, customers, one_group, monkeypatch
    ):
        broken = Broken(posting.post_step, error=RuntimeError("broken"), does_its_work=True)
        monkeypatch.setattr(posting, "post_step", broken)
        outcomes = one_group([asking(customers[0], f"k{number}") for number in range(5)])

        assert broken.failed
        assert kinds(outcomes) == {"granted": 5}
        assert (used(customers[0]), counted(customers[0])) == (6, 6)

    @pytest.mark.parametrize("is_committed", [True, False])
    def test_a_connection_lost_during_the_commit_is_resolved_by_the_keys(
        self, customers, one_group, monkeypatch, is_committed
    ):
        lost = lose_the_commit(monkeypatch, is_committed=is_committed)
        outcomes = one_group([asking(customers[0], f"k{number}") for number in range(5)])

        assert lost()
        assert kinds(outcomes) == {"granted": 5}
        assert {each.replayed for each in outcomes} == {is_committed}
        assert (used(customers[0]), counted(customers[0])) == (6, 6)

    def test_control_without_the_key_a_lost_answer_is_counted_twice(
        self, customers, one_group, monkeypatch
    ):
        lose_the_commit(monkeypatch, is_committed=True)
        alone = consumption.consume_alone

        def with_a_new_key(request, *, clock):
            keyed = KeyedRequest(key=f"again-{request.keyed.key}", fingerprint="f")
            return alone(replace(request, keyed=keyed), clock=clock)

        monkeypatch.setattr(consumption, "consume_alone", with_a_new_key)
        one_group([asking(customers[0], f"k{number}") for number in range(5)])
        assert used(customers[0]) == 1 + 5 + 5

    def test_a_backend_killed_at_its_lock_loses_nothing(self, customers, one_group, monkeypatch):
        decide_step = groups._decide_step
        killed = []

        def kill_once(group, *, wait):
            if len(group) > 1 and not killed:
                killed.append(True)
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            return decide_step(group, wait=wait)

        monkeypatch.setattr(groups, "_decide_step", kill_once)
        outcomes = one_group([asking(customers[0], f"k{number}") for number in range(5)])
        assert killed
        assert kinds(outcomes) == {"granted": 5}
        assert (used(customers[0]), counted(customers[0])) == (6, 6)

    def test_a_row_that_loses_its_mark_meanwhile_sends_its_requests_the_slow_way(
        self, customers, one_group
    ):
        Balance.objects.filter(customer=customers[0]).update(is_current=False)
        outcomes = one_group(
            [asking(customers[0], "moved"), asking(customers[1], "a"), asking(customers[1], "b")]
        )
        assert kinds(outcomes) == {"granted": 3}
        assert (used(customers[0]), used(customers[1])) == (2, 3)
        assert Balance.objects.filter(customer=customers[0], is_current=True).count() == 1


def lose_the_commit(monkeypatch, *, is_committed: bool) -> Callable[[], int]:
    """Break the group's COMMIT once, with or without its effect; tell how often it broke."""
    broken: list[bool] = []
    several: dict[str, bool] = {}
    commit, decide_step = DatabaseWrapper._commit, groups._decide_step

    def noting(group, *, wait):
        several[threading.current_thread().name] = len(group) > 1
        return decide_step(group, wait=wait)

    def lose(self):
        thread = threading.current_thread().name
        if broken or thread != "group commit" or not several[thread]:
            return commit(self)
        broken.append(True)
        if is_committed:
            commit(self)
        self.connection.close()
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(groups, "_decide_step", noting)
    monkeypatch.setattr(DatabaseWrapper, "_commit", lose)
    return lambda: len(broken)


class TestLockedRow:
    """One customer's row is locked by somebody else for long."""

    def answered_meanwhile(self, customers, one_group) -> list[bool]:
        locked, done, meanwhile = threading.Event(), threading.Event(), []

        def hold():
            with transaction.atomic():
                list(Balance.objects.select_for_update(no_key=True).filter(customer=customers[0]))
                locked.set()
                done.wait(timeout=1.5)
            connection.close()

        holder = threading.Thread(target=hold)
        holder.start()
        locked.wait(timeout=SECONDS)

        def other(key):
            outcome = asking(customers[1], key)()
            meanwhile.append(holder.is_alive())
            return outcome

        try:
            outcomes = one_group(
                [
                    asking(customers[0], "locked1"),
                    asking(customers[0], "locked2"),
                    lambda: other("a"),
                    lambda: other("b"),
                ]
            )
        finally:
            done.set()
            holder.join()
        assert kinds(outcomes) == {"granted": 4}
        assert (used(customers[0]), used(customers[1])) == (3, 3)
        return meanwhile

    def test_the_others_do_not_wait_for_it(self, customers, one_group):
        assert self.answered_meanwhile(customers, one_group) == [True, True]

    def test_control_a_patient_group_makes_all_wait(self, customers, one_group, monkeypatch):
        lock_rows = locks.lock_rows
        monkeypatch.setattr(
            locks, "lock_rows", lambda *, spots, wait: lock_rows(spots=spots, wait=Wait.PATIENTLY)
        )
        assert self.answered_meanwhile(customers, one_group) == [False, False]

    def test_one_that_stays_locked_is_refused_in_time_and_counts_nothing(
        self, customers, one_group
    ):
        with transaction.atomic():
            list(Balance.objects.select_for_update(no_key=True).filter(customer=customers[0]))
            outcomes = one_group(
                [asking(customers[0], "a"), asking(customers[0], "b"), asking(customers[1], "c")]
            )
        assert kinds(outcomes) == {"LockTimeout": 2, "granted": 1}
        assert (used(customers[0]), counted(customers[0])) == (1, 1)
        assert isinstance(asking(customers[0], "a")(), consumption.Consumed)


class TestChangesMeanwhile:
    def test_changes_of_plan_and_cancelling_meanwhile_lose_and_repeat_nothing(self, customers):
        factories.make_plan("pro", at=STARTED, limits={"api_calls": 500})
        customer, stop = customers[0], threading.Event()

        def change() -> list[object]:
            while not stop.is_set():
                now = clock.process_clock().now()
                row = factories.subscribe(customer, "pro", at=now)
                actions.cancel_now(
                    subscription_id=row.pk, actor=factories.ACTOR, clock=clock.process_clock()
                )
            return []

        def consume(thread: int) -> list[object]:
            try:
                return [asking(customer, f"{thread}-{number}")() for number in range(30)]
            finally:
                running.release()

        running = threading.Semaphore(0)

        def supervise() -> list[object]:
            for _ in range(6):
                running.acquire()
            stop.set()
            return []

        threads = [change, supervise, *(lambda n=number: consume(n) for number in range(6))]
        outcomes = [each for found in racing.in_threads(threads) for each in found]

        told = kinds(outcomes)
        assert set(told) <= {"granted", "UsageLimitReached"}
        assert counted(customer) == told["granted"] + 1
        assert auditing.audit()[0] == []


class TestMany:
    @pytest.mark.parametrize("is_grouped", [True, False])
    def test_threads_of_several_processes_with_shared_keys_count_each_once(
        self, customers, is_grouped
    ):
        def run(process: int) -> Counter[str]:
            def one(thread: int) -> Counter[str]:
                outcomes = [
                    asking(customers[number % 2], f"shared{number}")()
                    for number in range(thread, 40, 2)
                ]
                return kinds(outcomes)

            results = racing.in_threads([lambda n=number: one(n % 2) for number in range(8)])
            return sum(results, Counter())

        with factories.group_commit(is_on=is_grouped):
            totals = sum(racing.in_processes(run, count=3), Counter())
        assert sum(totals.values()) == 3 * 8 * 20
        assert set(totals) <= {"granted", "UsageLimitReached"}
        for each in customers[:2]:
            assert (used(each), counted(each)) == (LIMIT, LIMIT)
            assert UsageEntry.objects.filter(customer=each, key__startswith="shared").count() == 20
            assert isinstance(asking(each, "beyond")(), errors.UsageLimitReached)
