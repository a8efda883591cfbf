"""A hundred at once: one invoice, one payment, no coupon too many, no number missed, no deadlock.

Set RACERS to 100 for the long run.
"""

import os
import threading
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection

from billing.models import Coupon, Invoice, InvoiceLine, Issuer, MrrMovement, Payment, Redemption
from billing.services import changing, coupons, issuing, payments, subscribing
from core import clock
from core import errors as core_errors
from core.errors import DomainError
from core.services.idempotency import KeyedRequest
from subscriptions.models import Subscription
from subscriptions.services import lifecycle
from subscriptions.services.changes import ChangeOrder
from tests import factories, till
from tests.concurrency import racing
from tests.till import STARTED

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgres,
    pytest.mark.timeout(600),
]
RACERS = int(os.environ.get("RACERS", "24"))
THREADS = 12
LATER = factories.standing(STARTED + timedelta(days=10))


@pytest.fixture
def customer():
    till.make_catalog()
    return factories.make_customer(at=STARTED)


@pytest.fixture
def active(customer) -> Subscription:
    return till.Till(customer).subscribe("pro", STARTED)


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
    before = deadlocks()

    def several(number: int):
        mine = range(number, RACERS, THREADS)
        return lambda: [outcome(make_action(each)) for each in mine]

    results = racing.in_threads([several(number) for number in range(THREADS)])
    assert deadlocks() == before
    return Counter(each for some in results for each in some)


def deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def changing_to(customer, plan_key: str, *, key: str):
    def act() -> str:
        answer = changing.change(
            customer_id=customer.pk,
            order=ChangeOrder(plan_key=plan_key),
            proration_at=None,
            actor=factories.ACTOR,
            keyed=KeyedRequest(key=key, fingerprint="f"),
            render=lambda quote: {"due": quote.due_now_minor},
            clock=LATER,
        )
        return "replayed" if answer.replayed else "done"

    return act


class TestControl:
    def test_without_the_issuers_lock_two_invoices_get_one_number(self):
        Issuer.objects.create(key="default", name="x")
        barrier = threading.Barrier(2)

        def unlocked() -> int:
            issuer = Issuer.objects.get(key="default")
            barrier.wait()
            issuer.invoices += 1
            issuer.save()
            return issuer.invoices

        assert racing.in_threads([unlocked, unlocked]) == [1, 1]

    def test_without_the_customers_lock_two_see_the_invoice_unpaid(self, customer):
        factories.subscribe(customer, "pro", at=STARTED, pay=False)
        (invoice,) = till.Till(customer).issue(STARTED)
        barrier = threading.Barrier(2)

        def unlocked() -> str:
            status = Invoice.objects.get(pk=invoice.pk).status
            barrier.wait()
            return status

        assert racing.in_threads([unlocked, unlocked]) == ["open", "open"]

    def test_without_the_condition_a_coupon_is_redeemed_once_too_often(self):
        Coupon.objects.create(
            key="c", name="c", percent_off=1, duration="once", redemptions_max=1, created_at=STARTED
        )
        barrier = threading.Barrier(2)

        def unconditional() -> bool:
            coupon = Coupon.objects.get()
            barrier.wait()
            return coupon.redemptions < (coupon.redemptions_max or 0)

        assert racing.in_threads([unconditional, unconditional]) == [True, True]


class TestChange:
    def test_with_many_keys_is_billed_once(self, customer, active):
        counted = race(lambda number: changing_to(customer, "team", key=f"k{number}"))
        assert counted == {"done": 1, "invalid": RACERS - 1}
        assert InvoiceLine.objects.filter(kind="charge").count() == 1
        assert sorted(Invoice.objects.values_list("number", flat=True)) == [1, 2]
        assert MrrMovement.objects.count() == 2

    def test_with_one_key_is_billed_once_and_answered_alike(self, customer, active):
        counted = race(lambda _: changing_to(customer, "team", key="one"))
        assert counted == {"done": 1, "replayed": RACERS - 1}
        assert InvoiceLine.objects.filter(kind="charge").count() == 1


