"""An overview is shown again only where nothing moved: whatever changes is seen at once."""

from datetime import UTC, datetime, timedelta

import pytest

from core import clock
from core.models import User
from core.services.idempotency import KeyedRequest
from metering.api import showing
from metering.services import holds
from metering.services.consumption import Request, Wanted
from tests import factories

STARTED = datetime(2026, 3, 1, tzinfo=UTC)
URL = "/api/subscriptions/me/"


@pytest.fixture
def user(db, standing_clock) -> User:
    for name, units in (("free", 100), ("pro", 1000)):
        factories.make_plan(name, at=STARTED, limits={"api_calls": units})
    return factories.make_user(at=STARTED)


def shown(user, *, at=None):
    """Return the body and tag, asked twice: the second from what the first wrote."""
    client = factories.client_for(user)
    found = []
    with clock.overridden(factories.standing(at or clock.process_clock().now())):
        for _ in range(2):
            answer = client.get(URL)
            found.append((answer.json(), answer["ETag"]))
            unchanged = client.get(URL, HTTP_IF_NONE_MATCH=answer["ETag"])
            assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert found[0] == found[1]
    showing.forget()
    with clock.overridden(factories.standing(at or clock.process_clock().now())):
        assert client.get(URL).json() == found[0][0]
        client.get(URL)
    return found[0]


def test_what_is_counted_is_seen_at_once(user, at):
    customer = factories.customer_of(user)
    before, tag = shown(user)
    factories.consume(customer, 7, at=at)
    after, other = shown(user)
    assert (before["usage"], after["usage"]) == ({"api_calls": 0}, {"api_calls": 7})
    assert tag != other


def test_a_change_of_plan_is_seen_at_once(user, at):
    factories.consume(factories.customer_of(user), 7, at=at)
    before, tag = shown(user)
    factories.subscribe(factories.customer_of(user), "pro", at=at)
    after, other = shown(user)
    assert (before["plan"], after["plan"]) == ("Free", "Pro")
    assert tag != other


def test_a_change_that_time_brings_is_seen_at_its_instant(user, at):
    factories.consume(factories.customer_of(user), 7, at=at)
    ends_at = datetime(2026, 4, 1, tzinfo=UTC)
    before, _ = shown(user, at=ends_at - timedelta(microseconds=1))
    after, _ = shown(user, at=ends_at)
    assert (before["usage"]["api_calls"], after["usage"]["api_calls"]) == (7, 0)


def test_a_hold_that_dies_is_seen_at_its_instant(user, at):
    customer = factories.customer_of(user)
    asked = Request(
        customer_id=customer.pk,
        wanted=[Wanted(feature_key="api_calls", units=5)],
        keyed=KeyedRequest(key="hold", fingerprint="f"),
    )
    holds.create(asked, ttl_seconds=60, clock=factories.standing(at))
    before, _ = shown(user, at=at + timedelta(seconds=59))
    after, _ = shown(user, at=at + timedelta(seconds=60))
    assert (before["held"]["api_calls"], after["held"]["api_calls"]) == (5, 0)
