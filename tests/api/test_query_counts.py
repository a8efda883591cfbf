"""Every operation asks the database a constant number of times, however much there is."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from core.api import authentication
from core.models import Customer, OutboxEvent, User
from core.services.idempotency import KeyedRequest
from metering.api import showing
from metering.models import Balance, Grant
from metering.services import crossing, granting, holds
from metering.services.asking import Request
from metering.services.drawing import Wanted
from subscriptions.models import Subscription
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock")]

STARTED = datetime(2026, 3, 1, tzinfo=UTC)
_keys = count(1)


@dataclass(frozen=True)
class Call:
    """One operation, the status that it answers, and its statements between BEGIN and COMMIT."""

    method: str
    path: str
    statements: int
    status: int = 200
    body: dict[str, Any] = field(default_factory=dict)


IDENTITY = 1
ASKED = {"feature": "api_calls", "units": 1}
CALLS = {
    # subscriptions, versions, what stands beside the plan, balances
    "me": Call("get", "/api/subscriptions/me/", IDENTITY + 3),
    "entitlements": Call("get", "/api/entitlements/", IDENTITY + 3),
    "entitlement": Call("get", "/api/entitlements/api_calls/", IDENTITY + 3),
    "check": Call("post", "/api/usage/check/", IDENTITY + 3, body=ASKED),
    # and the grants and holds that it names
    "explain": Call("get", "/api/entitlements/api_calls/explain/?units=2", IDENTITY + 3 + 2),
    # lock, then count and append in one; on SQLite the key is looked up, and each is written
    "consume": Call(
        "post",
        "/api/usage/consume/",
        IDENTITY + (2 if connection.vendor == "postgresql" else 4),
        body=ASKED,
    ),
    "entries": Call("get", "/api/usage/entries/", IDENTITY + 1),
    "subscriptions": Call("get", "/api/subscriptions/", IDENTITY + 1),
    "timeline": Call("get", "/api/subscriptions/me/timeline/", IDENTITY + 1),
    # the catalog's revision, what the customer holds, who he is, and which trials he took
    "plans": Call("get", "/api/plans/", IDENTITY + 4),
    "plan": Call("get", "/api/plans/pro/", IDENTITY + 4),
    "features": Call("get", "/api/features/", IDENTITY + 1),
    "own user": Call("get", "/api/users/me/", IDENTITY),
}


@pytest.fixture
def user(at) -> User:
    for name, price in (("free", 0), ("pro", 0)):
        factories.make_plan(name, at=STARTED, limits={"api_calls": 1000}, price_minor=price)
    return factories.make_user(at=STARTED)


def widen(user: User, *, at: datetime) -> None:
    """Give the customer more of everything: features, plans, subscriptions, entries."""
    customer = factories.customer_of(user)
    for number in range(20):
        factories.make_plan(
            f"plan{number}", at=STARTED, limits={f"f{number}": 5, "api_calls": 7}, rank=number
        )
    for _ in range(5):
        Subscription.objects.filter(customer=customer).update(status="canceled", ended_at=at)
        factories.subscribe(customer, "pro", at=at)
        factories.consume(customer, 1, at=at)


def statements(call: Call, *, client: APIClient) -> int:
    headers = {"HTTP_IDEMPOTENCY_KEY": f"key{next(_keys)}"} if call.method == "post" else {}
    authentication.forget_callers()  # as its first request in five seconds is answered
    showing.forget()
    with CaptureQueriesContext(connection) as queries:
        send = getattr(client, call.method)
        answer = send(call.path, call.body or None, format="json", **headers)
    assert answer.status_code == call.status, answer.content
    return len([each for each in queries if "SAVEPOINT" not in each["sql"]])


def measured(client: APIClient) -> dict[str, int]:
    for call in CALLS.values():
        statements(call, client=client)  # what a process reads once is read
    return {name: statements(call, client=client) for name, call in CALLS.items()}


class TestStatements:
    def test_are_as_many_as_stated_and_no_more_where_there_is_more(self, user, at):
        client = factories.client_for(user)
        stated = {name: call.statements for name, call in CALLS.items()}
        assert measured(client) == stated
        widen(user, at=at)
        assert measured(client) == stated

    @pytest.mark.postgres
    def test_is_one_for_an_overview_that_nothing_moved_since(self, user, at):
        client = factories.client_for(user)
        me, asking = CALLS["me"], lambda: client.get(CALLS["me"].path)
        statements(me, client=client)
        with CaptureQueriesContext(connection) as queries:
            asking()
        assert len(queries) == 1


class TestConsume:
    """Statements of the transaction that decides, whatever stands beside the allowance."""

    GRANTED_MAX = 6  # balance and grants locked, both written, the burn, the line

    @pytest.fixture
    def customer(self, user, at) -> Customer:
        customer = factories.customer_of(user)
        for number in range(3):
            granting.create(
                customer_id=customer.pk,
                order=granting.Order(feature_key="api_calls", units=50, priority=1),
                actor=factories.ACTOR,
                keyed=KeyedRequest(key=f"grant{number}", fingerprint="f"),
                render=lambda row: {"id": str(row.pk)},
                clock=factories.standing(at),
            )
        return customer

    def counted(self, customer, units, *, at, feature="api_calls") -> int:
        with CaptureQueriesContext(connection) as queries:
            factories.consume(customer, units, at=at, feature=feature)
        sent = [each["sql"] for each in queries]
        begun = max(n for n, sql in enumerate(sent) if sql.startswith("SAVEPOINT"))
        return len([sql for sql in sent[begun:] if "SAVEPOINT" not in sql])

    @pytest.mark.parametrize(("units", "spent"), [(1, 1), (60, 2), (150, 3)])
    def test_of_granted_units_are_few_however_many_grants_stand(self, customer, at, units, spent):
        assert self.counted(customer, units, at=at) <= self.GRANTED_MAX
        assert Grant.objects.filter(remaining_units__lt=50).count() == spent

    def hold(self, customer, units, *, times, at):
        for _ in range(times):
            request = Request(
                customer_id=customer.pk,
                wanted=[Wanted(feature_key="api_calls", units=units)],
                keyed=holds.fresh_key(),
            )
            holds.create(request, ttl_seconds=1, clock=factories.standing(at))

    @pytest.mark.parametrize("due", [1, 4])
    def test_without_grants_are_four_at_most_however_many_holds_are_due(self, user, at, due):
        customer = factories.customer_of(user)
        self.hold(customer, 2, times=due, at=at)
        # the balance locked, due holds marked, the balance written, the line
        assert self.counted(customer, 1, at=at + timedelta(seconds=5)) <= 4

    DUE_MAX = GRANTED_MAX + 1  # due holds marked, with what they had burnt

    @pytest.mark.parametrize("due", [1, 4])
    def test_are_few_however_many_holds_are_due(self, customer, at, due):
        self.hold(customer, 60, times=due, at=at)
        assert self.counted(customer, 1, at=at + timedelta(seconds=5)) <= self.DUE_MAX
        row = Balance.objects.get()
        assert (row.used_units, row.held_units) == (1, 0)
        remaining = sorted(Grant.objects.values_list("remaining_units", flat=True))
        assert remaining == [49, 50, 50]

    @pytest.mark.parametrize("percents", [[50], [40, 50]])
    @pytest.mark.parametrize(("granted", "most"), [(False, 4), (True, GRANTED_MAX + 1)])
    def test_is_one_more_where_alerts_are_crossed(self, user, at, percents, granted, most):
        factories.make_plan(
            "alerting",
            at=at,
            limits={"exports": 10},
            entitlement={"alert_percents": percents},
            rank=9,
        )
        customer = factories.customer_of(user)
        factories.subscribe(customer, "alerting", at=at)
        if granted:
            granting.create(
                customer_id=customer.pk,
                order=granting.Order(feature_key="exports", units=10, priority=1),
                actor=factories.ACTOR,
                keyed=KeyedRequest(key="grant", fingerprint="f"),
                render=lambda row: {"id": str(row.pk)},
                clock=factories.standing(at),
            )
        factories.consume(customer, 1, feature="exports", at=at)
        told = OutboxEvent.objects.filter(event_type=crossing.THRESHOLD_REACHED)
        units = 15 if granted else 8
        assert self.counted(customer, units, feature="exports", at=at) <= most
        assert told.count() == len(percents)
