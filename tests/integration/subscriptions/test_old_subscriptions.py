"""Subscriptions from before renewals were walked: the running period is open, nothing is lost."""

import importlib
from datetime import UTC, datetime

import pytest
from django.apps import apps

from core import clock
from core.models import OutboxEvent
from subscriptions.models import Subscription
from subscriptions.services import actions, sweeping
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
ENDS = datetime(2026, 6, 10, 12, tzinfo=UTC)
migration = importlib.import_module("subscriptions.migrations.0008_periods_of_old_subscriptions")


def test_are_renewed_from_the_period_that_runs_and_not_before():
    factories.make_plan("pro", at=AT, price_minor=100)
    rows = [factories.subscribe(factories.make_customer(at=AT), "pro", at=AT) for _ in range(3)]
    waiting = factories.subscribe(factories.make_customer(at=AT), "pro", at=AT, pay=False)
    actions.cancel_now(
        subscription_id=rows[2].pk, actor=factories.ACTOR, clock=factories.standing(AT)
    )
    Subscription.objects.update(renewed_until=None, due_at=None)
    Subscription.objects.filter(pk=rows[1].pk).update(status="paused")
    with clock.overridden(clock.FixedClock(at=NOW)):
        migration.open_running_periods(apps, None)
    found = dict(Subscription.objects.values_list("pk", "due_at"))
    assert found == {
        rows[0].pk: ENDS,
        rows[1].pk: None,
        rows[2].pk: None,
        waiting.pk: waiting.incomplete_expires_at,
    }
    for row in rows:
        sweeping.settle_free(customer_id=row.customer_id, clock=clock.FixedClock(at=ENDS))
    told = OutboxEvent.objects.filter(event_type="subscription.renewed")
    assert [each.payload["subscription"] for each in told] == [str(rows[0].pk)]
