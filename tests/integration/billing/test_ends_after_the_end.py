"""What is captured or taken back after its subscription has ended is billed to it, or credited."""

import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from django.db import connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from billing import selectors
from billing.models import Invoice, InvoiceLine, UsageMark
from billing.selectors.usage import COUNTS_AT
from core import money
from core.services.idempotency import KeyedRequest
from metering.models import UsageEntry
from metering.services import auditing, endings, holds
from metering.services.consumption import Request, Wanted
from metering.services.endings import Ending
from subscriptions.models import Plan
from subscriptions.services import actions
from tests import factories
from tests import till as tills
from tests.integration.billing.test_late_usage import end, told, work
from tests.integration.billing.test_usage import feed, lines, reverse

pytestmark = pytest.mark.django_db
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
APRIL, MAY = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
ENDED = APRIL + 14 * DAY


def hold(customer, units, *, at, key="h") -> UsageEntry:
    asked = Request(
        customer_id=customer.pk,
        wanted=[Wanted(feature_key="api_calls", units=units)],
        keyed=KeyedRequest(key=key, fingerprint="f"),
    )
    return holds.create(asked, ttl_seconds=86_400, clock=factories.standing(at)).entries[0]


def capture(customer, held, *, at, units=None) -> UsageEntry:
    ending = Ending(
        customer_id=customer.pk,
        hold_id=held.operation_id,
        keyed=KeyedRequest(key=f"c{held.pk}", fingerprint="f"),
        units=units,
    )
    return endings.capture(ending, clock=factories.standing(at)).entries[0]


def net_minor() -> int:
    """Return what all lines of usage come to, credits taken off."""
    found = InvoiceLine.objects.filter(item__startswith="metered:").aggregate(Sum("amount_minor"))
    return found["amount_minor__sum"] or 0


def balance_minor(customer) -> int:
    return selectors.get_balance_minor(customer_id=customer.pk, currency="EUR")


