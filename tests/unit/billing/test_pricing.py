"""Prices held to the vectors, and to what every price must do."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import pricing
from core import money
from subscriptions import terms

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "pricing.json").read_text())
PRICE_TIERS = [
    {"up_to": "5", "unit_amount": "7", "flat_amount": "1"},
    {"up_to": "10", "unit_amount": "6.5"},
    {"up_to": None, "unit_amount": "6"},
]


def price_of(vector) -> terms.Terms:
    """Return the price of a vector; a graduated percentage is a percentage with tiers."""
    document = dict(vector["params"])
    assert document.pop("round", "up") == "up"
    document.pop("events", None)
    if "bill_flat_on_zero" in vector:
        document["bill_flat_on_zero"] = vector["bill_flat_on_zero"]
    return terms.read(
        model=vector["model"].removeprefix("graduated_"),
        currency=vector["currency"],
        unit_amount_minor=0,
        document=document,
    )


def read(model, document, *, unit_amount_minor=0):
    return terms.read(
        model=model, currency="EUR", unit_amount_minor=unit_amount_minor, document=document
    )


class TestVectors:
    @pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["id"])
    def test_cost_what_they_say_exactly_and_rounded_once(self, vector):
        price = price_of(vector)
        quantity = Fraction(vector["quantity"])
        operations = len(vector["params"].get("events", ()))
        exact = pricing.exact_amount(price, quantity=quantity, operations=operations)
        minor = pricing.amount_minor(price, quantity=quantity, operations=operations)
        assert exact == Fraction(vector["expected_amount_exact"])
        assert minor == vector["expected_minor_units"]

    def test_know_the_exponents(self):
        known = VECTORS["currency_exponents"]
        assert {code: money.exponent_of(currency=code) for code in known} == known


class TestColumns:
    def test_alone_are_a_flat_or_a_per_unit_price(self):
        flat = read("flat", {}, unit_amount_minor=2900)
        per_unit = read("per_unit", {}, unit_amount_minor=1000)
        assert pricing.amount_minor(flat, quantity=Fraction(7)) == 2900
        assert pricing.amount_minor(per_unit, quantity=Fraction(7)) == 7000

    def test_keep_their_currency_where_it_has_no_decimals(self):
        yen = terms.read(model="flat", currency="JPY", unit_amount_minor=1500, document={})
        assert (yen.amount, pricing.amount_minor(yen, quantity=Fraction(1))) == (1500, 1500)


class TestTermsAreRefused:
    @pytest.mark.parametrize(
        ("model", "document"),
        [
            ("flat", {"unit_amount": "1"}),
            ("per_unit", {"unit_amount": 0.1}),
            ("per_unit", {"unit_amount": True}),
            ("per_unit", {"unit_amount": "-1"}),
            ("per_unit", {"unit_amount": "1e3"}),
            ("per_unit", {"unit_amount": "0.1234567890123"}),
            ("package", {"amount": "1"}),
            ("package", {"amount": "1", "size": "0"}),
            ("volume", {}),
            ("volume", {"tiers": "all"}),
            ("volume", {"tiers": [{"up_to": None}], "bill_flat_on_zero": "yes"}),
            ("graduated", {"tiers": [{"up_to": "5", "unit_amount": "1"}]}),
            ("graduated", {"tiers": [{"unit_amount": "1"}]}),
            ("graduated", {"tiers": ["5"]}),
            ("graduated", {"tiers": [{"up_to": None, "colour": "1"}]}),
            ("graduated", {"tiers": [{"up_to": "0"}, {"up_to": None}]}),
            ("graduated", {"tiers": [{"up_to": "5"}, {"up_to": "5"}, {"up_to": None}]}),
            ("graduated", {"tiers": [{"up_to": None}, {"up_to": None}]}),
            ("graduated", {"tiers": [{"up_to": None}] * (terms.PRICE_TIERS_MAX + 1)}),
            ("percentage", {}),
            ("percentage", {"rate_percent": "1", "tiers": [{"up_to": None}]}),
        ],
    )
    def test_where_they_are_no_terms(self, model, document):
        with pytest.raises(terms.TermsInvalid):
            read(model, document)

    @pytest.mark.parametrize(
        ("model", "document"), [("flat", {"amount": "1"}), ("volume", {"tiers": [{"up_to": None}]})]
    )
    def test_where_the_amount_stands_twice(self, model, document):
        with pytest.raises(terms.TermsInvalid):
            read(model, document, unit_amount_minor=100)


class TestAnyPrice:
    @given(st.integers(0, 10**6), st.integers(0, 10**6))
    def test_that_is_graduated_never_falls_as_the_quantity_rises(self, one, other):
        price = read("graduated", {"tiers": PRICE_TIERS})
        less, more = sorted((one, other))
        cheaper = pricing.exact_amount(price, quantity=Fraction(less))
        assert cheaper <= pricing.exact_amount(price, quantity=Fraction(more))

    @given(st.integers(1, 10**6))
    def test_that_is_graduated_costs_at_least_its_volume_price_where_amounts_fall(self, quantity):
        graduated = read("graduated", {"tiers": PRICE_TIERS})
        volume = read("volume", {"tiers": PRICE_TIERS})
        by_volume = pricing.exact_amount(volume, quantity=Fraction(quantity))
        assert by_volume <= pricing.exact_amount(graduated, quantity=Fraction(quantity))

    def test_that_bills_flat_on_zero_says_so(self):
        for model in ("graduated", "volume"):
            silent = read(model, {"tiers": PRICE_TIERS})
            telling = read(model, {"tiers": PRICE_TIERS, "bill_flat_on_zero": True})
            assert pricing.amount_minor(silent, quantity=Fraction(0)) == 0
            assert pricing.amount_minor(telling, quantity=Fraction(0)) == 100


class TestMoney:
    @pytest.mark.parametrize(
        ("amount", "rounded"),
        [("0.5", 1), ("-0.5", -1), ("1.5", 2), ("2.5", 3), ("-2.5", -3), ("0.49", 0), ("0", 0)],
    )
    def test_rounds_half_away_from_zero(self, amount, rounded):
        assert money.rounded(Fraction(amount)) == rounded

    @pytest.mark.parametrize(
        ("amount_minor", "currency", "shown"),
        [
            (2900, "EUR", "29.00 EUR"),
            (-5, "EUR", "−0.05 EUR"),
            (1500, "JPY", "1,500 JPY"),
            (1234567, "KWD", "1,234.567 KWD"),
        ],
    )
    def test_is_shown_as_people_read_it(self, amount_minor, currency, shown):
        assert money.display(amount_minor, currency=currency) == shown

    def test_has_codes_of_three_capitals(self):
        assert money.is_currency("EUR")
        assert not any(money.is_currency(code) for code in ("eur", "EURO", "E1R", ""))
