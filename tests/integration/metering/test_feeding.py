"""Feed usage by meters: each event once, in the period of its own time, never refused."""

from datetime import UTC, datetime, timedelta

import pytest

from core import errors
from metering.models import Balance, Meter, MeterEvent, UsageEntry
from metering.services import ingest, meters
from metering.services.arrivals import Event
from metering.services.meters import Definition
from subscriptions.models import Feature
from tests import factories

pytestmark = pytest.mark.django_db
STARTED = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def customer():
    limits = {"api_calls": 100, "tokens": 1000}
    factories.make_plan("free", at=STARTED, limits=limits)
    factories.make_feature("sso", at=STARTED, kind="boolean")
    return factories.make_customer(at=STARTED)


def define(key, *, at, aggregation="sum", feature="api_calls", **fields):
    definition = Definition(
        key=key,
        event_type="used",
        aggregation=aggregation,
        value_path="" if aggregation == "count" else "$.n",
        late_horizon_seconds=86_400 * 60,
        feature_key=feature,
        **fields,
    )
    return meters.define(definition, clock=factories.standing(at))


def sent(customer, number, at, n=1) -> Event:
    return Event(
        customer_id=customer.pk,
        source="/s",
        event_id=f"e{number}",
        event_type="used",
        occurred_at=at,
        data={"n": n},
    )


def count(events, *, at):
    outcomes = ingest.ingest(events=events, clock=factories.standing(at))
    return [
        outcome.refusal.code if outcome.refusal else outcome.result.value for outcome in outcomes
    ]


def used():
    rows = Balance.objects.order_by("feature__key", "period_starts_at")
    return [(row.feature.key, row.period_starts_at.month, row.used_units) for row in rows]


class TestDefine:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"feature": "gone"},
            {"feature": "sso"},
            {"aggregation": "max"},
            {"aggregation": "latest"},
            {"is_decimal": True},
        ],
    )
    def test_refuses_what_cannot_feed(self, customer, at, wrong):
        with pytest.raises(errors.Invalid) as refused:
            define("calls", at=at, **wrong)
        assert refused.value.facts()["errors"][0]["pointer"] == "/feature"
        assert Meter.objects.count() == 0


class TestFeed:
    def test_counts_what_a_sum_reads_once_and_its_duplicates_never(self, customer, at):
        define("calls", at=at)
        batch = [sent(customer, 1, at, n=7), sent(customer, 2, at, n=5), sent(customer, 1, at, n=7)]
        assert count(batch, at=at) == ["counted", "counted", "duplicate"]
        assert count(batch, at=at) == ["duplicate"] * 3
        assert used() == [("api_calls", 3, 12)]
        entries = UsageEntry.objects.filter(kind="record")
        assert sum(each.units for each in entries) == 12
        assert MeterEvent.objects.count() == 2

    def test_counts_a_unit_an_event_for_a_count(self, customer, at):
        define("calls", at=at, aggregation="count")
        assert count([sent(customer, n, at) for n in range(3)], at=at) == ["counted"] * 3
        assert used() == [("api_calls", 3, 3)]

    def test_feeds_several_features_by_one_event(self, customer, at):
        define("calls", at=at, aggregation="count")
        define("tokens", at=at, feature="tokens")
        batch = [sent(customer, 1, at, n=40), sent(customer, 2, at, n=2)]
        assert count(batch, at=at) == ["counted", "counted"]
        assert count(batch, at=at) == ["duplicate", "duplicate"]
        assert used() == [("api_calls", 3, 2), ("tokens", 3, 42)]

    def test_draws_from_the_features_pool_at_its_rate(self, at):
        pool = factories.make_feature("credit_units", at=STARTED)
        Feature.objects.create(
            key="images",
            name="images",
            type="metered",
            plan_group=factories.make_group(),
            pool=pool,
            pool_rate_units=10,
            created_at=STARTED,
        )
        factories.make_plan("free", at=STARTED, limits={"images": None, "credit_units": 100})
        customer = factories.make_customer(at=STARTED)
        define("images", at=at, feature="images")
        assert count([sent(customer, 1, at, n=3)], at=at) == ["counted"]
        assert used() == [("credit_units", 3, 30), ("images", 3, 3)]

    def test_counts_in_the_period_of_the_events_own_time(self, customer, at):
        define("calls", at=at)
        factories.consume(customer, 1, at=STARTED + timedelta(days=1))
        boundary = datetime(2026, 3, 1, tzinfo=UTC)
        batch = [
            sent(customer, 1, boundary - timedelta(microseconds=1), n=10),
            sent(customer, 2, boundary, n=20),
        ]
        assert count(batch, at=at) == ["counted", "counted"]
        assert used() == [("api_calls", 2, 11), ("api_calls", 3, 20)]

    def test_is_never_refused_and_stands_as_overage(self, customer, at):
        define("calls", at=at)
        assert count([sent(customer, 1, at, n=250)], at=at) == ["counted"]
        row = Balance.objects.get()
        assert (row.used_units, row.limit_units) == (250, 100)
        assert row.ceiling_units >= 250
        with pytest.raises(factories.consumption.errors.UsageLimitReached):
            factories.consume(customer, 1, at=at)

    def test_refuses_a_value_below_zero_and_feeds_nothing_for_zero(self, customer, at):
        define("calls", at=at)
        batch = [sent(customer, 1, at, n=-1), sent(customer, 2, at, n=0)]
        assert count(batch, at=at) == ["invalid", "counted"]
        assert (used(), MeterEvent.objects.count()) == ([], 1)

    def test_counts_events_of_a_customer_without_the_feature_by_the_meter_alone(self, at, settings):
        factories.make_feature("api_calls", at=STARTED)
        customer = factories.make_customer(at=STARTED)
        define("calls", at=at)
        assert count([sent(customer, 1, at)], at=at) == ["counted"]
        assert (used(), MeterEvent.objects.count()) == ([], 1)

    def test_takes_the_time_of_a_customer_with_a_test_clock_from_it(self, customer, at):
        define("calls", at=at)
        ahead = at + timedelta(days=365)
        tested = factories.make_customer(at=STARTED, test_clock_at=ahead)
        batch = [sent(tested, 1, ahead), sent(tested, 2, at), sent(customer, 3, ahead)]
        assert count(batch, at=at) == ["counted", "event_too_old", "event_in_future"]
        assert MeterEvent.objects.get().received_at == ahead
        assert [row.used_units for row in Balance.objects.all()] == [1]

    def test_of_many_customers_goes_to_each_its_own(self, customer, at):
        define("calls", at=at)
        others = [customer, *(factories.make_customer(at=STARTED) for _ in range(4))]
        batch = [sent(each, n, at, n=n + 1) for n, each in enumerate(others)]
        assert set(count(batch, at=at)) == {"counted"}
        assert {row.customer_id: row.used_units for row in Balance.objects.all()} == {
            each.pk: n + 1 for n, each in enumerate(others)
        }