class TestReversalAfterTheEnd:
    @pytest.mark.parametrize("taken_at", [APRIL, APRIL + 4 * DAY])
    def test_of_what_is_billed_comes_back_to_the_customers_balance(self, customer, till, taken_at):
        row = till.subscribe("usage", taken_at)
        factories.consume(customer, 120, at=ENDED - 2 * DAY)
        factories.consume(customer, 80, at=ENDED - DAY)
        end(row, ENDED)
        till.pay_all(ENDED)
        assert lines() == [("metered", 200, 150, (taken_at, ENDED), ENDED)]
        reverse(customer, at=ENDED + HOUR)
        assert told() == [{"subscription": str(row.pk)}]
        assert UsageMark.objects.get().late_due_at == ENDED + HOUR + DAY
        assert work(ENDED + 2 * DAY) == 1
        assert lines()[1:] == [("proration_credit", 80, -120, (taken_at, ENDED), ENDED + 2 * DAY)]
        till.issue(ENDED + 3 * DAY)
        last = Invoice.objects.order_by("number").last()
        assert (last.subscription_id, last.due_minor, balance_minor(customer)) == (row.pk, 0, 120)
        assert work(MAY + 9 * DAY) == 0
        assert net_minor() == 30
        assert auditing.audit()[0] == []

    def test_of_a_period_that_was_billed_whole_comes_back(self, customer, till):
        row = till.subscribe("usage", APRIL)
        factories.consume(customer, 200, at=APRIL + DAY)
        actions.cancel_at_period_end(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(ENDED)
        )
        till.settle(MAY)
        reverse(customer, at=MAY + HOUR)
        assert work(MAY + 2 * DAY) == 1
        assert lines()[1:] == [("proration_credit", 200, -150, (APRIL, MAY), MAY + 2 * DAY)]
        assert net_minor() == 0

    def test_is_known_where_nobody_has_written_the_end_down(self, customer, till):
        row = till.subscribe("usage", APRIL)
        factories.consume(customer, 200, at=APRIL + DAY)
        actions.cancel_at_period_end(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(ENDED)
        )
        factories.consume(customer, 1, at=MAY + MINUTE)
        entry = UsageEntry.objects.filter(units=200).get()
        factories.reverse(customer, entry.pk, at=MAY + HOUR)
        assert told() == [{"subscription": str(row.pk)}]
        assert work(MAY + 2 * DAY) == 1
        assert lines() == [
            ("metered", 200, 150, (APRIL, MAY), MAY),
            ("proration_credit", 200, -150, (APRIL, MAY), MAY + 2 * DAY),
        ]

    def test_is_not_taken_off_the_subscription_that_came_after(self, customer, till):
        first = till.subscribe("usage", APRIL)
        entry = factories.consume(customer, 200, at=APRIL + DAY).entries[0]
        end(first, ENDED)
        till.subscribe("usage", ENDED + DAY)
        factories.consume(customer, 300, at=ENDED + 2 * DAY)
        factories.reverse(customer, entry.pk, at=ENDED + 3 * DAY)
        assert work(ENDED + 5 * DAY) == 1
        till.settle(MAY)
        assert lines() == [
            ("metered", 200, 150, (APRIL, ENDED), ENDED),
            ("proration_credit", 200, -150, (APRIL, ENDED), ENDED + 5 * DAY),
            ("metered", 300, 300, (ENDED + DAY, MAY), MAY),
        ]
        owners = InvoiceLine.objects.filter(item__startswith="metered:").order_by("id")
        assert len(set(owners.values_list("subscription", flat=True)[:2])) == 1

    def test_of_late_usage_comes_back_from_the_period_that_it_was_billed_in(self, customer, till):
        row = till.subscribe("usage", APRIL)
        end(row, ENDED)
        feed(customer, 140, of=ENDED - HOUR, at=ENDED + HOUR)
        entry = UsageEntry.objects.get(kind="record")
        assert work(ENDED + 2 * DAY) == 1
        factories.reverse(customer, entry.pk, at=ENDED + 3 * DAY)
        assert work(ENDED + 5 * DAY) == 1
        assert [amount for _, _, amount, *_ in lines()] == [60, -60]

    def test_of_the_first_of_two_ended_ones_comes_back_from_the_first(self, customer, till):
        first = till.subscribe("usage", APRIL)
        entry = factories.consume(customer, 200, at=APRIL + DAY).entries[0]
        end(first, ENDED)
        second = till.subscribe("usage", ENDED + DAY)
        other = factories.consume(customer, 300, at=ENDED + 2 * DAY).entries[0]
        end(second, ENDED + 3 * DAY)
        factories.reverse(customer, other.pk, at=MAY + HOUR)
        assert told() == [{"subscription": str(second.pk)}]
        factories.reverse(customer, entry.pk, at=MAY + 2 * HOUR)
        assert told()[1:] == [{"subscription": str(first.pk)}]
        assert work(MAY + 2 * DAY) == 2
        assert sorted(amount for _, _, amount, *_ in lines()) == [-300, -150, 150, 300]

    def test_of_what_the_default_plan_gave_is_nobodys(self, customer, till):
        row = till.subscribe("usage", APRIL)
        end(row, ENDED)
        entry = factories.consume(customer, 10, at=ENDED + HOUR).entries[0]
        factories.reverse(customer, entry.pk, at=ENDED + 2 * HOUR)
        assert (told(), UsageMark.objects.get().late_due_at) == ([], None)
        assert not UsageEntry.objects.filter(usage_at__isnull=False).exists()

    def test_of_a_trials_usage_costs_and_gives_nothing(self, customer, till):
        factories.make_plan(
            "tried",
            at=tills.STARTED,
            rank=70,
            publish=False,
            limits={"api_calls": 999},
            version={"trial_days": 7},
        )
        tills.price_plan(
            Plan.objects.get(key="tried"),
            tills.STARTED,
            alter=lambda price: setattr(price, "unit_amount_minor", 500),
            api_calls={"unit_amount": "1"},
        )
        row = factories.subscribe(customer, "tried", at=APRIL, pay=False)
        entry = factories.consume(customer, 10, at=APRIL + DAY).entries[0]
        end(row, APRIL + 2 * DAY)
        factories.reverse(customer, entry.pk, at=APRIL + 3 * DAY)
        work(APRIL + 5 * DAY)
        assert lines() == []

    def test_of_a_living_ones_stays_as_it_was(self, customer, till):
        till.subscribe("usage", APRIL)
        factories.consume(customer, 120, at=APRIL + DAY)
        till.settle(MAY)
        reverse(customer, at=MAY + HOUR)
        assert (told(), UsageMark.objects.get().late_due_at) == ([], None)
        assert not UsageEntry.objects.filter(usage_at__isnull=False).exists()


class TestConservation:
    @pytest.mark.parametrize("seed", range(4))
    def test_lines_less_credits_are_the_price_of_the_usage_that_stands(self, customer, till, seed):
        chance = random.Random(seed)
        row = till.subscribe("usage", APRIL)
        counted, held = {}, []
        for number in range(8):
            units, at = chance.randint(1, 90), APRIL + number * DAY
            if chance.random() < 0.6:
                entry = factories.consume(customer, units, at=at).entries[0]
                counted[entry.pk] = units
            else:
                held.append(hold(customer, units, at=ENDED - (9 - number) * HOUR, key=f"h{number}"))
        held = sorted(held, key=lambda each: each.pk)
        end(row, ENDED)
        at = ENDED
        for number in range(12):
            at += HOUR
            if held and chance.random() < 0.5:
                each = held.pop()
                taken = chance.randint(0, each.units)
                counted[capture(customer, each, at=at, units=taken).pk] = taken
            elif counted and chance.random() < 0.7:
                entry_id = chance.choice(sorted(counted))
                if counted.pop(entry_id):
                    factories.reverse(customer, entry_id, at=at)
            else:
                units = chance.randint(1, 90)
                feed(customer, units, of=ENDED - HOUR, at=at)
                entry = UsageEntry.objects.order_by("id").last()
                counted[entry.pk] = units
            if number % 5 == 0:
                work(at + 2 * DAY)
                at += 2 * DAY
                held = []  # dead by now
        work(at + 2 * DAY)
        standing = sum(counted.values())
        assert net_minor() == money.rounded(Fraction(max(standing - 100, 0) * 15, 10))
        counts = UsageEntry.objects.annotate(expected=COUNTS_AT)
        assert all(line.counted_at == line.expected for line in counts)
        assert auditing.audit()[0] == []


