"""Add-ons on and off: at once, one open row each, told to the other apps."""

from datetime import UTC, datetime, timedelta

import pytest

from core import clock as clocks
from core import errors
from core.models import OutboxEvent
from metering import selectors as metering_selectors
from metering.api import bodies
from subscriptions import errors as own_errors
from subscriptions.models import (
    AddOn,
    AddOnEntitlement,
    AddOnPrice,
    Subscription,
    SubscriptionAddOn,
    TimelineEntry,
)
from subscriptions.services import actions, add_ons, sweeping
from subscriptions.services.add_ons import AddOnOrder
from tests import factories

pytestmark = pytest.mark.django_db
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def pro(at) -> Subscription:
    factories.make_plan("pro", at=STARTED, price_minor=2900)
    return factories.subscribe(factories.make_customer(at=STARTED), "pro", at=at)


def make_add_on(key: str, *, group: str = "main", currency: str = "EUR", units: int = 0) -> AddOn:
    row = AddOn.objects.create(
        key=key, name=key, plan_group=factories.make_group(group), created_at=STARTED
    )
    for interval in ("year", "month"):
        AddOnPrice.objects.create(
            add_on=row,
            key=f"{key}-{interval}",
            currency=currency,
            unit_amount_minor=500,
            interval=interval,
        )
    if units:
        AddOnEntitlement.objects.create(
            add_on=row, feature=factories.make_feature("api_calls", at=STARTED), units=units
        )
    AddOn.objects.filter(pk=row.pk).update(published_at=STARTED)
    return row


def standing(customer, at) -> tuple:
    customer.refresh_from_db()
    body = bodies.overview(
        metering_selectors.get_overview(customer=customer, clock=factories.standing(at))
    )
    shown = tuple(body[name]["api_calls"] for name in ("limits", "usage", "remaining"))
    return (*shown, "api_calls" in body["over_limit"])


def put(row, key, quantity, at, *, price_key=None) -> Subscription:
    return add_ons.set_quantity(
        subscription_id=row.pk,
        order=AddOnOrder(add_on_key=key, quantity=quantity, price_key=price_key),
        actor=factories.ACTOR,
        clock=factories.standing(at),
    )


def spans() -> list[tuple]:
    rows = SubscriptionAddOn.objects.order_by("starts_at", "id")
    return list(rows.values_list("quantity", "price__key", "starts_at", "ends_at"))


def everything() -> tuple:
    return (
        spans(),
        list(Subscription.objects.values()),
        TimelineEntry.objects.count(),
        OutboxEvent.objects.count(),
    )


class TestQuantity:
    def test_begins_grows_and_ends_each_from_its_instant(self, pro, at):
        make_add_on("more")
        put(pro, "more", 1, at)
        put(pro, "more", 3, at + DAY)
        put(pro, "more", 0, at + 2 * DAY)
        assert spans() == [
            (1, "more-month", at, at + DAY),
            (3, "more-month", at + DAY, at + 2 * DAY),
        ]
        told = OutboxEvent.objects.filter(event_type="subscription.add_ons_changed")
        assert [each.payload for each in told.order_by("id")] == [
            {
                "subscription": str(pro.pk),
                "add_on": "more",
                "from_quantity": before,
                "to_quantity": after,
                "effective_at": clocks.rfc3339(at + days * DAY),
            }
            for before, after, days in ((0, 1, 0), (1, 3, 1), (3, 0, 2))
        ]

    def test_that_is_there_already_changes_nothing(self, pro, at):
        make_add_on("more")
        put(pro, "more", 2, at)
        before = everything()
        put(pro, "more", 2, at + DAY)
        assert everything() == before

    def test_of_one_archived_can_still_be_taken_off(self, pro, at):
        row = make_add_on("more")
        put(pro, "more", 2, at, price_key="more-year")
        AddOn.objects.filter(pk=row.pk).update(archived_at=at)
        put(pro, "more", 0, at + DAY)
        assert spans() == [(2, "more-year", at, at + DAY)]


class TestUnits:
    """UL08 and UL09 of the vectors."""

    def test_stack_at_once_and_go_at_once(self, at):
        factories.make_plan("pro", at=STARTED, limits={"api_calls": 1000}, price_minor=2900)
        customer = factories.make_customer(at=STARTED)
        row = factories.subscribe(customer, "pro", at=at)
        make_add_on("more", units=500)
        factories.consume(customer, 1000, at=at)
        put(row, "more", 1, at)
        assert standing(customer, at) == (1500, 1000, 500, False)
        factories.consume(customer, 200, at=at)
        put(row, "more", 0, at)
        assert standing(customer, at) == (1000, 1200, 0, True)


class TestRefusal:
    def test_names_the_fault_and_changes_nothing(self, pro, at):
        make_add_on("more")
        make_add_on("other", group="other")
        make_add_on("dollars", currency="USD")
        AddOn.objects.filter(pk=make_add_on("gone").pk).update(archived_at=at)
        AddOn.objects.create(
            key="draft", name="Draft", plan_group=pro.plan_group, created_at=STARTED
        )
        before = everything()
        for key, quantity, price_key, refusal in (
            ("nope", 1, None, own_errors.PlanNotAvailable),
            ("draft", 1, None, own_errors.PlanNotAvailable),
            ("gone", 1, None, own_errors.PlanNotAvailable),
            ("other", 1, None, own_errors.PlanNotAvailable),
            ("dollars", 1, None, own_errors.CurrencyMismatch),
            ("more", 1, "x", errors.Invalid),
            ("more", -1, None, errors.Invalid),
            ("more", add_ons.QUANTITY_MAX + 1, None, errors.Invalid),
        ):
            with pytest.raises(refusal):
                put(pro, key, quantity, at, price_key=price_key)
        assert everything() == before

    def test_follows_the_state(self, pro, at):
        make_add_on("more")
        actions.pause(subscription_id=pro.pk, actor=factories.ACTOR, clock=factories.standing(at))
        before = everything()
        with pytest.raises(own_errors.InvalidTransition):
            put(pro, "more", 1, at)
        assert everything() == before
        actions.cancel_now(
            subscription_id=pro.pk, actor=factories.ACTOR, clock=factories.standing(at)
        )
        before = everything()
        with pytest.raises(own_errors.SubscriptionEnded):
            put(pro, "more", 1, at)
        assert everything() == before


class TestEnd:
    def test_comes_with_the_subscription_now(self, pro, at):
        make_add_on("support")
        put(pro, "support", 2, at)
        actions.cancel_now(
            subscription_id=pro.pk, actor=factories.ACTOR, clock=factories.standing(at + DAY)
        )
        assert SubscriptionAddOn.objects.get().ends_at == at + DAY

    def test_comes_with_the_subscription_by_the_clock(self, pro, at):
        make_add_on("support")
        put(pro, "support", 2, at)
        clock = factories.standing(at)
        actions.cancel_at_period_end(subscription_id=pro.pk, actor=factories.ACTOR, clock=clock)
        sweeping.settle_free(customer_id=pro.customer_id, clock=factories.standing(at + 60 * DAY))
        pro.refresh_from_db()
        assert SubscriptionAddOn.objects.get().ends_at == pro.ended_at == pro.cancel_at
