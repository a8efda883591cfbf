"""Which balances count an item: the feature's own, the customer's beside a member's, the pool's."""

import pytest

from core import errors as core_errors
from metering.decision import Draw, Item, Place
from metering.services import drawing
from metering.services.drawing import For, Wanted
from subscriptions.facts import FeatureFacts

API_CALLS = FeatureFacts(id=1, key="api_calls", type="metered", plan_group_id=1)
SEARCHES = FeatureFacts(id=2, key="searches", type="metered", plan_group_id=1, scope="member")
EXPORTS = FeatureFacts(id=3, key="exports", type="metered", plan_group_id=1, scope="entity")
IMAGES = FeatureFacts(
    id=4,
    key="images",
    type="metered",
    plan_group_id=1,
    pool_id=9,
    pool_key="tokens",
    pool_rate_units=10,
)
FEATURES = {each.key: each for each in (API_CALLS, SEARCHES, EXPORTS, IMAGES)}


def items(*wanted, **used_by):
    asked = [Wanted(feature_key=key, units=units) for key, units in wanted]
    return drawing.items_of(asked, features=FEATURES, used_by=For(**used_by))


def refusal(feature, **used_by):
    with pytest.raises(core_errors.Invalid) as refused:
        drawing.scope_of(feature=feature, used_by=For(**used_by))
    return refused.value.facts()["errors"]


class TestItems:
    def test_draw_on_their_features_own_balance(self):
        draw = Draw(place=Place(1, ""), feature_key="api_calls", units=3)
        assert items(("api_calls", 3)) == [Item(1, "api_calls", 3, (draw,))]

    def test_draw_on_the_customers_balance_beside_a_members(self):
        own = Draw(place=Place(2, "member:u1"), feature_key="searches", units=2)
        customers = Draw(place=Place(2, ""), feature_key="searches", units=2)
        assert items(("searches", 2), member="u1") == [Item(2, "searches", 2, (own, customers))]

    def test_draw_on_the_pool_at_its_rate(self):
        own = Draw(place=Place(4, ""), feature_key="images", units=3)
        pool = Draw(place=Place(9, ""), feature_key="tokens", units=30)
        assert items(("images", 3)) == [Item(4, "images", 3, (own, pool))]

    def test_keep_their_order_and_share_their_places(self):
        found = items(("images", 1), ("api_calls", 5), ("images", 2))
        assert [(each.feature_key, each.units) for each in found] == [
            ("images", 1),
            ("api_calls", 5),
            ("images", 2),
        ]
        assert drawing.places_of(found) == {Place(4, ""), Place(9, ""), Place(1, "")}


class TestScope:
    @pytest.mark.parametrize(
        ("feature", "used_by", "scope"),
        [
            (API_CALLS, {}, ""),
            (API_CALLS, {"member": "u1"}, ""),
            (SEARCHES, {"member": "u1"}, "member:u1"),
            (SEARCHES, {"member": "u1", "entity": "u1"}, "member:u1"),
            (SEARCHES, {"entity": "u2"}, "member:u2"),
            (EXPORTS, {"entity": "room-1"}, "entity:room-1"),
            (EXPORTS, {"entity": "room-1", "member": "u1"}, "entity:room-1"),
        ],
    )
    def test_is_whose_the_usage_is(self, feature, used_by, scope):
        assert drawing.scope_of(feature=feature, used_by=For(**used_by)) == scope

    def test_must_not_be_named_for_the_customer_as_a_whole(self):
        detail = "api_calls is counted for the customer as a whole; leave entity out."
        assert refusal(API_CALLS, entity="x") == [
            {"pointer": "/entity", "code": "not_scoped", "detail": detail}
        ]

    @pytest.mark.parametrize(
        ("feature", "used_by"), [(SEARCHES, {}), (EXPORTS, {}), (EXPORTS, {"member": "u1"})]
    )
    def test_must_be_named_where_limits_are_per_member_or_entity(self, feature, used_by):
        detail = f"{feature.key} is counted per {feature.scope}: name it as entity."
        assert refusal(feature, **used_by) == [
            {"pointer": "/entity", "code": "required", "detail": detail}
        ]

    def test_is_never_another_members_for_a_user(self):
        with pytest.raises(core_errors.PermissionDenied) as refused:
            drawing.scope_of(feature=SEARCHES, used_by=For(member="u1", entity="u2"))
        assert refused.value.detail == "A user acts for himself, not for another member."