class TestSubscribe:
    def test_with_many_keys_leaves_one_first_invoice(self, customer):
        def subscribing_as(number):
            def act() -> str:
                subscribing.subscribe(
                    customer_id=customer.pk,
                    order=lifecycle.Order(plan_key="pro"),
                    coupon_key=None,
                    actor=factories.ACTOR,
                    keyed=KeyedRequest(key=f"k{number}", fingerprint="f"),
                    render=lambda row, *_: {"id": str(row.pk)},
                    clock=factories.standing(STARTED),
                )
                return "done"

            return act

        assert race(subscribing_as) == {"done": RACERS}
        assert Invoice.objects.filter(status="open").count() == 1
        numbers = Invoice.objects.filter(number__isnull=False).values_list("number", flat=True)
        assert sorted(numbers) == list(range(1, len(numbers) + 1))


class TestPayment:
    @pytest.mark.parametrize("reference", ["bank 7", ""])
    def test_closes_an_invoice_once(self, customer, reference):
        factories.subscribe(customer, "pro", at=STARTED, pay=False)
        (invoice,) = till.Till(customer).issue(STARTED)

        def paying(_):
            def act() -> str:
                payments.mark(
                    invoice_id=invoice.pk,
                    status="succeeded",
                    reference=reference,
                    actor=factories.ACTOR,
                    clock=factories.standing(STARTED),
                )
                return "done"

            return act

        expected = {"done": RACERS} if reference else {"done": 1, "invoice_closed": RACERS - 1}
        assert race(paying) == expected
        assert Payment.objects.count() == 1
        assert Subscription.objects.get().status == "active"

    def test_under_one_key_is_marked_once_and_answered_alike(self, customer):
        factories.subscribe(customer, "pro", at=STARTED, pay=False)
        (invoice,) = till.Till(customer).issue(STARTED)

        def paying(_):
            def act() -> str:
                answer = payments.mark_once(
                    invoice_id=invoice.pk,
                    marked=payments.Mark(status="succeeded"),
                    actor=factories.ACTOR,
                    keyed=KeyedRequest(key="one", fingerprint="f"),
                    render=lambda paid: {"status": paid.status},
                    clock=factories.standing(STARTED),
                )
                assert answer.body == {"status": "paid"}
                return "replayed" if answer.replayed else "done"

            return act

        assert race(paying) == {"done": 1, "replayed": RACERS - 1}
        assert Payment.objects.count() == 1


class TestIssue:
    def test_by_many_at_once_leaves_no_gap(self):
        till.make_catalog()
        for _ in range(RACERS):
            customer = factories.make_customer(at=STARTED)
            factories.subscribe(customer, "pro", at=STARTED, pay=False)
        drafts = list(Invoice.objects.values_list("id", flat=True))

        def issuing_all(number):
            own = drafts[number:] + drafts[:number]
            return lambda: (
                [issuing.issue(invoice_id=each, clock=factories.standing(STARTED)) for each in own]
                and "done"
            )

        race(issuing_all)
        numbers = Invoice.objects.values_list("number", flat=True)
        assert sorted(numbers) == list(range(1, RACERS + 1))
        assert Issuer.objects.get().invoices == RACERS


class TestCoupon:
    def test_is_redeemed_as_often_as_it_may(self):
        till.make_catalog()
        coupons.create(
            coupon=Coupon(key="C", name="C", percent_off=10, duration="once", redemptions_max=5),
            clock=factories.standing(STARTED),
        )
        customers = [factories.make_customer(at=STARTED) for _ in range(RACERS)]

        def redeeming(number):
            def act() -> str:
                subscribing.subscribe(
                    customer_id=customers[number].pk,
                    order=lifecycle.Order(plan_key="pro"),
                    coupon_key="C",
                    actor=factories.ACTOR,
                    keyed=KeyedRequest(key="k", fingerprint="f"),
                    render=lambda row, *_: {"id": str(row.pk)},
                    clock=clock.FixedClock(at=STARTED),
                )
                return "done"

            return act

        assert race(redeeming) == {"done": 5, "coupon_invalid": RACERS - 5}
        assert Redemption.objects.count() == Coupon.objects.get().redemptions == 5
        assert Subscription.objects.count() == 5
