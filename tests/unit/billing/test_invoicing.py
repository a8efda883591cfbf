"""Adding up: fees − coupons + tax − credit notes − customer balance = due."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import invoicing, pricing
from billing.invoicing import Fee, Off
from billing.proration import Share
from core import money
from subscriptions import terms

VECTORS = {
    vector["id"]: vector
    for vector in json.loads((Path(__file__).parents[2] / "vectors" / "pricing.json").read_text())[
        "invoice_vectors"
    ]
}
LINES = st.lists(st.integers(0, 10**9), max_size=8)


def fees(lines_minor) -> list[Fee]:
    return [Fee(amount_minor=each) for each in lines_minor]


class TestVectors:
    def test_an_amount_off_floors_at_zero(self):
        vector = VECTORS["IN01"]
        off = Off(amount_minor=vector["coupon"]["amount_off"])
        totals = invoicing.add_up(fees(vector["lines_minor"]), offs=[off])
        assert (totals.discount_minor, totals.total_minor) == (
            vector["expected"]["discount"],
            vector["expected"]["total"],
        )

    def test_a_percentage_is_rounded_once_and_spread_by_largest_remainder(self):
        vector = VECTORS["IN03"]
        off = Off(percent=Fraction(vector["coupon"]["percent_off"]))
        totals = invoicing.add_up(fees(vector["lines_minor"]), offs=[off])
        assert {
            "discount": totals.discount_minor,
            "total": totals.total_minor,
            "line_discounts": list(totals.discounts_minor),
        } == vector["expected"]

    def test_the_order_is_coupons_tax_credit_notes_balance(self):
        vector = VECTORS["IN05"]
        off = Off(amount_minor=vector["coupon"]["amount_off"])
        untaxed = invoicing.add_up(fees(vector["lines_minor"]), offs=[off])
        tax = money.rounded(untaxed.total_minor * Fraction(vector["tax_percent"]) / 100)
        totals = invoicing.add_up(
            fees(vector["lines_minor"]),
            offs=[off],
            tax_minor=tax,
            credit_notes_minor=vector["credit_notes"],
            balance_minor=vector["wallet"],
        )
        assert {
            "subtotal_excl_tax": untaxed.total_minor,
            "tax": totals.tax_minor,
            "subtotal_incl_tax": totals.total_minor,
            "after_credit_notes": totals.due_minor + totals.balance_minor,
            "due": totals.due_minor,
        } == vector["expected"]

    def test_a_minimum_is_prorated_and_trued_up(self):
        vector = VECTORS["IN07"]
        price = terms.read(
            model="per_unit",
            currency="USD",
            unit_amount_minor=0,
            document={"unit_amount": "1", "minimum": "50.00"},
        )
        remaining, total = vector["minimum_days"]
        minimum = pricing.minimum_minor(price, share=Share(remaining=remaining, total=total))
        charged = sum(vector["lines_minor"])
        true_up = pricing.true_up_minor(minimum_minor=minimum, charged_minor=charged)
        assert {"true_up": true_up, "total": charged + true_up} == vector["expected"]
        assert pricing.true_up_minor(minimum_minor=minimum, charged_minor=9999) == 0


class TestAddUp:
    def test_never_discounts_a_proration_again(self):
        lines = [Fee(amount_minor=1000), Fee(amount_minor=-500, is_discountable=False)]
        totals = invoicing.add_up(lines, offs=[Off(percent=Fraction(50))])
        assert (totals.discounts_minor, totals.total_minor) == ((500, 0), 0)

    def test_applies_coupons_one_after_the_other(self):
        halves = [Off(percent=Fraction(50)), Off(percent=Fraction(50)), Off(amount_minor=100)]
        totals = invoicing.add_up(fees([1000]), offs=halves)
        assert totals.total_minor == 150

    def test_moves_a_negative_total_to_the_balance(self):
        totals = invoicing.add_up([Fee(amount_minor=-700, is_discountable=False)], balance_minor=50)
        assert (totals.balance_minor, totals.due_minor) == (-700, 0)

    @given(LINES, st.integers(0, 100), st.integers(0, 10**9), st.integers(0, 10**9))
    def test_always_adds_up_and_never_asks_for_less_than_nothing(
        self, lines, percent, amount_off, balance
    ):
        offs = [Off(percent=Fraction(percent)), Off(amount_minor=amount_off)]
        totals = invoicing.add_up(fees(lines), offs=offs, balance_minor=balance)
        assert totals.total_minor == totals.subtotal_minor - totals.discount_minor >= 0
        assert totals.due_minor + totals.balance_minor == totals.total_minor
        assert totals.due_minor >= 0
        pairs = zip(lines, totals.discounts_minor, strict=True)
        assert all(0 <= discount <= line for line, discount in pairs)


class TestSpread:
    @given(st.lists(st.integers(0, 10**6), min_size=1, max_size=9), st.data())
    def test_gives_everything_away_and_nobody_more_than_his_weight(self, weights, data):
        amount = data.draw(st.integers(0, sum(weights)))
        shares = invoicing.spread(amount, over=weights)
        assert sum(shares) == amount
        assert all(0 <= share <= weight for share, weight in zip(shares, weights, strict=True))

    @pytest.mark.parametrize("weights", [[], [0], [0, 0]])
    def test_gives_nothing_to_nobody(self, weights):
        assert invoicing.spread(0, over=weights) == [0] * len(weights)
