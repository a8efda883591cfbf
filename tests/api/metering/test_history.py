"""Show usage by bucket: the ledger added up, in the customer's zone, and whose it is."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from metering.history import COUNTED
from metering.models import Balance, UsageEntry
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/usage/history/"
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
SPAN = {"from": "2026-03-09T00:00:00Z", "to": "2026-03-11T00:00:00Z", "feature": "api_calls"}


@pytest.fixture
def customer(at):
    factories.make_plan(
        "free", at=STARTED, limits={"api_calls": 1000, "exports": 5}, booleans={"sso": True}
    )
    return factories.make_customer(at=STARTED, name="acme", time_zone="Europe/Berlin")


@pytest.fixture
def client(customer, standing_clock):
    return factories.service_client()


def units(answer):
    assert answer.status_code == 200, answer.content
    return [(each["starts_at"], each["units"]) for each in answer.json()["buckets"]]


def add_entry(kind, amount, *, consumed_at, scope=""):
    """Write a line of the ledger as it stands, whatever brings it about."""
    balance = Balance.objects.get(feature__key="api_calls", scope="")
    if scope:
        balance = Balance.objects.create(
            customer=balance.customer,
            feature=balance.feature,
            scope=scope,
            period_starts_at=STARTED,
            mode="hard",
            decided_at=STARTED,
        )
    UsageEntry.objects.create(
        operation_id="00000000-0000-0000-0000-000000000001",
        customer=balance.customer,
        kind=kind,
        feature=balance.feature,
        balance=balance,
        units=amount,
        used_units=0,
        held_units=0,
        consumed_at=consumed_at,
        scope=scope,
    )


class TestHistory:
    def test_adds_usage_up_by_day_of_the_customers_zone(
        self, client, customer, at, django_assert_num_queries
    ):
        for day, hour, amount in [(8, 23, 1), (9, 22, 2), (9, 23, 4), (10, 22, 8), (10, 23, 16)]:
            factories.consume(customer, amount, at=at.replace(day=day, hour=hour))
        factories.consume(customer, 1, at=at, feature="exports")
        asked = SPAN | {"customer": "acme", "from": "2026-03-08T23:00:00Z"}
        client.get(URL, asked)
        with django_assert_num_queries(3):
            answer = client.get(URL, asked | {"to": "2026-03-10T23:00:00Z"})
        assert answer.json() == {
            "feature": "api_calls",
            "buckets": [
                {
                    "starts_at": "2026-03-08T23:00:00Z",
                    "ends_at": "2026-03-09T23:00:00Z",
                    "units": 3,
                },
                {
                    "starts_at": "2026-03-09T23:00:00Z",
                    "ends_at": "2026-03-10T23:00:00Z",
                    "units": 12,
                },
            ],
        }

    @pytest.mark.parametrize(
        ("bucket", "count"), [("hour", 48), ("day", 2), ("week", 1), ("month", 1)]
    )
    def test_lists_empty_buckets_as_well(self, client, bucket, count):
        asked = SPAN | {"customer": "acme", "bucket": bucket, "time_zone": "UTC"}
        assert [amount for _, amount in units(client.get(URL, asked))] == [0] * count

    def test_signs_each_kind_of_entry(self, client, customer, at):
        factories.consume(customer, 100, at=at)
        signs = Counter()
        for number, kind in enumerate(UsageEntry.Kind.values):
            add_entry(kind, 2**number, consumed_at=at + timedelta(minutes=number))
            signs[kind] = 2**number
        expected = 100 + sum(sign * signs[kind] for kind, sign in COUNTED.items())
        assert units(client.get(URL, SPAN | {"customer": "acme", "bucket": "month"})) == [
            ("2026-03-09T00:00:00Z", expected)
        ]
        assert set(UsageEntry.Kind) - set(COUNTED) == {
            "denied",
            "hold",
            "release",
            "extension",
            "rollover",
        }

    def test_shows_the_customers_own_balance_alone(self, client, customer, at):
        factories.consume(customer, 7, at=at)
        add_entry("consume", 100, consumed_at=at, scope="member")
        asked = SPAN | {"customer": "acme", "bucket": "month"}
        assert [amount for _, amount in units(client.get(URL, asked))] == [7]

    def test_shows_no_other_customer(self, client, customer, at):
        factories.consume(customer, 7, at=at)
        own = factories.client_for(factories.make_user(at=at))
        assert {amount for _, amount in units(own.get(URL, SPAN))} == {0}
        refused = own.get(URL, SPAN | {"customer": "acme"})
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")

    @pytest.mark.parametrize(
        ("wrong", "status", "code"),
        [
            ({"feature": None}, 422, "invalid"),
            ({"feature": "api_cals"}, 404, "feature_unknown"),
            ({"feature": "sso"}, 422, "feature_not_metered"),
            ({"from": None}, 422, "invalid"),
            ({"from": "2026-03-09T00:00:00"}, 400, "naive_datetime"),
            ({"to": SPAN["from"]}, 422, "invalid"),
            ({"bucket": "minute"}, 422, "invalid"),
            ({"bucket": "hour", "from": "2025-01-01T00:00:00Z"}, 422, "invalid"),
            ({"group_by": "region"}, 400, "unknown_field"),
        ],
    )
    def test_refuses_what_cannot_be_asked(self, client, wrong, status, code):
        asked = {
            name: value
            for name, value in (SPAN | {"customer": "acme"} | wrong).items()
            if value is not None
        }
        refused = client.get(URL, asked)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert UsageEntry.objects.count() == 0

    def test_needs_the_scope(self, customer):
        refused = factories.service_client(scopes=("usage:write",)).get(URL, SPAN)
        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
