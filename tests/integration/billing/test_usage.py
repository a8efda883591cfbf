"""Usage is billed once, by the tiers of its own period, however often and late it comes."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db.models import F

from billing.models import Coupon, InvoiceLine
from billing.services import corrections, coupons, subscribing
from core import db
from core.services.idempotency import KeyedRequest
from metering import selectors as metering_selectors
from metering.models import UsageEntry
from metering.services import opening, recording, reversing
from metering.services.consumption import Request, Wanted
from metering.services.recording import Fed
from metering.services.reversing import Reversal
from subscriptions import selectors as subscription_selectors
from subscriptions.models import Feature, Plan
from subscriptions.services import migration
from subscriptions.services.lifecycle import Order
from subscriptions.services.migration import Migration
from tests import factories
from tests import till as tills

pytestmark = pytest.mark.django_db
APRIL, MAY = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
JUNE, JULY = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
HALF_WAY, DAY = datetime(2026, 4, 16, tzinfo=UTC), timedelta(days=1)
VECTORS = {
    each["id"]: each
    for each in json.loads(Path("tests/vectors/transitions.json").read_text())[
        "usage_on_change_vectors"
    ]
}


def lines() -> list[tuple]:
    """Return the lines of usage: what, how many, how much, of which period, billed when."""
    rows = InvoiceLine.objects.filter(item__startswith="metered:").order_by("id")
    return [
        (
            line.kind,
            line.quantity,
            line.amount_minor,
            (line.starts_at, line.ends_at),
            line.invoice.billed_at,
        )
        for line in rows.select_related("invoice")
    ]


def feed(customer, units, *, of, at) -> None:
    """Count units of a past instant, as a meter does that hears of them late."""
    feature = subscription_selectors.get_feature(key="api_calls")
    with db.transaction():
        locked = opening.lock_customer_step(customer_id=customer.pk)
        recording.feed_step(
            customer=locked,
            fed=[Fed(feature=feature, usage_at=of, units=units)],
            clock=factories.standing(at),
        )


def reverse(customer, *, at) -> None:
    """Take the last consumed entry back."""
    entry = UsageEntry.objects.filter(kind="consume").order_by("-id").first()
    keyed = KeyedRequest(key=f"r{entry.pk}", fingerprint="f")
    reversing.reverse(
        Reversal(customer_id=customer.pk, entry_id=entry.pk, keyed=keyed),
        clock=factories.standing(at),
    )


def sell_metered(key: str, *, rank: int, limit: int = 99_999, **terms) -> Plan:
    plan = factories.make_plan(
        key,
        at=tills.STARTED,
        rank=rank,
        publish=False,
        limits={"api_calls": limit},
        entitlement={"mode": "soft"},
    )
    return tills.price_plan(
        plan,
        tills.STARTED,
        alter=lambda price: setattr(price, "unit_amount_minor", 500),
        api_calls=terms,
    )


class TestLateUsage:
    def test_is_billed_once_by_the_tiers_of_its_own_period(self, customer, till):
        till.subscribe("usage", APRIL)
        factories.consume(customer, 60, at=APRIL + DAY)
        till.settle(MAY)
        assert lines() == []
        feed(customer, 50, of=APRIL + DAY, at=MAY + DAY)
        feed(customer, 10, of=APRIL + 2 * DAY, at=MAY + 2 * DAY)
        factories.consume(customer, 30, at=MAY + 3 * DAY)
        till.settle(JUNE)
        # 60 + 60 of April, of which 100 are free; the 30 of May are free as well
        assert lines() == [("metered", 60, 30, (APRIL, MAY), JUNE)]
        line = InvoiceLine.objects.get(kind="metered")
        assert (line.entries, line.last_entry_id) == (
            2,
            UsageEntry.objects.filter(kind="record").order_by("-id").first().pk,
        )
        till.settle(JULY)
        assert len(lines()) == 1

    def test_comes_beside_the_usage_of_the_period_that_bills_it(self, customer, till):
        till.subscribe("usage", APRIL)
        factories.consume(customer, 200, at=APRIL + DAY)
        till.settle(MAY)
        feed(customer, 100, of=APRIL + DAY, at=MAY + DAY)
        factories.consume(customer, 120, at=MAY + 3 * DAY)
        till.settle(JUNE)
        assert lines() == [
            ("metered", 200, 150, (APRIL, MAY), MAY),
            ("metered", 120, 30, (MAY, JUNE), JUNE),
            ("metered", 100, 150, (APRIL, MAY), JUNE),
        ]

    def test_costs_nothing_more_below_the_minimum_that_was_due(self, customer, till):
        sell_metered("least", rank=60, unit_amount="0.01", minimum="3.00")
        till.subscribe("least", APRIL)
        factories.consume(customer, 100, at=APRIL + DAY)
        till.settle(MAY)
        assert lines() == [
            ("metered", 100, 100, (APRIL, MAY), MAY),
            ("minimum", 1, 200, (APRIL, MAY), MAY),
        ]
        feed(customer, 150, of=APRIL + DAY, at=MAY + DAY)
        till.settle(JUNE)
        assert lines()[2:] == [("minimum", 1, 300, (MAY, JUNE), JUNE)]
        feed(customer, 150, of=APRIL + DAY, at=JUNE + DAY)
        till.settle(JULY)
        assert lines()[3:] == [
            ("minimum", 1, 300, (JUNE, JULY), JULY),
            ("metered", 150, 100, (APRIL, MAY), JULY),
        ]


class TestReversal:
    def test_of_what_is_billed_gives_it_back_with_its_line(self, customer, till):
        till.subscribe("usage", APRIL)
        factories.consume(customer, 120, at=APRIL + DAY)
        factories.consume(customer, 80, at=APRIL + 2 * DAY)
        till.settle(MAY)
        reverse(customer, at=MAY + DAY)
        till.settle(JUNE)
        assert lines() == [
            ("metered", 200, 150, (APRIL, MAY), MAY),
            ("proration_credit", 80, -120, (APRIL, MAY), JUNE),
        ]
        credit = InvoiceLine.objects.get(kind="proration_credit")
        assert credit.credits == InvoiceLine.objects.get(kind="metered")
        till.settle(JULY)
        assert len(lines()) == 2

    def test_gives_back_what_was_paid_after_the_coupon(self, customer, till):
        half = Coupon(key="HALF", name="Half", duration="forever", percent_off=50)
        coupons.create(coupon=half, clock=factories.standing(APRIL))
        subscribing.subscribe(
            customer_id=customer.pk,
            order=Order(plan_key="usage"),
            coupon_key="HALF",
            actor=factories.ACTOR,
            keyed=KeyedRequest(key="s", fingerprint="f"),
            render=lambda *_: {},
            clock=factories.standing(APRIL),
        )
        till.pay_all(APRIL)
        factories.consume(customer, 200, at=APRIL + DAY)
        till.settle(MAY)
        assert InvoiceLine.objects.get(kind="metered").discount_minor == 75
        reverse(customer, at=MAY + DAY)
        till.settle(JUNE)
        assert lines()[1:] == [("proration_credit", 200, -75, (APRIL, MAY), JUNE)]

    def test_gives_back_the_older_line_where_the_newer_was_given_back_before(self, customer, till):
        till.subscribe("usage", APRIL)
        factories.consume(customer, 200, at=APRIL + DAY)
        till.settle(MAY)
        feed(customer, 40, of=APRIL + DAY, at=MAY + DAY)
        first = UsageEntry.objects.get(kind="record")
        feed(customer, 60, of=APRIL + DAY, at=MAY + 2 * DAY)
        till.settle(JUNE)
        factories.reverse(customer, first.pk, at=JUNE + DAY)
        till.settle(JULY)
        reverse(customer, at=JULY + DAY)
        till.settle(JULY + 31 * DAY)
        amounts = [amount for _, _, amount, *_ in lines()]
        # 150 and 150 were billed; 60 units stand, of which 100 would be free
        assert amounts == [150, 150, -60, -90, -150]

    def test_gives_back_no_more_than_a_credit_note_left(self, customer, till):
        till.subscribe("usage", APRIL)
        factories.consume(customer, 200, at=APRIL + DAY)
        till.settle(MAY)
        invoice = till.issue(MAY)[1]
        corrections.credit_note(
            invoice_id=invoice.pk,
            amount_minor=invoice.total_minor - 50,
            actor=factories.ACTOR,
            clock=factories.standing(MAY),
        )
        reverse(customer, at=MAY + DAY)
        till.settle(JUNE)
        back = lines()[1:]
        assert [(kind, amount) for kind, _, amount, *_ in back] == [("proration_credit", -12)]

    def test_within_the_period_counts_before_it_is_billed(self, customer, till):
        till.subscribe("usage", APRIL)
        factories.consume(customer, 120, at=APRIL + DAY)
        factories.consume(customer, 80, at=APRIL + 2 * DAY)
        reverse(customer, at=APRIL + 3 * DAY)
        till.settle(MAY)
        assert lines() == [("metered", 120, 30, (APRIL, MAY), MAY)]


class TestChangeWithinThePeriod:
    def test_goes_on_in_the_tiers_of_the_period(self, customer, till):
        sell_metered("cheap", rank=60, unit_amount="0.01", included="100")
        row = till.subscribe("usage", APRIL)
        factories.consume(customer, 150, at=APRIL + DAY)
        till.change(row, HALF_WAY, plan_key="cheap")
        factories.consume(customer, 90, at=HALF_WAY + DAY)
        till.settle(MAY)
        assert lines() == [
            ("metered", 150, 75, (APRIL, HALF_WAY), HALF_WAY),
            ("metered", 90, 90, (HALF_WAY, MAY), MAY),
        ]
        factories.consume(customer, 110, at=MAY + DAY)
        till.settle(JUNE)
        assert lines()[2:] == [("metered", 110, 10, (MAY, JUNE), JUNE)]

    def test_owes_the_minimum_once(self, customer, till):
        sell_metered("least", rank=60, unit_amount="0.01", minimum="3.00")
        row = till.subscribe("usage", APRIL)
        factories.consume(customer, 150, at=APRIL + DAY)
        till.change(row, HALF_WAY, plan_key="least")
        factories.consume(customer, 25, at=HALF_WAY + DAY)
        till.settle(MAY)
        assert lines()[1:] == [
            ("metered", 25, 25, (HALF_WAY, MAY), MAY),
            ("minimum", 1, 200, (HALF_WAY, MAY), MAY),
        ]

    def test_gives_back_what_was_billed_before_it_and_reversed_after(self, customer, till):
        sell_metered("cheap", rank=60, unit_amount="0.01", included="100")
        row = till.subscribe("usage", APRIL)
        factories.consume(customer, 150, at=APRIL + DAY)
        till.change(row, HALF_WAY, plan_key="cheap")
        reverse(customer, at=HALF_WAY + DAY)
        till.settle(MAY)
        assert lines()[1:] == [("proration_credit", 150, -50, (HALF_WAY, MAY), MAY)]

    def test_to_a_free_plan_bills_what_was_used_at_the_old_prices(self, customer, till):
        row = till.subscribe("usage", APRIL)
        till.change(row, APRIL + DAY, plan_key="free")
        factories.consume(customer, 150, at=HALF_WAY)
        till.settle(MAY)
        assert lines() == [("metered", 150, 75, (APRIL, MAY), MAY)]

    def test_to_a_new_version_bills_the_overage_at_the_old_price(self, customer, till):
        vector = VECTORS["UL13"]
        before, expected = vector["before"], vector["expected"]
        terms = {"unit_amount": "1", "included": str(before["limit"])}
        plan = sell_metered("credits", rank=60, limit=before["limit"], **terms)
        till.subscribe("credits", APRIL)
        factories.consume(customer, before["used"], at=APRIL + DAY)
        limits = {"api_calls": vector["change"]["new_limit"]}
        fresh = factories.new_version(plan, at=HALF_WAY, limits=limits)
        migration.migrate_subscribers(
            Migration(from_version_id=plan.versions.get(number=1).pk, to_version_id=fresh.pk),
            actor=factories.ACTOR,
            clock=factories.standing(HALF_WAY),
        )
        billed = expected["overage_billed_minor"]
        assert lines() == [("metered", 20, billed, (APRIL, HALF_WAY), HALF_WAY)]
        overview = metering_selectors.get_overview(
            customer=customer, clock=factories.standing(HALF_WAY)
        )
        now = overview.standings["api_calls"]
        assert (now.limit_units, now.used_units, now.remaining_units) == (
            expected["limit"],
            expected["used"],
            expected["remaining"],
        )

    def test_counts_seats_given_back_as_not_taken(self, customer, till):
        factories.make_feature("places", at=tills.STARTED)
        Feature.objects.filter(key="places").update(is_allocated=True)
        plan = factories.make_plan(
            "club", at=tills.STARTED, rank=60, publish=False, limits={"places": 10}
        )
        tills.price_plan(
            plan,
            tills.STARTED,
            alter=lambda price: setattr(price, "unit_amount_minor", 500),
            places={"unit_amount": "1"},
        )
        till.subscribe("club", APRIL)
        for number in range(3):
            factories.consume(customer, 2, at=APRIL + number * DAY, feature="places")
        back = Request(
            customer_id=customer.pk,
            wanted=[Wanted(feature_key="places", units=4)],
            keyed=KeyedRequest(key="back", fingerprint="f"),
        )
        reversing.give_back(back, clock=factories.standing(APRIL + 4 * DAY))
        till.settle(MAY)
        assert lines() == [("metered", 2, 200, (APRIL, MAY), MAY)]


class TestScan:
    @pytest.mark.parametrize("is_grouped", [pytest.param(True, marks=pytest.mark.postgres), False])
    def test_leaves_no_entry_out_since_each_moves_its_balance(self, customer, till, is_grouped):
        """The scan reads the balances decided since; so no entry is younger than its balance."""
        with factories.group_commit(is_on=is_grouped):
            till.subscribe("usage", APRIL)
            factories.consume(customer, 20, at=APRIL + DAY)
            reverse(customer, at=APRIL + 2 * DAY)
            factories.consume(customer, 30, at=APRIL + 3 * DAY)
            till.settle(MAY)
            factories.consume(customer, 5, at=MAY + DAY)
            feed(customer, 50, of=APRIL + DAY, at=MAY + 2 * DAY)
            reverse(customer, at=MAY + 3 * DAY)
        entries = UsageEntry.objects.filter(balance__isnull=False)
        assert entries.count() == 6
        assert not entries.filter(balance__decided_at__lt=F("consumed_at")).exists()
