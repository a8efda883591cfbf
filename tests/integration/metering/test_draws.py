"""Count one item on every balance that draws: a member's, the customer's, the pool's."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from core import errors as core_errors
from core.services.idempotency import KeyedRequest
from metering import errors, selectors
from metering.models import Balance, Hold, UsageEntry
from metering.services import auditing, endings, holds, recording, reversing
from metering.services.consumption import For, Request, Wanted, consume
from subscriptions import selectors as catalog
from subscriptions.models import Entitlement, Feature
from tests import factories

pytestmark = pytest.mark.django_db
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def clock(seconds: int = 0):
    return factories.standing(NOW + timedelta(seconds=seconds))


@pytest.fixture
def customer():
    """Images draw ten tokens each from the pool; seats are taken; searches count per member."""
    group = factories.make_group()
    common = {"type": "metered", "plan_group": group, "created_at": STARTED}
    pool = Feature.objects.create(key="tokens", name="Tokens", **common)
    Feature.objects.create(key="images", name="Images", pool=pool, pool_rate_units=10, **common)
    Feature.objects.create(key="seats", name="Seats", is_allocated=True, **common)
    Feature.objects.create(key="searches", name="Searches", scope="member", **common)
    Feature.objects.create(key="exports", name="Exports", scope="entity", **common)
    limits = {"tokens": 100, "images": None, "seats": 3, "searches": 8, "exports": None}
    plan = factories.make_plan("free", at=STARTED, limits=limits, publish=False)
    draft = plan.versions.get()
    scoped = Entitlement.objects.filter(plan_version=draft, feature__scope__in=["member", "entity"])
    scoped.update(scope_limit_units=5)
    seats = Entitlement.objects.filter(plan_version=draft, feature__key="seats")
    seats.update(reset_interval="lifetime")
    factories.catalog.publish(plan_version_id=draft.pk, clock=factories.standing(STARTED))
    return factories.make_customer(at=STARTED)


_keys = iter(range(10**6))


def asked(customer, units=1, feature="images", *, entity="", member="", key=None, **more):
    wanted = [Wanted(feature_key=feature, units=units)]
    wanted += [Wanted(feature_key=each, units=count) for each, count in more.items()]
    return Request(
        customer_id=customer.pk,
        wanted=wanted,
        keyed=KeyedRequest(key=key or f"draw{next(_keys)}", fingerprint="f"),
        used_by=For(entity=entity, member=member),
    )


def figures() -> dict[tuple[str, str], tuple[int, int]]:
    return {
        (row.feature.key, row.scope): (row.used_units, row.held_units)
        for row in Balance.objects.select_related("feature")
    }


def unchanged():
    return (
        list(Balance.objects.order_by("id").values()),
        list(UsageEntry.objects.order_by("id").values_list("id", flat=True)),
        list(Hold.objects.order_by("id").values()),
    )


class TestPools:
    def test_count_the_feature_and_the_pool_at_its_rate(self, customer):
        done = consume(asked(customer, 3), clock=clock())
        assert figures() == {("images", ""): (3, 0), ("tokens", ""): (30, 0)}
        lines = [(line.feature.key, line.units, line.drawn_for) for line in done.entries]
        assert lines == [("images", 3, None), ("tokens", 30, 0)]
        assert auditing.audit()[0] == []

    def test_refuse_at_the_pool_edge_and_name_it(self, customer):
        consume(asked(customer, 10), clock=clock())
        before = list(Balance.objects.order_by("id").values("used_units"))
        with pytest.raises(errors.UsageLimitReached) as refused:
            consume(asked(customer, 1), clock=clock(1))
        facts = refused.value.facts()
        assert (facts["feature"], facts["pool"], facts["remaining"]) == ("images", "tokens", 0)
        assert list(Balance.objects.order_by("id").values("used_units")) == before

    def test_hold_capture_less_and_return_the_rest_to_the_pool(self, customer):
        held = holds.create(asked(customer, 4), ttl_seconds=60, clock=clock())
        assert figures() == {("images", ""): (0, 4), ("tokens", ""): (0, 40)}
        ending = endings.Ending(
            customer_id=customer.pk,
            hold_id=held.entries[0].hold_id,
            keyed=KeyedRequest(key="capture", fingerprint="f"),
            units=1,
        )
        endings.capture(ending, clock=clock(1))
        assert figures() == {("images", ""): (1, 0), ("tokens", ""): (10, 0)}
        assert auditing.audit()[0] == []

    def test_are_given_back_what_a_reversal_takes(self, customer):
        done = consume(asked(customer, 3, tokens=5), clock=clock())
        reversal = reversing.Reversal(
            customer_id=customer.pk,
            entry_id=done.entries[0].pk,
            keyed=KeyedRequest(key="back", fingerprint="f"),
            reason="failed",
        )
        reversing.reverse(reversal, clock=clock(1))
        assert figures() == {("images", ""): (0, 0), ("tokens", ""): (5, 0)}
        again = reversing.reverse(reversal, clock=clock(2))
        assert again.replayed
        with pytest.raises(errors.EntryAlreadyReversed):
            reversing.reverse(
                reversing.Reversal(
                    customer_id=customer.pk,
                    entry_id=done.entries[0].pk,
                    keyed=KeyedRequest(key="other", fingerprint="f"),
                ),
                clock=clock(3),
            )
        assert auditing.audit()[0] == []


class TestScopes:
    def test_count_a_member_under_the_customers_own_limit(self, customer):
        consume(asked(customer, 5, "searches", member="1"), clock=clock())
        assert figures() == {("searches", "member:1"): (5, 0), ("searches", ""): (5, 0)}
        with pytest.raises(errors.UsageLimitReached):
            consume(asked(customer, 1, "searches", member="1"), clock=clock(1))
        with pytest.raises(errors.UsageLimitReached):
            consume(asked(customer, 4, "searches", member="2"), clock=clock(1))
        assert figures()[("searches", "")] == (5, 0)
        consume(asked(customer, 3, "searches", member="2"), clock=clock(2))
        assert figures()[("searches", "")] == (8, 0)
        assert figures()[("searches", "member:2")] == (3, 0)
        assert auditing.audit()[0] == []

    def test_are_named_where_they_must_be_and_only_there(self, customer):
        before = unchanged()
        for request, refusal in (
            (asked(customer, 1, "exports"), core_errors.Invalid),
            (asked(customer, 1, "searches"), core_errors.Invalid),
            (asked(customer, 1, "images", entity="x"), core_errors.Invalid),
            (asked(customer, 1, "searches", member="1", entity="2"), core_errors.PermissionDenied),
        ):
            with pytest.raises(refusal):
                consume(request, clock=clock())
        assert unchanged() == before

    def test_hold_record_and_check_count_on_both(self, customer):
        recording.record(asked(customer, 9, "exports", entity="room-1"), clock=clock())
        assert figures()[("exports", "entity:room-1")] == (9, 0)
        row = Balance.objects.get(scope="entity:room-1")
        assert (row.limit_units, row.overage_units) == (5, 4)
        with pytest.raises(errors.UsageLimitReached):
            holds.create(
                asked(customer, 1, "exports", entity="room-1"), ttl_seconds=9, clock=clock(1)
            )
        holds.create(asked(customer, 1, "exports", entity="room-2"), ttl_seconds=9, clock=clock(1))
        assert figures()[("exports", "")] == (9, 1)
        assert auditing.audit()[0] == []


class TestAllocated:
    def test_seats_are_taken_and_given_back(self, customer):
        consume(asked(customer, 3, "seats"), clock=clock())
        with pytest.raises(errors.UsageLimitReached):
            consume(asked(customer, 1, "seats"), clock=clock(1))
        done = reversing.give_back(asked(customer, 2, "seats"), clock=clock(2))
        assert (done.entries[0].kind, done.entries[0].used_units) == ("adjustment", 1)
        assert figures()[("seats", "")] == (1, 0)
        assert auditing.audit()[0] == []

    def test_more_than_is_taken_and_what_is_used_up_are_refused(self, customer):
        consume(asked(customer, 1, "seats"), clock=clock())
        before = unchanged()
        with pytest.raises(errors.ExceedsUsage):
            reversing.give_back(asked(customer, 2, "seats"), clock=clock(1))
        with pytest.raises(errors.NotAllocated):
            reversing.give_back(asked(customer, 1, "images"), clock=clock(1))
        assert unchanged() == before


class TestSeveral:
    def test_features_are_held_together_or_not_at_all(self, customer):
        held = holds.create(asked(customer, 2, seats=1), ttl_seconds=60, clock=clock())
        assert figures() == {
            ("images", ""): (0, 2),
            ("tokens", ""): (0, 20),
            ("seats", ""): (0, 1),
        }
        before = unchanged()
        with pytest.raises(errors.UsageLimitReached) as refused:
            holds.create(asked(customer, 1, seats=3), ttl_seconds=60, clock=clock(1))
        assert refused.value.facts()["feature"] == "seats"
        after = unchanged()
        assert (after[0], after[2]) == (before[0], before[2])
        ending = endings.Ending(
            customer_id=customer.pk,
            hold_id=held.entries[0].hold_id,
            keyed=KeyedRequest(key="all", fingerprint="f"),
        )
        endings.capture(ending, clock=clock(2))
        assert figures()[("tokens", "")] == (20, 0)

    def test_are_captured_as_a_whole(self, customer):
        held = holds.create(asked(customer, 2, seats=1), ttl_seconds=60, clock=clock())
        before = unchanged()
        ending = endings.Ending(
            customer_id=customer.pk,
            hold_id=held.entries[0].hold_id,
            keyed=KeyedRequest(key="part", fingerprint="f"),
            units=1,
        )
        with pytest.raises(core_errors.Invalid):
            endings.capture(ending, clock=clock(1))
        assert unchanged() == before


class TestImmutability:
    def test_of_a_published_features_pool_stands_in_the_database(self, customer):
        for change in ({"pool_rate_units": 5}, {"scope": "entity"}, {"is_allocated": True}):
            with pytest.raises(IntegrityError), transaction.atomic():
                Feature.objects.filter(key="images").update(**change)
        assert catalog.get_feature(key="images").pool_rate_units == 10


def test_overview_shows_the_customers_own_balances(customer):
    consume(asked(customer, 3, "searches", member="1"), clock=clock())
    overview = selectors.get_overview(customer=customer, clock=clock(1))
    assert overview.standings["searches"].used_units == 3
    assert overview.standings["seats"].limit_units == 3