class TestCaptureAfterTheEnd:
    @pytest.mark.parametrize("units", [None, 90])
    def test_of_what_was_held_before_it_is_billed_by_its_tiers(self, customer, till, units):
        row = till.subscribe("usage", APRIL)
        factories.consume(customer, 60, at=APRIL + DAY)
        held = hold(customer, 100, at=ENDED - HOUR)
        end(row, ENDED)
        entry = capture(customer, held, at=ENDED + HOUR, units=units)
        assert (entry.usage_at, told()) == (APRIL, [{"subscription": str(row.pk)}])
        assert work(ENDED + 2 * DAY) == 1
        # of 60 and what was captured, 100 are free
        amount = {None: 90, 90: 75}[units]
        assert lines() == [("metered", entry.units, amount, (APRIL, ENDED), ENDED + 2 * DAY)]
        factories.reverse(customer, entry.pk, at=ENDED + 3 * DAY)
        assert work(ENDED + 5 * DAY) == 1
        assert net_minor() == 0
        assert auditing.audit()[0] == []

    def test_over_the_periods_boundary_is_billed_to_the_period_of_the_hold(self, customer, till):
        row = till.subscribe("usage", APRIL)
        actions.cancel_at_period_end(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(ENDED)
        )
        held = hold(customer, 110, at=MAY - MINUTE)
        till.settle(MAY)
        capture(customer, held, at=MAY + MINUTE)
        assert work(MAY + 2 * DAY) == 1
        assert lines() == [("metered", 110, 15, (APRIL, MAY), MAY + 2 * DAY)]

    def test_is_not_billed_to_the_subscription_that_came_after(self, customer, till):
        first = till.subscribe("usage", APRIL)
        held = hold(customer, 110, at=ENDED - HOUR)
        end(first, ENDED)
        till.subscribe("usage", ENDED + MINUTE)
        factories.consume(customer, 100, at=ENDED + 2 * MINUTE)
        capture(customer, held, at=ENDED + HOUR)
        assert work(ENDED + 2 * DAY) == 1
        till.settle(MAY)
        assert lines() == [("metered", 110, 15, (APRIL, ENDED), ENDED + 2 * DAY)]

    def test_that_found_the_subscription_alive_sees_the_end_under_its_locks(
        self, customer, till, monkeypatch
    ):
        row = till.subscribe("usage", APRIL)
        held = hold(customer, 110, at=ENDED - HOUR)
        find_holds = endings.find_holds

        def find_then_end(**asked):
            monkeypatch.setattr(endings, "find_holds", find_holds)
            found = find_holds(**asked)
            end(row, ENDED)
            return found

        monkeypatch.setattr(endings, "find_holds", find_then_end)
        assert capture(customer, held, at=ENDED).usage_at == APRIL
        assert told() == [{"subscription": str(row.pk)}]

    def test_asks_who_has_ended_only_where_somebody_decided_since(self, customer, till):
        till.subscribe("usage", APRIL)
        first, second = (hold(customer, 10, at=ENDED, key=key) for key in ("h1", "h2"))
        capture(customer, first, at=ENDED + MINUTE)
        with CaptureQueriesContext(connection) as found:
            capture(customer, second, at=ENDED + 2 * MINUTE)
        asking = [each for each in found.captured_queries if "subscriptions_subs" in each["sql"]]
        third = hold(customer, 10, at=ENDED + HOUR, key="h3")
        with CaptureQueriesContext(connection) as alone:
            capture(customer, third, at=ENDED + 2 * HOUR)
        assert len(asking) == 1
        assert len(alone) == len(found) - 1

    def test_of_what_was_held_after_it_is_nobodys(self, customer, till):
        row = till.subscribe("usage", APRIL)
        end(row, ENDED)
        capture(customer, hold(customer, 10, at=ENDED + HOUR), at=ENDED + 2 * HOUR)
        assert (told(), UsageMark.objects.get().late_due_at) == ([], None)

    def test_of_a_living_ones_stays_as_it_was(self, customer, till):
        till.subscribe("usage", APRIL)
        held = hold(customer, 110, at=MAY - MINUTE)
        till.settle(MAY)
        assert capture(customer, held, at=MAY + MINUTE).usage_at is None
        assert (told(), UsageMark.objects.get().late_due_at) == ([], None)
