"""A renewal, its invoice and its payment: what they ask the database, and what they tell."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import OutboxEvent
from metering.models import Balance
from metering.services import auditing
from subscriptions.models import Subscription, TimelineEntry
from subscriptions.services import sweeping
from tests import factories

pytestmark = pytest.mark.django_db
APRIL, MAY, JUNE = (datetime(2026, month, 1, tzinfo=UTC) for month in (4, 5, 6))
DAY = timedelta(days=1)
RENEW, ISSUE, PAY = 19, 11, 14  # begin and end of each transaction are counted


def sweep(customer, at) -> int:
    return sweeping.settle_free(customer_id=customer.pk, clock=factories.standing(at))


def told() -> list[str]:
    return list(OutboxEvent.objects.order_by("id").values_list("event_type", flat=True))


class TestCycle:
    def test_takes_so_many_statements(self, customer, till):
        till.subscribe("pro", APRIL)
        sweep(customer, MAY)
        till.pay_all(MAY)
        with CaptureQueriesContext(connection) as renewing:
            assert sweep(customer, JUNE) == 1
        with CaptureQueriesContext(connection) as issuing:
            invoice = till.issue(JUNE)[-1]
        with CaptureQueriesContext(connection) as paying:
            till.mark(invoice, JUNE)
        assert invoice.status == "paid"
        found_and_listed = 2  # by the till
        counts = (len(renewing), len(issuing) - found_and_listed, len(paying) - 1)
        assert counts == (RENEW, ISSUE, PAY)

    def test_that_was_expected_changes_nothing_of_what_is_in_force(self, customer, till):
        till.subscribe("pro", APRIL)
        before = len(told())
        sweep(customer, MAY)
        till.pay_all(MAY)
        assert told()[before:] == [
            "subscription.transitioned",
            "subscription.renewed",
            "invoice.issued",
            "invoice.paid",
            "subscription.transitioned",
        ]
        events = TimelineEntry.objects.order_by("id").values_list("event", flat=True)
        assert list(events)[-2:] == ["period_ended_renew", "payment_succeeded"]

    def test_raises_the_revision_each_time(self, customer, till):
        till.subscribe("pro", APRIL)
        customer.refresh_from_db()
        before = customer.revision
        sweep(customer, MAY)
        till.pay_all(MAY)
        customer.refresh_from_db()
        assert (customer.revision, customer.revised_at > MAY) == (before + 2, True)

    def test_that_ends_grace_or_the_subscription_is_a_change(self, customer, till):
        row = till.subscribe("pro", APRIL)
        sweep(customer, MAY)
        (_, invoice) = till.issue(MAY)
        till.mark(invoice, MAY + DAY, status="failed")
        till.mark(invoice, MAY + 2 * DAY)
        assert told()[-1] == "subscription.changed"
        Subscription.objects.filter(pk=row.pk).update(cancel_at=JUNE, due_at=JUNE)
        sweep(customer, JUNE)
        assert told()[-1] == "subscription.changed"

    def test_opens_the_balances_period_all_the_same(self, customer, till):
        till.subscribe("pro", APRIL)
        factories.consume(customer, 900, at=APRIL + DAY)
        sweep(customer, MAY)
        till.pay_all(MAY)
        current = Balance.objects.get(is_current=True)
        assert (current.period_starts_at, current.used_units) == (MAY, 0)
        factories.consume(customer, 1000, at=MAY + DAY)
        sweep(customer, JUNE)
        assert auditing.audit()[0] == []
