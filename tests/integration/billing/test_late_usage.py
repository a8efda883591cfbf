"""Usage that is told of after its subscription has ended is billed, once, by its own tiers."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.models import Invoice, UsageMark
from billing.services import late
from core.models import Customer, OutboxEvent
from metering.models import Balance, UsageEntry
from metering.services import auditing
from subscriptions.models import Subscription
from subscriptions.services import actions
from tests import factories
from tests.integration.billing.test_usage import feed, lines

pytestmark = pytest.mark.django_db
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
APRIL, MAY = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
FIFTH, ENDED = APRIL + 4 * DAY, APRIL + 14 * DAY


def work(at) -> int:
    """Let the worker bill what is due; return how much there was."""
    job = late.LateUsageJob()
    keys = job.list_due(at=at, limit=100, excluded=())
    return sum(job.work(key=key, clock=factories.standing(at)) for key in keys)


def end(row, at) -> None:
    actions.cancel_now(subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(at))


def told() -> list[dict]:
    rows = OutboxEvent.objects.filter(event_type="usage.recorded_late").order_by("id")
    return list(rows.values_list("payload", flat=True))


class TestAfterTheEnd:
    def test_of_a_period_that_was_billed_whole_is_billed_by_its_tiers(self, customer, till):
        row = till.subscribe("usage", APRIL)
        factories.consume(customer, 60, at=APRIL + DAY)
        actions.cancel_at_period_end(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(ENDED)
        )
        till.settle(MAY)
        feed(customer, 50, of=APRIL + DAY, at=MAY + HOUR)
        assert told() == [{"subscription": str(row.pk)}]
        assert work(MAY + DAY) == 0
        feed(customer, 20, of=APRIL + 2 * DAY, at=MAY + 2 * HOUR)
        assert lines() == []
        assert work(MAY + DAY + HOUR) == 1
        # 60 + 70, of which 100 are free
        assert lines() == [("metered", 70, 45, (APRIL, MAY), MAY + DAY + HOUR)]
        till.issue(MAY + 2 * DAY)
        last = Invoice.objects.order_by("number").last()
        assert (last.status, last.due_minor, last.subscription_id) == ("open", 45, row.pk)
        assert work(MAY + 9 * DAY) == 0
        feed(customer, 10, of=APRIL + 2 * DAY, at=MAY + 9 * DAY)
        assert work(MAY + 10 * DAY) == 1
        assert lines()[1:] == [("metered", 10, 15, (APRIL, MAY), MAY + 10 * DAY)]
        assert auditing.audit()[0] == []

    @pytest.mark.parametrize("taken_at", [APRIL, FIFTH])
    def test_of_a_period_that_was_cut_leaves_what_came_after_the_end(
        self, customer, till, taken_at
    ):
        row = till.subscribe("usage", taken_at)
        factories.consume(customer, 90, at=ENDED - DAY)
        end(row, ENDED)
        factories.consume(customer, 10, at=ENDED + HOUR)
        feed(customer, 5, of=ENDED + HOUR, at=ENDED + 2 * HOUR)  # the default plan's
        assert told() == []
        feed(customer, 40, of=ENDED - HOUR, at=ENDED + 2 * HOUR)
        assert UsageMark.objects.get().late_due_at == ENDED + 2 * HOUR + DAY
        assert work(ENDED + 2 * DAY) == 1
        assert lines() == [("metered", 40, 45, (taken_at, ENDED), ENDED + 2 * DAY)]
        entry = UsageEntry.objects.get(usage_at__isnull=False)
        assert (entry.usage_at, entry.units) == (taken_at, 40)
        own = Balance.objects.get(period_starts_at=taken_at)
        assert own.used_units == (145 if taken_at == APRIL else 130)
        feed(customer, 10, of=ENDED - HOUR, at=ENDED + 3 * DAY)
        assert work(ENDED + 4 * DAY) == 1
        assert lines()[1:] == [("metered", 10, 15, (taken_at, ENDED), ENDED + 4 * DAY)]
        assert auditing.audit()[0] == []

    def test_is_not_billed_to_the_subscription_that_came_after(self, customer, till):
        first = till.subscribe("usage", APRIL)
        factories.consume(customer, 100, at=APRIL + DAY)
        end(first, ENDED)
        second = till.subscribe("usage", ENDED + DAY)
        assert second.anchor_at == APRIL
        feed(customer, 40, of=ENDED - HOUR, at=ENDED + 2 * DAY)
        factories.consume(customer, 110, at=ENDED + 3 * DAY)
        assert work(ENDED + 4 * DAY) == 1
        till.settle(MAY)
        assert lines() == [
            ("metered", 40, 60, (APRIL, ENDED), ENDED + 4 * DAY),
            ("metered", 110, 15, (ENDED + DAY, MAY), MAY),
        ]
        owners = Invoice.objects.filter(lines__kind="metered").order_by("billed_at")
        assert list(owners.values_list("subscription", flat=True)) == [first.pk, second.pk]

    def test_is_known_where_nobody_has_written_the_end_down(self, customer, till):
        row = till.subscribe("usage", APRIL)
        factories.consume(customer, 100, at=APRIL + DAY)
        actions.cancel_at_period_end(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(ENDED)
        )
        feed(customer, 10, of=MAY - HOUR, at=MAY + HOUR)
        assert Subscription.objects.get().status == "active"
        assert work(MAY + 2 * DAY) == 1
        assert Subscription.objects.get().status == "canceled"
        assert lines() == [("metered", 10, 15, (APRIL, MAY), MAY + 2 * DAY)]

    def test_of_what_was_free_costs_nothing(self, customer, till):
        row = till.subscribe("pro", APRIL)
        end(row, ENDED)
        feed(customer, 10, of=ENDED - HOUR, at=ENDED + HOUR)
        invoices = Invoice.objects.count()
        assert work(ENDED + 2 * DAY) == 1
        assert (lines(), Invoice.objects.count()) == ([], invoices)

    def test_of_one_that_never_began_is_nobodys(self, customer):
        row = factories.subscribe(customer, "usage", at=APRIL, pay=False)
        end(row, ENDED)
        feed(customer, 10, of=APRIL + DAY, at=ENDED + HOUR)
        assert (told(), UsageMark.objects.count()) == ([], 0)

    def test_waits_by_the_customers_own_clock(self, customer, till):
        row = till.subscribe("usage", APRIL)
        end(row, ENDED)
        feed(customer, 110, of=ENDED - HOUR, at=ENDED + HOUR)
        Customer.objects.update(test_clock_at=ENDED + 2 * HOUR)
        assert work(MAY) == 0
        Customer.objects.update(test_clock_at=ENDED + 2 * DAY)
        assert work(APRIL) == 1
        assert lines() == [("metered", 110, 15, (APRIL, ENDED), ENDED + 2 * DAY)]

    def test_of_a_live_one_stays_as_it_was(self, customer, till):
        till.subscribe("usage", APRIL)
        till.settle(MAY)
        feed(customer, 110, of=APRIL + DAY, at=MAY + HOUR)
        assert (told(), UsageMark.objects.get().late_due_at) == ([], None)
        assert not UsageEntry.objects.filter(usage_at__isnull=False).exists()
