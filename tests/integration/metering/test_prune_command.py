"""Pruning lets go of what had no effect, in its time, and of nothing else."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from core import clock
from core.models import OutboxDelivery, OutboxEvent
from metering import errors
from metering.models import Balance, UsageEntry
from metering.services import auditing
from tests import factories

STARTED = datetime(2026, 1, 1, tzinfo=UTC)
DENIED_AT = datetime(2026, 1, 10, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer():
    factories.make_plan("free", at=STARTED, limits={"api_calls": 10, "exports": 5})
    customer = factories.make_customer(at=STARTED)
    factories.consume(customer, 10, at=STARTED)
    with pytest.raises(errors.UsageLimitReached):
        factories.consume(customer, 1, at=DENIED_AT, key="denied")
    return customer


def prune(*, at, **options) -> str:
    out = StringIO()
    with clock.overridden(factories.standing(at)):
        call_command("prune", stdout=out, **options)
    return out.getvalue()


def lines() -> list[str]:
    return sorted(UsageEntry.objects.values_list("kind", flat=True))


def test_a_denial_goes_when_its_days_are_over_and_grants_stay(customer):
    assert prune(at=DENIED_AT + timedelta(days=90)).startswith("0 denials")
    assert lines() == ["consume", "denied"]
    later = DENIED_AT + timedelta(days=90, microseconds=1)
    assert prune(at=later).startswith("1 denials")
    assert lines() == ["consume"]
    assert auditing.audit()[0] == []


def test_its_key_is_new_again(customer):
    prune(at=DENIED_AT + timedelta(days=91))
    factories.consume(customer, 1, at=DENIED_AT + timedelta(days=91), key="denied")
    assert lines() == ["consume", "consume"]


def test_less_than_seven_days_are_refused(customer):
    with pytest.raises(CommandError, match="7 days"):
        prune(at=DENIED_AT + timedelta(days=90), days=6)
    assert lines() == ["consume", "denied"]


def test_a_past_balance_goes_only_where_nothing_was_counted_on_it(customer):
    with pytest.raises(errors.UsageLimitReached):
        factories.consume(customer, 6, at=STARTED, feature="exports")
    factories.consume(customer, 1, at=STARTED + timedelta(days=40))
    with pytest.raises(errors.UsageLimitReached):
        factories.consume(customer, 6, at=STARTED + timedelta(days=40), feature="exports")
    past = Balance.objects.filter(is_current=False)
    assert sorted(past.values_list("feature__key", flat=True)) == ["api_calls", "exports"]
    prune(at=STARTED + timedelta(days=200))
    assert list(past.values_list("feature__key", flat=True)) == ["api_calls"]
    assert auditing.audit()[0] == []


def test_an_event_goes_when_everybody_has_been_told(customer):
    OutboxDelivery.objects.all().delete()
    OutboxEvent.objects.all().delete()
    told, waiting = (
        OutboxEvent.objects.create(event_type="x", payload={}, occurred_at=STARTED)
        for _ in range(2)
    )
    OutboxDelivery.objects.create(event=told, consumer="a", delivered_at=STARTED)
    OutboxDelivery.objects.create(event=waiting, consumer="a", delivered_at=STARTED)
    OutboxDelivery.objects.create(event=waiting, consumer="b")
    assert "1 events" in prune(at=STARTED + timedelta(days=100))
    assert list(OutboxEvent.objects.all()) == [waiting]
    assert OutboxDelivery.objects.count() == 2


def test_takes_at_most_so_many(customer):
    for number in range(3):
        with pytest.raises(errors.UsageLimitReached):
            factories.consume(customer, 1, at=DENIED_AT, key=f"denied{number}")
    assert prune(at=DENIED_AT + timedelta(days=91), rows=3).startswith("3 denials")
    assert lines() == ["consume", "denied"]
