"""A group decides each request as it would be decided alone, and writes the same columns."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest

from core.services.idempotency import KeyedRequest
from metering import errors
from metering.lines import Line
from metering.locks import Wait
from metering.models import Balance, UsageEntry
from metering.services import auditing, consumption, groups, holds, posting
from metering.services.consumption import Consumed, For, Request, Wanted
from metering.services.groups import Verdict
from metering.services.posting import Claim
from subscriptions import switches
from subscriptions.models import Entitlement, Feature
from tests import factories

pytestmark = pytest.mark.django_db
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
OWN = {"id", "operation_id", "customer_id", "balance_id", "hold_id"}  # what no two customers share


@pytest.fixture
def customers():
    """Two customers with open balances: calls, images from a pool, searches of a member."""
    group = factories.make_group()
    common = {"type": "metered", "plan_group": group, "created_at": STARTED}
    pool = Feature.objects.create(key="tokens", name="Tokens", **common)
    Feature.objects.create(key="images", name="Images", pool=pool, pool_rate_units=10, **common)
    Feature.objects.create(key="searches", name="Searches", scope="member", **common)
    limits = {"tokens": 100, "images": None, "searches": 8, "api_calls": 20}
    plan = factories.make_plan("free", at=STARTED, limits=limits, publish=False)
    draft = plan.versions.get()
    scoped = Entitlement.objects.filter(plan_version=draft, feature__key="searches")
    scoped.update(scope_limit_units=5)
    factories.catalog.publish(plan_version_id=draft.pk, clock=factories.standing(STARTED))
    made = [factories.make_customer(at=STARTED) for _ in range(2)]
    for each in made:
        opening = asked(each, key="opening", images=1, searches=1, api_calls=1)
        consumption.consume_alone(opening, clock=factories.standing(NOW))
    return made


def asked(customer, *, key, fingerprint="f", metadata=None, **units):
    return Request(
        customer_id=customer.pk,
        wanted=[Wanted(feature_key=name, units=count) for name, count in units.items()],
        keyed=KeyedRequest(key=key, fingerprint=fingerprint),
        used_by=For(member="7"),
        metadata=metadata or {},
        request_id=f"request-{key}",
    )


def decide(*requests, at=NOW, wait=Wait.PATIENTLY, **options):
    """Return what came of the requests, decided as one group."""
    clock = factories.standing(at)
    group = [consumption.ask(each, clock=clock) for each in requests]
    outcomes = groups.decide(group, wait=wait, **options)
    assert outcomes.keys() == set(group)
    return [outcomes[each] for each in group]


def alone(*requests, at=NOW):
    """Return what came of the requests, each in an operation of its own."""
    outcomes = []
    for each in requests:
        try:
            outcomes.append(consumption.consume_alone(each, clock=factories.standing(at)))
        except errors.UsageDenied as denied:
            outcomes.append(denied)
    return outcomes


def balances(customer):
    rows = Balance.objects.filter(customer=customer).order_by("feature_id", "scope")
    return [without(row, "id", "customer_id") for row in rows.values()]


def ledger(customer):
    rows = UsageEntry.objects.filter(customer=customer).order_by("key", "item")
    return [without(row, *OWN) for row in rows.values()]


def without(row, *names):
    return {name: value for name, value in row.items() if name not in names}


def unchanged():
    return (
        list(Balance.objects.order_by("id").values()),
        list(UsageEntry.objects.order_by("id").values()),
    )


def set_on(customer, feature, **columns):
    rows = Balance.objects.filter(customer=customer, feature__key=feature)
    assert rows.update(**columns)


class TestAsAlone:
    def test_grants_write_the_same_columns(self, customers):
        first, second = customers

        def requests(customer):
            return [
                asked(customer, key="a", fingerprint="fa", metadata={"n": [1, "ü"]}, images=2),
                asked(customer, key="b", fingerprint="fb", searches=2, api_calls=3, images=1),
                asked(customer, key="c", metadata={"q": '"{,}\\'}, api_calls=15),
            ]

        for each in customers:
            wanted = asked(each, key="held", api_calls=1)
            holds.create(wanted, ttl_seconds=3600, clock=factories.standing(NOW))
        later = NOW + timedelta(seconds=5)
        together, apart = decide(*requests(first), at=later), alone(*requests(second), at=later)

        assert all(isinstance(each, Consumed) and not each.replayed for each in together)
        assert ledger(first) == ledger(second)
        assert balances(first) == balances(second)
        assert [shown(each) for each in together] == [shown(each) for each in apart]
        operations = UsageEntry.objects.filter(customer=first).values_list("operation_id", "key")
        assert len(set(operations)) == len({key for _, key in operations}) == 5
        assert auditing.audit()[0] == []

    def test_lines_are_told_as_they_are_stored(self, customers):
        (granted,) = decide(asked(customers[0], key="a", metadata={"n": 1}, searches=2, images=1))
        names = [each.name for each in fields(Line) if each.name != "feature"]
        stored = UsageEntry.objects.filter(key="a").order_by("item")
        assert [
            {name: getattr(line, name) for name in names} | {"feature_id": line.feature.id}
            for line in granted.entries
        ] == [
            {name: getattr(row, name) for name in names} | {"feature_id": row.feature_id}
            for row in stored
        ]
        places = {row.pk: (row.customer_id, row.feature_id, row.scope) for row in stored}
        assert places == {
            row.pk: (row.balance.customer_id, row.balance.feature_id, row.balance.scope)
            for row in stored.select_related("balance")
        }

    def test_denials_write_the_same_columns_and_tell_the_same(self, customers):
        first, second = customers

        def requests(customer):
            return [
                asked(customer, key="a", fingerprint="fa", metadata={"n": 1}, api_calls=20),
                asked(customer, key="b", images=10),
                asked(customer, key="c", api_calls=1, searches=5),
                asked(customer, key="d", api_calls=19),
                asked(customer, key="e", api_calls=1),
            ]

        together, apart = decide(*requests(first)), alone(*requests(second))

        assert [type(each) for each in together] == [
            errors.UsageLimitReached,
            errors.UsageLimitReached,
            errors.UsageLimitReached,
            Consumed,
            errors.UsageLimitReached,
        ]
        assert ledger(first) == ledger(second)
        assert balances(first) == balances(second)
        for ours, theirs in zip(together, apart, strict=True):
            if isinstance(ours, errors.UsageDenied):
                assert (ours.detail, ours.facts()) == (theirs.detail, theirs.facts())
                assert not ours.replayed
        assert auditing.audit()[0] == []


def shown(granted):
    return [(each.feature.key, each.units, each.used_units, each.item) for each in granted.entries]


class TestLeavesAlone:
    """What needs more than plain rows is left to an operation of its own; nothing is written."""

    @pytest.mark.parametrize(
        ("columns", "verdict"),
        [
            ({"is_current": False}, Verdict.ABSENT),
            ({"is_plain": False}, Verdict.ALONE),
            ({"valid_until": NOW}, Verdict.ALONE),
            ({"holds_due_at": NOW}, Verdict.ALONE),
            ({"alert_units": 4}, Verdict.ALONE),
            ({"alert_units": 6, "held_units": 2}, Verdict.ALONE),
            ({"denial_code": "payment_required"}, Verdict.ALONE),
        ],
    )
    def test_what_the_rows_do_not_decide(self, customers, columns, verdict):
        set_on(customers[0], "api_calls", **columns)
        before = unchanged()
        assert decide(asked(customers[0], key="a", images=1, api_calls=3)) == [verdict]
        assert unchanged() == before

    @pytest.mark.parametrize(
        "columns",
        [
            {"valid_until": NOW + timedelta(microseconds=1)},
            {"holds_due_at": NOW + timedelta(microseconds=1)},
            {"alert_units": 5},
            {"alert_units": 7, "held_units": 2},
        ],
    )
    def test_nothing_that_is_still_to_come(self, customers, columns):
        set_on(customers[0], "api_calls", **columns)
        (outcome,) = decide(asked(customers[0], key="a", images=1, api_calls=3))
        assert isinstance(outcome, Consumed)

    def test_a_threshold_is_met_by_all_that_the_place_draws(self, customers):
        set_on(customers[0], "tokens", alert_units=40)  # 10 are used
        twice = asked(customers[0], key="a", images=1)
        twice = replace(twice, wanted=[*twice.wanted, Wanted(feature_key="tokens", units=20)])
        before = unchanged()
        assert decide(twice) == [Verdict.ALONE]
        assert unchanged() == before
        set_on(customers[0], "tokens", alert_units=41)
        assert isinstance(decide(twice)[0], Consumed)

    def test_a_denial_that_a_switch_lifts(self, customers):
        beyond = asked(customers[0], key="a", images=1, api_calls=20)
        feature = Feature.objects.get(key="images")
        opened = switches.Switch(state="allow", expires_at=datetime(9999, 1, 1, tzinfo=UTC))
        before = unchanged()
        switches.remember({feature.pk: opened}, loaded_at=float("inf"))
        try:
            assert decide(beyond) == [Verdict.ALONE]
        finally:
            switches.remember({}, loaded_at=float("inf"))
        assert unchanged() == before

    def test_others_of_the_group_are_decided_none_the_less(self, customers):
        set_on(customers[0], "api_calls", is_plain=False)
        outcomes = decide(
            asked(customers[0], key="a", api_calls=1),
            asked(customers[1], key="a", api_calls=1),
            asked(customers[0], key="b", images=1),
        )
        assert outcomes[0] is Verdict.ALONE
        assert [type(each) for each in outcomes[1:]] == [Consumed, Consumed]
        assert not UsageEntry.objects.filter(customer=customers[0], key="a").exists()


class TestKeys:
    def test_the_first_of_twins_is_decided_and_the_rest_left(self, customers):
        twins = [asked(customers[0], key="a", api_calls=count) for count in (1, 2, 3)]
        other = asked(customers[1], key="a", api_calls=4)
        outcomes = decide(*twins, other)
        assert outcomes[1:3] == [Verdict.ALONE, Verdict.ALONE]
        units = [each.entries[0].units for each in (outcomes[0], outcomes[3])]
        assert units == [1, 4]
        assert UsageEntry.objects.filter(key="a").count() == 2

    @pytest.mark.parametrize("is_replay_likely", [False, True])
    @pytest.mark.parametrize("is_denied", [False, True])
    def test_one_that_is_recorded_is_told_and_the_rest_counted(
        self, customers, is_replay_likely, is_denied
    ):
        first, second = customers
        alone(asked(first, key="old", api_calls=100 if is_denied else 1))
        before, recorded = unchanged(), ledger(first)
        old = asked(first, key="old", api_calls=100 if is_denied else 1)
        assert decide(old, is_replay_likely=is_replay_likely) == [Verdict.RECORDED]
        assert unchanged() == before

        outcomes = decide(
            asked(second, key="new", api_calls=1),
            old,
            asked(second, key="old", api_calls=1),
            is_replay_likely=is_replay_likely,
        )
        assert outcomes[1] is Verdict.RECORDED
        assert [type(each) for each in (outcomes[0], outcomes[2])] == [Consumed, Consumed]
        assert Balance.objects.get(customer=second, feature__key="api_calls").used_units == 3
        assert ledger(first) == recorded

    @pytest.mark.parametrize("units", [1, 100])
    def test_one_that_is_taken_while_it_is_decided_alone_is_told_what_was_recorded(
        self, customers, monkeypatch, units
    ):
        (first,) = alone(asked(customers[0], key="one", api_calls=units))
        before, find = unchanged(), consumption.find_recorded
        looked = []

        def too_early(request):
            looked.append(request)
            return find(request) if len(looked) > 1 else []

        monkeypatch.setattr(consumption, "find_recorded", too_early)
        (again,) = alone(asked(customers[0], key="one", api_calls=units))
        assert len(looked) == 2
        assert again.replayed
        if isinstance(first, Consumed):
            assert [each.pk for each in again.entries] == [each.pk for each in first.entries]
        else:
            assert (again.detail, again.facts()) == (first.detail, first.facts())
        assert unchanged() == before

    def test_likely_replays_are_looked_up_before_anything_is_locked(
        self, customers, django_assert_num_queries
    ):
        clock = factories.standing(NOW)
        recorded = consumption.ask(asked(customers[0], key="opening", api_calls=1), clock=clock)
        with django_assert_num_queries(1):
            outcomes = groups.decide([recorded], wait=Wait.PATIENTLY, is_replay_likely=True)
        assert outcomes == {recorded: Verdict.RECORDED}

    def test_are_found_by_customer_and_key_together(self, customers):
        first, second = customers
        alone(asked(first, key="one", api_calls=1), asked(second, key="two", api_calls=1))
        claims = [Claim(each.pk, key) for each in customers for key in ("one", "two", "three")]
        assert posting.find_claimed(claims=claims) == {
            Claim(first.pk, "one"),
            Claim(second.pk, "two"),
        }


class TestTime:
    def test_never_goes_back_behind_a_decision(self, customers):
        ahead = NOW + timedelta(seconds=9)
        set_on(customers[0], "tokens", decided_at=ahead)
        (granted,) = decide(asked(customers[0], key="a", images=1, api_calls=1))
        assert {each.consumed_at for each in granted.entries} == {ahead}
        assert set(
            Balance.objects.filter(
                customer=customers[0], feature__key__in=["images", "tokens", "api_calls"]
            ).values_list("decided_at", flat=True)
        ) == {ahead}

    def test_of_the_rows_decides_what_is_due(self, customers):
        set_on(customers[0], "images", decided_at=NOW + timedelta(seconds=9))
        set_on(customers[0], "tokens", valid_until=NOW + timedelta(seconds=9))
        before = unchanged()
        assert decide(asked(customers[0], key="a", images=1)) == [Verdict.ALONE]
        assert unchanged() == before

    def test_is_each_requests_own_clock_read_once(self, customers):
        class Ticking:
            def __init__(self, at):
                self.at = at

            def now(self):
                self.at += timedelta(seconds=1)
                return self.at

        one, other = Ticking(NOW), Ticking(NOW + timedelta(hours=1))
        group = [
            consumption.ask(asked(customers[number % 2], key=f"k{number}", api_calls=1), clock=each)
            for number, each in enumerate((one, other, one, other))
        ]
        outcomes = groups.decide(group, wait=Wait.PATIENTLY)
        assert [outcomes[each].entries[0].consumed_at for each in group] == [
            NOW + timedelta(seconds=1),
            NOW + timedelta(hours=1, seconds=1),
            NOW + timedelta(seconds=1),
            NOW + timedelta(hours=1, seconds=1),
        ]
