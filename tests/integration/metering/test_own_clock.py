"""A customer with a test clock: usage, periods and holds follow his time, not the world's."""

from datetime import UTC, datetime, timedelta

import pytest

from core.services.idempotency import KeyedRequest
from metering import errors
from metering import selectors as metering_selectors
from metering.models import Balance, Hold
from metering.services import consumption, holds
from subscriptions.models import Subscription
from subscriptions.services import advancing
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
THEN = datetime(2031, 1, 31, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def customer():
    factories.make_plan("free", at=THEN, limits={"api_calls": 10})
    factories.make_plan("pro", at=THEN, limits={"api_calls": 1000}, price_minor=2900, rank=5)
    return factories.make_customer(at=THEN, test_clock_at=THEN)


def advance(customer, to):
    advancing.advance(customer_id=customer.pk, to=to)
    customer.refresh_from_db()


def shown(customer, at):
    standing = metering_selectors.get_overview(
        customer=customer, clock=factories.standing(at)
    ).standings["api_calls"]
    return standing.used_units, standing.remaining_units, standing.resets_at


def test_counts_in_the_period_of_his_own_time_and_resets_with_it(customer, at):
    entry = factories.consume(customer, 10, at=at).entries[0]
    assert (entry.consumed_at, entry.period_starts_at) == (THEN, THEN)
    with pytest.raises(errors.UsageLimitReached):
        factories.consume(customer, 1, at=at + 3000 * DAY)
    assert shown(customer, at) == (10, 0, datetime(2031, 2, 28, tzinfo=UTC))
    advance(customer, datetime(2031, 2, 28, tzinfo=UTC))
    entry = factories.consume(customer, 1, at=at).entries[0]
    assert (entry.used_units, entry.period_starts_at) == (1, datetime(2031, 2, 28, tzinfo=UTC))


def test_follows_a_subscription_that_renews_and_ends_in_his_time(customer, at):
    row = factories.subscribe(customer, "pro", at=at)
    assert row.anchor_at == THEN
    factories.consume(customer, 700, at=at)
    Subscription.objects.update(cancel_at=datetime(2031, 3, 31, tzinfo=UTC))
    Subscription.objects.update(due_at=datetime(2031, 2, 28, tzinfo=UTC))
    advance(customer, datetime(2031, 3, 30, tzinfo=UTC))
    assert shown(customer, at)[:2] == (0, 1000)
    advance(customer, datetime(2031, 4, 2, tzinfo=UTC))
    row.refresh_from_db()
    assert (row.status, row.ended_at) == ("canceled", datetime(2031, 3, 31, tzinfo=UTC))
    assert shown(customer, at)[1] == 10


def test_lets_holds_die_in_his_time(customer, at):
    asked = consumption.Request(
        customer_id=customer.pk,
        wanted=[consumption.Wanted(feature_key="api_calls", units=4)],
        keyed=KeyedRequest(key="hold", fingerprint="f"),
    )
    holds.create(asked, ttl_seconds=60, clock=factories.standing(at))
    assert Hold.objects.get().expires_at == THEN + timedelta(seconds=60)
    with pytest.raises(errors.UsageLimitReached):
        factories.consume(customer, 7, at=at)
    advance(customer, THEN + timedelta(seconds=60))
    factories.consume(customer, 10, at=at)
    assert Hold.objects.get().state == Hold.State.EXPIRED


def test_leaves_others_to_the_worlds_time(customer, at):
    other = factories.make_customer(at=at)
    entry = factories.consume(other, 1, at=at + DAY).entries[0]
    assert entry.consumed_at == at + DAY
    assert Balance.objects.get().valid_until > at + DAY
