"""Never over the limit, counted exactly once: with the lock taken away, both races show."""

import threading
from collections import Counter
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, transaction

from core import clock, db
from core import errors as core_errors
from core.services.idempotency import KeyedRequest
from metering import errors, locks
from metering.decision import Place
from metering.models import Balance, UsageEntry
from metering.services import consumption
from metering.services.consumption import Consumed, Wanted
from tests import factories
from tests.concurrency import racing

pytestmark = pytest.mark.django_db(transaction=True)
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
LIMIT, PROCESSES, ATTEMPTS_EACH, TWINS = 100, 16, 100, 20
ON_AND_OFF = [pytest.param(True, marks=pytest.mark.postgres), False]  # SQLite knows no groups


@pytest.fixture
def customer():
    factories.make_plan("free", at=STARTED, limits={"api_calls": LIMIT})
    return factories.make_customer(at=STARTED)


def attempt(customer_id, key, *, units=1):
    asked = consumption.Request(
        customer_id=customer_id,
        wanted=[Wanted(feature_key="api_calls", units=units)],
        keyed=KeyedRequest(key=key, fingerprint="f"),
    )
    while True:
        try:
            return consumption.consume(asked, clock=clock.process_clock())
        except errors.UsageDenied as denied:
            return denied
        except core_errors.LockTimeout:
            continue  # SQLite's writers queue for a file: a busy answer is repeated, as told


def attempts_of(customer_id):
    def run(number):
        outcomes = [attempt(customer_id, f"{number}-{each}") for each in range(ATTEMPTS_EACH)]
        return Counter(
            "granted" if isinstance(each, Consumed) else type(each).__name__ for each in outcomes
        )

    return run


class TestControl:
    """The races, with what prevents them taken away."""

    @pytest.mark.postgres
    def test_without_the_lock_more_than_the_limit_is_granted(self, customer):
        factories.consume(customer, LIMIT - 1, at=clock.process_clock().now())

        barrier = threading.Barrier(2)

        def unlocked():
            row = Balance.objects.get(is_current=True)
            barrier.wait()
            return row.used_units + 1 <= row.limit_units

        assert racing.in_threads([unlocked, unlocked]) == [True, True]

    @pytest.mark.postgres
    def test_without_relative_writes_a_unit_is_lost_silently(self, customer):
        factories.consume(customer, 1, at=clock.process_clock().now())
        barrier = threading.Barrier(2)

        def absolute():
            row = Balance.objects.get(is_current=True)
            barrier.wait()
            row.used_units += 1
            row.save(update_fields=["used_units"])

        racing.in_threads([absolute, absolute])
        assert Balance.objects.get().used_units == 2  # 1 + 1 + 1 would be 3

    @pytest.mark.postgres
    def test_without_the_claim_twins_count_twice(self, customer):
        factories.consume(customer, 1, at=clock.process_clock().now())

        def keyless():
            with db.transaction():
                place = Place(Balance.objects.get().feature_id, "")
                rows = locks.lock_current_balances(customer_id=customer.pk, places={place})
                rows[0].used_units += 1
                rows[0].save(update_fields=["used_units"])

        racing.in_threads([keyless, keyless])
        assert Balance.objects.get().used_units == 3


class TestConsumeRace:
    @pytest.mark.parametrize("is_grouped", ON_AND_OFF)
    def test_sixteen_processes_are_granted_the_limit_exactly(self, customer, is_grouped):
        totals = Counter()
        with factories.group_commit(is_on=is_grouped):
            for counted in racing.in_processes(attempts_of(customer.pk), count=PROCESSES):
                totals += counted

        assert totals == {
            "granted": LIMIT,
            "UsageLimitReached": PROCESSES * ATTEMPTS_EACH - LIMIT,
        }
        assert Balance.objects.get().used_units == LIMIT
        assert UsageEntry.objects.filter(kind="consume").count() == LIMIT
        assert UsageEntry.objects.filter(kind="denied").count() == totals["UsageLimitReached"]

    @pytest.mark.parametrize("is_grouped", ON_AND_OFF)
    def test_twenty_threads_with_one_key_have_one_effect_and_equal_answers(
        self, customer, is_grouped
    ):
        def twin():
            outcome = attempt(customer.pk, "one", units=7)
            return [
                (entry.pk, entry.used_units, entry.consumed_at) for entry in outcome.entries
            ], outcome.replayed

        with factories.group_commit(is_on=is_grouped):
            outcomes = racing.in_threads([twin] * TWINS)

        assert len({str(figures) for figures, _ in outcomes}) == 1
        assert Counter(replayed for _, replayed in outcomes) == {True: TWINS - 1, False: 1}
        assert Balance.objects.get().used_units == 7
        assert UsageEntry.objects.count() == 1

    @pytest.mark.postgres
    def test_a_twin_of_another_feature_waits_for_the_claim_and_is_refused(self, customer):
        """One key, two rows: only the claim's unique index stands between them."""
        factories.make_feature("exports", at=STARTED)
        factories.make_plan("other", at=STARTED, limits={"exports": 5})
        first = attempt(customer.pk, "one")
        assert len(first.entries) == 1

        asked = consumption.Request(
            customer_id=customer.pk,
            wanted=[Wanted(feature_key="exports", units=1)],
            keyed=KeyedRequest(key="one", fingerprint="another"),
        )
        with pytest.raises(core_errors.IdempotencyKeyReused):
            consumption.consume(asked, clock=clock.process_clock())
        assert UsageEntry.objects.count() == 1

    def test_the_check_is_a_second_guard_where_the_lock_is_gone(self, customer):
        factories.consume(customer, LIMIT, at=clock.process_clock().now())
        row = Balance.objects.get()
        with (
            pytest.raises(IntegrityError, match="balance_within_ceiling"),
            transaction.atomic(),
        ):
            Balance.objects.filter(pk=row.pk).update(used_units=LIMIT + 1)
        assert Balance.objects.get().used_units == LIMIT
