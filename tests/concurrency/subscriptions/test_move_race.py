"""A hundred at once by one customer: one live subscription, one effect a key, no deadlock.

Set RACERS to 100 for the long run.
"""

import itertools
import os
import threading
from collections import Counter
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, transaction

from core import clock
from core import errors as core_errors
from core.errors import DomainError
from core.models import IdempotencyRecord, OutboxEvent
from core.services.idempotency import KeyedRequest
from subscriptions.models import Subscription, TimelineEntry
from subscriptions.services import actions, changes, lifecycle, moves
from subscriptions.services.changes import ChangeOrder
from tests import factories
from tests.concurrency import racing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
RACERS = int(os.environ.get("RACERS", "24"))
LIVE = Subscription.SLOT_STATUSES


@pytest.fixture
def customer():
    factories.make_plan("free", at=STARTED)
    for rank, key in enumerate(("basic", "pro", "max"), start=1):
        factories.make_plan(key, at=STARTED, rank=rank)
    return factories.make_customer(at=STARTED)


@pytest.fixture
def basic(customer) -> Subscription:
    return factories.subscribe(customer, "basic", at=clock.process_clock().now())


def keyed(key: str) -> KeyedRequest:
    return KeyedRequest(key=key, fingerprint="f")


def outcome(action) -> str:
    """Return what a racer got: a refusal's code, or what the action returned."""
    while True:
        try:
            return action() or "done"
        except core_errors.LockTimeout:
            continue
        except DomainError as refusal:
            return refusal.code


def race(make_action) -> Counter:
    """Let all racers act together, a few per thread, and count what they got."""
    threads = 12
    deadlocks = deadlock_count()

    def several(number: int):
        mine = range(number, RACERS, threads)
        return lambda: [outcome(make_action(each)) for each in mine]

    results = racing.in_threads([several(number) for number in range(threads)])
    assert deadlock_count() == deadlocks
    return Counter(each for some in results for each in some)


def deadlock_count() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def own(customer, action, number, *, key=None):
    return lambda: (
        "replayed"
        if moves.run_own(
            customer_id=customer.pk,
            action=action,
            keyed=keyed(key or f"k{number}"),
            render=lambda row, _: {"status": row.status},
            clock=clock.process_clock(),
        ).replayed
        else "done"
    )


class TestControl:
    def test_without_the_customers_lock_two_see_the_slot_free(self, customer):
        barrier = threading.Barrier(2)

        def unlocked():
            rows = list(Subscription.objects.filter(customer=customer))
            barrier.wait()
            return lifecycle.has_live(rows, plan_group_id=factories.make_group().pk)

        assert racing.in_threads([unlocked, unlocked]) == [False, False]

    def test_without_the_customers_lock_an_upgrade_is_lost(self, basic):
        barrier = threading.Barrier(2)

        def unlocked(quantity, status):
            def act():
                row = Subscription.objects.get(pk=basic.pk)
                barrier.wait()
                row.quantity, row.status = quantity or row.quantity, status or row.status
                row.save()

            return act

        racing.in_threads([unlocked(7, None), unlocked(None, "paused")])
        row = Subscription.objects.get(pk=basic.pk)
        assert (row.quantity, row.status) != (7, "paused")

    def test_the_index_is_a_second_guard_where_the_lock_is_gone(self, basic):
        basic.pk = None
        with pytest.raises(IntegrityError, match="one_live"), transaction.atomic():
            basic.save(force_insert=True)


