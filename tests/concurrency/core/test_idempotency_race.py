"""Double clicks: one subscription, one answer; and a claim that waits too long says so."""

import threading
from collections import Counter
from contextlib import nullcontext

import pytest
from django.db import connection
from uuid_utils.compat import uuid7

from core import clock, db, errors
from core.models import IdempotencyRecord
from core.services import idempotency
from core.services.idempotency import KeyedRequest
from metering.models import UsageEntry
from metering.services import ledger
from subscriptions import errors as subscription_errors
from subscriptions.models import Subscription
from subscriptions.services import lifecycle
from tests import factories
from tests.concurrency import racing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
PARALLEL = 20


@pytest.fixture
def customer(at):
    factories.make_plan("free", at=at)
    factories.make_plan("pro", at=at, rank=1)
    return factories.make_customer(at=at)


def subscribe(customer, key):
    try:
        answer = lifecycle.subscribe(
            customer_id=customer.pk,
            order=lifecycle.Order(plan_key="pro"),
            actor=factories.ACTOR,
            keyed=KeyedRequest(key=key, fingerprint="f"),
            render=lambda row, at: {"id": str(row.pk), "at": clock.rfc3339(at)},
            clock=clock.process_clock(),
        )
    except subscription_errors.SubscriptionExists:
        return "exists"
    return str(answer.body), answer.replayed


class TestControl:
    def test_without_the_customers_lock_all_see_no_live_subscription(self, customer):
        barrier = threading.Barrier(2)

        def look():
            live = Subscription.objects.filter(customer=customer).exists()
            barrier.wait()
            return live

        assert racing.in_threads([look, look]) == [False, False]


class TestSubscribeRace:
    def test_with_one_key_makes_one_subscription_and_equal_answers(self, customer):
        outcomes = racing.in_threads([lambda: subscribe(customer, "k")] * PARALLEL)
        assert len({body for body, _ in outcomes}) == 1
        assert Counter(replayed for _, replayed in outcomes) == {True: PARALLEL - 1, False: 1}
        assert Subscription.objects.count() == IdempotencyRecord.objects.count() == 1

    def test_with_many_keys_makes_one_subscription(self, customer):
        actions = [lambda n=n: subscribe(customer, f"k{n}") for n in range(PARALLEL)]
        outcomes = racing.in_threads(actions)
        assert outcomes.count("exists") == PARALLEL - 1
        assert Subscription.objects.count() == 1


class TestClaim:
    def hold_and_claim(self, insert, *, commit: bool):
        """Return the outcome of a claim while a twin holds the key and then ends."""
        held, ended = threading.Event(), threading.Event()

        def holder():
            expected = nullcontext() if commit else pytest.raises(ZeroDivisionError)
            with expected, db.transaction():
                insert()
                held.set()
                if commit is None:
                    ended.wait(timeout=5)
                if not commit:
                    raise ZeroDivisionError
            return "held"

        def claimer():
            held.wait()
            try:
                with db.transaction():
                    with connection.cursor() as cursor:
                        cursor.execute("SET LOCAL lock_timeout = '200ms'")
                    insert()
            except (errors.IdempotencyInProgress, idempotency.KeyTaken) as refused:
                return type(refused).__name__
            finally:
                ended.set()
            return "claimed"

        return racing.in_threads([holder, claimer])[1]

    @pytest.mark.parametrize(
        ("commit", "outcome"),
        [(True, "KeyTaken"), (None, "IdempotencyInProgress"), (False, "claimed")],
    )
    @pytest.mark.parametrize("family", ["usage", "other"])
    def test_is_taken_waits_or_succeeds_as_its_twin_ends(
        self, customer, at, family, commit, outcome
    ):
        entry = factories.consume(customer, 1, at=at).entries[0]

        def insert_usage():
            copy = UsageEntry.objects.get(pk=entry.pk)
            copy.pk, copy.key = uuid7(), "twin"
            copy._state.adding = True
            ledger.append_step(entries=[copy])

        def insert_other():
            idempotency.claim_step(
                customer_id=customer.pk,
                keyed=KeyedRequest(key="twin", fingerprint="f"),
                status=201,
                body={},
                at=at,
            )

        insert = insert_usage if family == "usage" else insert_other
        assert self.hold_and_claim(insert, commit=commit) == outcome

    def test_that_failed_for_another_reason_is_a_bug_and_no_replay(self, customer):
        def broken():
            raise idempotency.KeyTaken

        with pytest.raises(idempotency.KeyTaken):
            idempotency.once(
                customer_id=customer.pk,
                keyed=KeyedRequest(key="k", fingerprint="f"),
                run=broken,
            )
