"""The public catalog: cached under its revision, and never stale."""

from datetime import timedelta
from unittest import mock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from rest_framework.test import APIClient

from core import cache
from core.models import Member
from subscriptions.models import Plan
from subscriptions.services import catalog
from tests import factories

pytestmark = pytest.mark.django_db
PLANS = "/api/plans/"


@pytest.fixture
def plans(at) -> None:
    factories.make_plan("free", at=at, limits={"api_calls": 100}, booleans={"sso": False})
    factories.make_plan("basic", at=at, limits={"api_calls": 500}, rank=10)
    factories.make_plan(
        "pro",
        at=at,
        limits={"api_calls": 1000, "exports": None},
        rank=20,
        price_minor=2900,
        statics={"storage_gb": 100},
        booleans={"sso": True},
        version={"trial_days": 14},
    )


@pytest.fixture
def anonymous(plans, standing_clock) -> APIClient:
    return APIClient(raise_request_exception=False)


class TestPlans:
    def test_are_shown_to_anyone_ready_to_display(self, anonymous):
        body = anonymous.get(PLANS).json()
        assert [plan["key"] for plan in body["results"]] == ["free", "basic", "pro"]
        pro = anonymous.get(f"{PLANS}pro/").json()
        assert pro == body["results"][2]
        assert pro == {
            "key": "pro",
            "name": "Pro",
            "description": "",
            "version": 1,
            "group": "main",
            "rank": 20,
            "trial_days": 14,
            "prices": [
                {
                    "key": "pro-monthly",
                    "currency": "EUR",
                    "unit_amount_minor": 2900,
                    "interval": "month",
                    "interval_count": 1,
                    "model": "flat",
                    "terms": None,
                }
            ],
            "metered_prices": [],
            "features": [
                {
                    "feature": feature,
                    "type": kind,
                    "display": display,
                    "limit": limit,
                    "value": value,
                    "resets": resets,
                }
                for feature, kind, display, limit, value, resets in (
                    ("api_calls", "metered", "1,000 api_calls per month", 1000, None, "month"),
                    ("exports", "metered", "Unlimited exports", None, None, "month"),
                    ("sso", "boolean", "sso", None, None, None),
                    ("storage_gb", "static", "100 storage_gb", None, 100, None),
                )
            ],
        }

    def test_display_other_resets_too(self, at, standing_clock):
        for key, reset, display in (
            ("a", {"reset_interval": "lifetime"}, "100 u_a in all"),
            ("b", {"reset_interval": "week", "reset_count": 2}, "100 u_b per 2 weeks"),
            ("c", {"reset_interval": "billing_period"}, "100 u_c per billing period"),
        ):
            factories.make_plan(key, at=at, limits={f"u_{key}": 100}, entitlement=reset)
            assert APIClient().get(f"{PLANS}{key}/").json()["features"][0]["display"] == display

    def test_show_a_publication_at_once(self, anonymous, at, django_assert_num_queries):
        tag = anonymous.get(PLANS)["ETag"]
        with django_assert_num_queries(1):
            assert anonymous.get(PLANS, HTTP_IF_NONE_MATCH=tag).status_code == 304
        factories.new_version(Plan.objects.get(key="basic"), at=at, limits={"api_calls": 600})
        changed = anonymous.get(PLANS, HTTP_IF_NONE_MATCH=tag)
        assert changed.status_code == 200
        basic = changed.json()["results"][1]
        assert (basic["version"], basic["features"][0]["limit"]) == (2, 600)

    def test_leave_out_what_is_archived_or_hidden(self, anonymous, at):
        catalog.archive_plan(plan_id=Plan.objects.get(key="basic").pk, clock=factories.standing(at))
        assert [plan["key"] for plan in anonymous.get(PLANS).json()["results"]] == ["free", "pro"]
        gone = anonymous.get(f"{PLANS}basic/")
        assert (gone.status_code, gone.json()["code"]) == (404, "plan_unknown")
        unknown = anonymous.get(PLANS, {"x": 1})
        assert (unknown.status_code, unknown.json()["code"]) == (400, "unknown_field")

    def test_work_without_the_cache(self, anonymous):
        with mock.patch.object(cache, "cache") as broken:
            broken.get.side_effect = RedisConnectionError("down")
            assert anonymous.get(PLANS).status_code == 200
            broken.get.side_effect = None
            broken.get.return_value = "nonsense"
            broken.set.side_effect = RedisConnectionError("down")
            assert len(anonymous.get(PLANS).json()["results"]) == 3

    def test_tell_a_customer_what_he_may_do(self, anonymous, at):
        user = factories.make_user(at=at)
        client, customer = factories.client_for(user), factories.customer_of(user)

        def eligibility():
            plans = client.get(PLANS).json()["results"]
            return {plan["key"]: tuple(plan["eligibility"].values()) for plan in plans}

        assert eligibility() == {
            "free": ("current", "now", False),
            "basic": ("subscribe", "now", False),
            "pro": ("subscribe", "now", True),
        }
        factories.subscribe(customer, "basic", at=at)
        assert eligibility() == {
            "free": ("downgrade", "period_end", False),
            "basic": ("current", "now", False),
            "pro": ("upgrade", "now", False),
        }
        backend = factories.service_client()
        named = backend.get(f"{PLANS}pro/", {"customer": customer.external_key}).json()
        assert named["eligibility"]["action"] == "upgrade"
        assert "eligibility" not in backend.get(f"{PLANS}pro/").json()
        refused = anonymous.get(PLANS, {"customer": customer.external_key})
        assert refused.status_code in {401, 404}

    def test_offer_a_trial_once(self, anonymous, at):
        user = factories.make_user(at=at)
        factories.subscribe(factories.customer_of(user), "pro", at=at - timedelta(days=30))
        pro = factories.client_for(user).get(f"{PLANS}pro/").json()
        assert pro["eligibility"] == {"action": "subscribe", "effective": "now", "trial": False}

    def test_offer_no_trial_to_who_took_it_under_another_name(self, anonymous, at):
        user = factories.make_user(at=at)
        factories.subscribe(factories.customer_of(user), "pro", at=at)
        other, backend = factories.make_customer(at=at), factories.service_client()

        def trial():
            asked = {"customer": other.external_key}
            return backend.get(f"{PLANS}pro/", asked).json()["eligibility"]["trial"]

        assert trial() is True
        Member.objects.create(customer=other, user=user, role="owner")
        assert trial() is False

    def test_show_no_eligibility_to_staff_without_a_customer(self, anonymous, at):
        user = factories.User.objects.create_superuser(username="root", password="x")
        assert "eligibility" not in factories.client_for(user).get(f"{PLANS}pro/").json()


class TestFeatures:
    def test_are_shown_to_anyone(self, anonymous):
        body = anonymous.get("/api/features/").json()
        assert [(each["key"], each["type"]) for each in body["results"]] == [
            ("api_calls", "metered"),
            ("exports", "metered"),
            ("sso", "boolean"),
            ("storage_gb", "static"),
        ]