@pytest.mark.timeout(600)
class TestDifferentKeys:
    def test_subscribe_once(self, customer):
        def subscribing(number):
            return lambda: factories.subscribe(customer, "basic", at=STARTED) and "done"

        assert race(subscribing) == {"done": 1, "subscription_exists": RACERS - 1}
        assert Subscription.objects.filter(status__in=LIVE).count() == 1

    def test_upgrade_to_one_plan_once(self, basic):
        def upgrading(number):
            return lambda: (
                changes.change(
                    subscription_id=basic.pk,
                    order=ChangeOrder(plan_key="max"),
                    actor=factories.ACTOR,
                    clock=clock.process_clock(),
                )
                and "done"
            )

        assert race(upgrading) == {"done": 1, "invalid": RACERS - 1}
        told = OutboxEvent.objects.filter(event_type="subscription.plan_changed")
        assert [each.payload["kind"] for each in told] == ["upgrade"]

    def test_cancel_once_and_repeat_without_effect(self, customer, basic):
        action = actions.cancelling_now(actor=factories.ACTOR)
        assert race(lambda number: own(customer, action, number)) == {"done": RACERS}
        assert TimelineEntry.objects.filter(event="cancel_now").count() == 1

    def test_pause_once(self, customer, basic):
        action = actions.pausing(actor=factories.ACTOR)
        assert race(lambda number: own(customer, action, number)) == {
            "done": 1,
            "invalid_transition": RACERS - 1,
        }

    def test_of_all_kinds_leave_one_live_subscription_and_a_whole_timeline(self, customer, basic):
        def mixed(number):
            kinds = [
                lambda: factories.subscribe(customer, "pro", at=STARTED) and "done",
                own(customer, actions.cancelling_now(actor=factories.ACTOR), number),
                own(customer, actions.pausing(actor=factories.ACTOR), number),
                own(customer, actions.resuming(actor=factories.ACTOR), number),
                lambda: factories.consume(customer, 1, at=clock.process_clock().now()) and "done",
            ]
            return kinds[number % len(kinds)]

        race(mixed)
        assert Subscription.objects.filter(status__in=LIVE).count() <= 1
        for row in Subscription.objects.all():
            steps = list(row.timeline.order_by("id").values_list("from_status", "to_status"))
            assert steps[0][0] == ""
            assert steps[-1][1] == row.status
            for before, after in itertools.pairwise(steps):
                assert before[1] == after[0]


@pytest.mark.timeout(600)
class TestOneKey:
    @pytest.mark.parametrize("name", ["cancelling_now", "pausing", "cancelling_at_period_end"])
    def test_has_one_effect(self, customer, basic, name):
        action = getattr(actions, name)(actor=factories.ACTOR)
        counted = race(lambda number: own(customer, action, number, key="one"))
        assert counted == {"done": 1, "replayed": RACERS - 1}
        assert TimelineEntry.objects.exclude(event="subscribed").count() == 1
        assert IdempotencyRecord.objects.filter(key="one").count() == 1

    def test_pays_once(self, customer):
        factories.make_plan("paid", at=STARTED, rank=9, price_minor=900)
        now = clock.process_clock().now()
        row = factories.subscribe(customer, "paid", at=now, pay=False)

        def paying(_):
            return lambda: (
                "replayed"
                if moves.run_once(
                    subscription_id=row.pk,
                    action=lifecycle.marking_paid(actor=factories.ACTOR),
                    keyed=keyed("one"),
                    render=lambda paid, _: {"status": paid.status},
                    clock=clock.process_clock(),
                ).replayed
                else "done"
            )

        assert race(paying) == {"done": 1, "replayed": RACERS - 1}
        assert TimelineEntry.objects.filter(event="payment_succeeded").count() == 1
        assert IdempotencyRecord.objects.filter(key="one").count() == 1

    def test_has_one_effect_for_a_change_too(self, customer, basic):
        def act(locked, row):
            plan = changes.plan_step(locked, row=row, order=ChangeOrder(plan_key="max"))
            changes.change_step(locked, plan=plan, actor=factories.ACTOR)

        counted = race(lambda number: own(customer, act, number, key="one"))
        assert counted == {"done": 1, "replayed": RACERS - 1}
        assert OutboxEvent.objects.filter(event_type="subscription.plan_changed").count() == 1
