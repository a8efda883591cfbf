"""Many threads consume, hold, capture and release on one limit: never over it, exact at the end."""

import threading
from collections import Counter
from datetime import UTC, datetime

import pytest
from django.db import connection

from core import clock
from core import errors as core_errors
from core.services.idempotency import KeyedRequest
from metering import decision, errors
from metering.models import Balance, Hold
from metering.services import auditing, consumption, endings, granting, holds
from metering.services.consumption import For, Request, Wanted
from tests import factories
from tests.concurrency import racing

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
LIMIT, GRANTED, THREADS, TURNS = 300, 60, 64, 6


@pytest.fixture
def customer():
    factories.make_plan("free", at=STARTED, limits={"api_calls": LIMIT})
    return factories.make_customer(at=STARTED)


def asked(customer, units, key) -> Request:
    return Request(
        customer_id=customer.pk,
        wanted=[Wanted(feature_key="api_calls", units=units)],
        keyed=KeyedRequest(key=key, fingerprint="f"),
        used_by=For(),
    )


def patiently(action):
    """Repeat what the database was too busy for, as its answer says."""
    while True:
        try:
            return action()
        except (core_errors.LockTimeout, core_errors.Unavailable):
            continue


class Worker:
    """One thread's turns; counts what it was told to be used."""

    def __init__(self, customer, number: int) -> None:
        self.customer, self.number = customer, number

    def __call__(self) -> Counter:
        told: Counter = Counter()
        for turn in range(TURNS):
            units, key = 1 + (self.number + turn) % 5, f"{self.number}-{turn}"
            try:
                told[self.turn(turn, units, key)] += units
            except errors.UsageLimitReached:
                told["denied"] += 1
        return told

    def turn(self, turn: int, units: int, key: str) -> str:
        process_clock = clock.process_clock()
        request = asked(self.customer, units, key)
        if turn % 3 == 0:
            patiently(lambda: consumption.consume(request, clock=process_clock))
            return "used"
        held = patiently(lambda: holds.create(request, ttl_seconds=600, clock=process_clock))
        ending = endings.Ending(
            customer_id=self.customer.pk,
            hold_id=held.entries[0].hold_id,
            keyed=KeyedRequest(key=f"end-{key}", fingerprint="f"),
        )
        end = endings.capture if turn % 3 == 1 else endings.release
        patiently(lambda: end(ending, clock=process_clock))
        return "used" if turn % 3 == 1 else "released"


def sample(stop: threading.Event, seen: list[tuple[int, int]]):
    def run():
        while not stop.is_set():
            rows = Balance.objects.values_list("used_units", "held_units", "limit_units")
            seen.extend((used + held, limit) for used, held, limit in rows)
            stop.wait(0.01)

    return run


def deadlocks() -> int:
    """Return how many the database has counted; other tests provoke some on purpose."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return cursor.fetchone()[0]


class TestMixedRace:
    def test_control_two_holds_decided_without_the_lock_exceed_the_limit(self, customer):
        factories.consume(customer, LIMIT - 5, at=clock.process_clock().now())
        barrier = threading.Barrier(2)

        def unlocked():
            row = Balance.objects.get(is_current=True)
            barrier.wait()
            return decision.headroom_units(row, added_units=0) >= 5

        assert racing.in_threads([unlocked, unlocked]) == [True, True]

    @pytest.mark.parametrize(("with_grants", "is_grouped"), [(False, True), (True, False)])
    def test_is_never_over_the_limit_and_exact_at_the_end(self, customer, with_grants, is_grouped):
        with factories.group_commit(is_on=is_grouped):
            self.race(customer, with_grants=with_grants)

    def race(self, customer, *, with_grants: bool) -> None:
        limit = LIMIT
        if with_grants:
            limit += GRANTED
            granting.create(
                customer_id=customer.pk,
                order=granting.Order(feature_key="api_calls", units=GRANTED, priority=1),
                actor=factories.ACTOR,
                keyed=KeyedRequest(key="grant", fingerprint="f"),
                render=lambda made: {"id": str(made.pk)},
                clock=clock.process_clock(),
            )
        before = deadlocks()
        stop, seen = threading.Event(), []
        sampler = threading.Thread(target=racing.closing(sample(stop, seen)))
        sampler.start()
        told = sum(racing.in_threads([Worker(customer, n) for n in range(THREADS)]), Counter())
        stop.set()
        sampler.join()

        row = Balance.objects.get()
        assert (row.used_units, row.held_units) == (told["used"], 0)
        assert row.limit_units == limit
        assert all(counted <= bound for counted, bound in seen)
        assert not Hold.objects.filter(state=Hold.State.LIVE).exists()
        assert auditing.audit()[0] == []
        assert deadlocks() == before
