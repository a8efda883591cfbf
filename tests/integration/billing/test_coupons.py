"""Coupons: what they take off, for how long, and whom they are refused."""

from datetime import UTC, datetime, timedelta

import pytest

from billing import errors as own_errors
from billing.models import Coupon, Invoice, MrrMovement, Redemption
from billing.services import coupons, subscribing
from core import clock, errors
from core.services.idempotency import KeyedRequest
from subscriptions.models import Subscription
from subscriptions.services import lifecycle
from tests import factories
from tests.till import STARTED

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
APRIL, MAY, JUNE, JULY = (datetime(2026, month, 1, tzinfo=UTC) for month in (4, 5, 6, 7))
HALF_WAY = datetime(2026, 4, 16, tzinfo=UTC)


def make(key: str, **fields) -> Coupon:
    return coupons.create(
        coupon=Coupon(key=key, name=key, **fields), clock=factories.standing(STARTED)
    )


def subscribe(customer, plan_key: str, at: datetime, *, coupon: str | None, key="k"):
    return subscribing.subscribe(
        customer_id=customer.pk,
        order=lifecycle.Order(plan_key=plan_key),
        coupon_key=coupon,
        actor=factories.ACTOR,
        keyed=KeyedRequest(key=key, fingerprint="f"),
        render=lambda row, payable, _: {
            "subscription": str(row.pk),
            "due": payable.due_minor if payable else 0,
        },
        clock=factories.standing(at),
    )


def totals() -> list[tuple]:
    rows = Invoice.objects.order_by("billed_at")
    return list(rows.values_list("subtotal_minor", "discount_minor", "total_minor"))


def stored() -> tuple:
    return tuple(
        list(model.objects.order_by("pk").values())
        for model in (Coupon, Redemption, Invoice, Subscription, MrrMovement)
    )


class TestDiscount:
    @pytest.mark.parametrize(
        ("fields", "discounts", "mrr"),
        [
            ({"percent_off": 50, "duration": "once"}, [500, 0, 0, 0], 1000),
            (
                {"percent_off": 50, "duration": "repeating", "invoices_max": 2},
                [500, 500, 0, 0],
                1000,
            ),
            ({"percent_off": 50, "duration": "forever"}, [500, 500, 500, 500], 500),
            (
                {"amount_off_minor": 300, "currency": "EUR", "duration": "forever"},
                [300, 300, 300, 300],
                700,
            ),
        ],
    )
    def test_lasts_as_long_as_the_coupon_says(self, customer, till, fields, discounts, mrr):
        make("SPRING", **fields)
        subscribe(customer, "pro", APRIL, coupon="SPRING")
        till.pay_all(APRIL)
        till.settle(JULY)
        assert [discount for _, discount, _ in totals()] == discounts
        assert MrrMovement.objects.get().mrr_minor == mrr

    def test_is_given_back_with_its_line_and_not_given_again(self, customer, till):
        make("HALF", percent_off=50, duration="forever")
        subscribe(customer, "pro", APRIL, coupon="HALF")
        till.pay_all(APRIL)
        till.change(
            Subscription.objects.select_related("plan_version__plan").get(),
            HALF_WAY,
            plan_key="team",
        )
        assert totals()[1] == (750, 0, 750)  # −250 of the 500 paid, +1000: the vector PO027

    def test_of_everything_activates_at_once(self, customer):
        make("GIFT", percent_off=100, duration="once")
        answer = subscribe(customer, "pro", APRIL, coupon="GIFT")
        assert answer.body["due"] == 0
        assert Subscription.objects.get().status == "active"
        assert Invoice.objects.get().status == "paid"

    def test_is_asked_for_in_the_first_invoice(self, customer):
        make("SPRING", percent_off=25, duration="once")
        answer = subscribe(customer, "pro", APRIL, coupon="SPRING")
        again = subscribe(customer, "pro", APRIL, coupon="SPRING")
        assert (answer.body["due"], again.body, again.replayed) == (750, answer.body, True)
        assert Invoice.objects.get().due_minor == 750


class TestRefusal:
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            (None, "unknown"),
            ({"expires_at": APRIL}, "expired"),
            ({"archived_at": STARTED}, "expired"),
            ({"percent_off": None, "amount_off_minor": 1, "currency": "USD"}, "currency"),
            ({"redemptions_max": 1, "redemptions": 1}, "exhausted"),
        ],
    )
    def test_changes_nothing(self, customer, fields, reason):
        if fields is not None:
            make("SPRING", **({"percent_off": 10, "duration": "once"} | fields))
        before = stored()
        with pytest.raises(own_errors.CouponInvalid) as refused:
            subscribe(customer, "pro", APRIL, coupon="SPRING")
        assert refused.value.facts() == {"coupon": "SPRING", "reason": reason}
        assert stored() == before

    def test_meets_who_redeemed_it_before(self, customer, till):
        make("SPRING", percent_off=10, duration="once")
        factories.make_plan(
            "other", at=STARTED, group="other", price_minor=100, limits={"tokens": 5}
        )
        subscribe(customer, "pro", APRIL, coupon="SPRING", key="a")
        before = stored()
        with pytest.raises(own_errors.CouponInvalid):
            subscribe(customer, "other", APRIL, coupon="SPRING", key="b")
        assert stored() == before

    def test_does_not_meet_who_never_began(self, customer):
        make("SPRING", percent_off=10, duration="once", redemptions_max=1)
        subscribe(customer, "pro", APRIL, coupon="SPRING", key="a")
        subscribe(customer, "team", APRIL + DAY / 2, coupon="SPRING", key="b")
        assert Coupon.objects.get().redemptions == 1
        assert [each.released_at is None for each in Redemption.objects.order_by("id")] == [
            False,
            True,
        ]

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"percent_off": 101}, "/percent_off"),
            ({"percent_off": None}, "/percent_off"),
            ({"currency": "EUR"}, "/currency"),
            ({"duration": "repeating"}, "/invoices_max"),
            ({"key": "TAKEN"}, "/key"),
        ],
    )
    def test_meets_a_coupon_that_does_not_fit_together(self, customer, fields, pointer):
        make("TAKEN", percent_off=10, duration="once")
        before = stored()
        given = {"key": "NEW", "percent_off": 10, "duration": "once"} | fields
        with pytest.raises(errors.Invalid) as refused:
            make(**given)
        assert refused.value.facts()["errors"][0]["pointer"] == pointer
        assert stored() == before


class TestArchive:
    def test_is_done_once_and_redeemed_no_more(self, customer):
        coupon = make("SPRING", percent_off=10, duration="once")
        for at in (APRIL, MAY):
            coupons.archive(key=coupon.key, clock=clock.FixedClock(at=at))
        coupon.refresh_from_db()
        assert coupon.archived_at == APRIL
