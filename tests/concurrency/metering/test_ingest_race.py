"""Race ingesters: twins, opposite orders, a stuck customer, and kill −9 on the way."""

import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.db import OperationalError, connection, connections
from django.db.models import Count, Sum

from benchmarks import _streams as streams
from core import clock, db, errors
from metering.models import Balance, Meter, MeterEvent, UsageEntry
from metering.services import arrivals, claims, ingest, meters
from tests import factories
from tests.concurrency import racing

pytestmark = pytest.mark.django_db(transaction=True)
AT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
STANDING = clock.FixedClock(at=AT)
THREADS, EVENTS, KILLS = 8, 400, 6


@pytest.fixture(params=["", "api_calls"], ids=["plain", "feeding"])
def stream(request):
    """Return a stream for a meter that feeds nothing, or the usage of a feature."""
    if request.param:
        factories.make_plan("free", at=STARTED, limits={"api_calls": 10})
    definition = replace(streams.METER, feature_key=request.param)
    meters.define(definition, clock=STANDING)
    customers = [factories.make_customer(at=STARTED) for _ in range(7)]
    return streams.Stream.of(size=EVENTS, customer_ids=[each.pk for each in customers], at=AT)


def counted():
    """Return the events and units of each customer, as the database adds them."""
    rows = MeterEvent.objects.values("customer_id").annotate(events=Count("id"), units=Sum("value"))
    return {row["customer_id"]: (row["events"], row["units"]) for row in rows}


def check(stream):
    """Compare events, units, and usage where the meter feeds it, with plain Python."""
    expected = stream.expected()
    assert counted() == expected
    if Meter.objects.get().feature_id is not None:
        used = dict(Balance.objects.values_list("customer_id", "used_units"))
        assert used == {customer_id: units for customer_id, (_, units) in expected.items()}
        recounted = UsageEntry.objects.values("customer_id").annotate(units=Sum("units"))
        assert {row["customer_id"]: row["units"] for row in recounted} == used


def rows_of(stream, numbers):
    """Return the rows that claim the events of the numbers."""
    return [
        claims.Row(
            customer_id=event.customer_id,
            source=event.source,
            event_id=event.event_id,
            item=0,
            event_type=event.event_type,
            occurred_at=AT,
            received_at=AT,
            position=position,
            meter_id=None,
            value=1,
            text=None,
            groups={},
        )
        for position, event in enumerate(stream.event(number) for number in numbers)
    ]


class TestControl:
    """The races, with what prevents them taken away."""

    @pytest.mark.postgres
    def test_without_the_claim_twins_both_find_the_event_uncounted(self, stream):
        key = stream.event(1).key
        barrier = threading.Barrier(2)

        def unclaimed():
            is_new = key not in claims.find_claimed(keys={key})
            barrier.wait()
            return is_new

        assert racing.in_threads([unclaimed, unclaimed]) == [True, True]

    @pytest.mark.postgres
    def test_without_their_order_claims_wait_in_a_circle(self, stream):
        barrier = threading.Barrier(2)

        def claim_in(order):
            def run():
                try:
                    with db.transaction():
                        claims._insert_unclaimed(rows_of(stream, order[:1]))
                        barrier.wait()
                        claims._insert_unclaimed(rows_of(stream, order[1:]))
                except OperationalError as error:
                    return db.sqlstate(error)
                return ""

            return run

        outcomes = racing.in_threads([claim_in([1, 2]), claim_in([2, 1])])
        assert Counter(outcomes) == {"": 1, db.DEADLOCK_DETECTED: 1}


class TestIngestRace:
    @pytest.mark.postgres
    def test_of_twins_in_any_order_counts_each_event_once(self, stream):
        repeated = []

        def sent(seed):
            numbers = list(stream.numbers)
            random.Random(seed).shuffle(numbers)

            def run():
                events = [stream.event(number) for number in numbers]
                while True:
                    try:
                        found = ingest.ingest(events=events, clock=STANDING)
                    except (errors.LockTimeout, errors.Unavailable):
                        repeated.append(seed)  # a busy machine: the same again, as told
                    else:
                        return Counter(outcome.result for outcome in found)

            return run

        totals = sum(racing.in_threads([sent(seed) for seed in range(THREADS)]), Counter())

        check(stream)
        expected = stream.expected()
        stored = sum(events for events, _ in expected.values())
        assert totals[arrivals.Result.COUNTED] == stored or repeated
        assert sum(totals.values()) == THREADS * EVENTS

    @pytest.mark.postgres
    def test_counts_the_others_where_one_customers_twin_is_stuck(self, stream):
        numbers = [number for number in range(30) if not streams.is_late(number)][:14]
        stuck_id = stream.event(numbers[0]).customer_id
        events = [stream.event(number) for number in numbers]
        holding, release = threading.Event(), threading.Event()

        def hold():
            try:
                with db.transaction():
                    claims.claim_step(rows=rows_of(stream, numbers[:1]))
                    holding.set()
                    release.wait(30)
                    raise InterruptedError  # noqa: TRY301 - leaving the block rolls it back
            except InterruptedError:
                return
            finally:
                connections.close_all()

        holder = threading.Thread(target=hold)
        holder.start()
        holding.wait(10)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '100ms'")
        try:
            with pytest.raises(errors.LockTimeout):
                ingest.ingest(events=events, clock=STANDING)
        finally:
            release.set()
            holder.join()
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")

        assert stuck_id not in counted()
        assert len(counted()) == 6
        again = ingest.ingest(events=events, clock=STANDING)
        assert {
            (event.customer_id == stuck_id, outcome.result)
            for event, outcome in zip(events, again, strict=True)
        } == {(True, arrivals.Result.COUNTED), (False, arrivals.Result.DUPLICATE)}

    def test_killed_on_the_way_and_sent_again_is_exact_to_the_unit(self, stream):
        """The short form of `python -m benchmarks ingest`: duplicates, late, invalid, kill −9."""
        connections.close_all()
        if hasattr(connection, "close_pool"):
            connection.close_pool()
        context = multiprocessing.get_context("fork")
        # no lock around it: who is killed inside one takes it along
        done = context.Value("i", 0, lock=False)
        batches = [stream.numbers[start : start + 20] for start in range(0, EVENTS, 20)]

        def send():
            while done.value < len(batches):
                batch = batches[done.value]
                events = [stream.event(number) for number in batch]
                ingest.ingest(events=events, clock=STANDING)
                done.value += 1

        chance, kills = random.Random(3), 0
        while done.value < len(batches):
            process = context.Process(target=send)
            process.start()
            if kills < KILLS:
                reached = done.value
                while done.value == reached and process.is_alive():
                    time.sleep(0.001)
                time.sleep(chance.random() * 0.02)
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
            process.join(60)
        assert kills == KILLS
        check(stream)
