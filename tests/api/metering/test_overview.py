"""What a customer sees: me, entitlements, check, explain, the ledger."""

import functools
from datetime import UTC, datetime

import pytest
from rest_framework.test import APIClient

from core import clock
from core.api import authentication
from core.models import Customer
from metering import errors
from metering.api import showing
from metering.models import Balance, UsageEntry
from subscriptions.models import Subscription, TimelineEntry
from subscriptions.services import changes, collection, lifecycle
from tests import factories

pytestmark = pytest.mark.django_db
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
ME = "/api/subscriptions/me/"


@pytest.fixture(scope="module")
def kept_plans(kept_rows) -> None:
    factories.make_plan("free", at=STARTED, limits={"api_calls": 100}, booleans={"sso": False})
    factories.make_plan(
        "pro",
        at=STARTED,
        limits={"api_calls": 1000, "exports": None},
        rank=20,
        price_minor=2900,
        booleans={"sso": True},
        statics={"storage_gb": 100},
    )
    factories.make_feature("court_minutes", at=STARTED)


@pytest.fixture
def customer(kept_plans) -> Customer:
    return factories.make_customer(at=STARTED)


@pytest.fixture
def client(customer, standing_clock) -> APIClient:
    return factories.client_for(factories.make_user(at=STARTED, customer=customer))


@pytest.fixture
def pro(customer) -> Subscription:
    row = factories.subscribe(customer, "pro", at=STARTED)
    factories.consume(customer, 120, at=STARTED)
    return row


class TestOwnSubscription:
    def test_shows_plan_limits_and_usage_to_the_letter(
        self, client, pro, django_assert_num_queries
    ):
        client.get(ME)  # reads once what never changes
        authentication.forget_callers()
        showing.forget()
        with django_assert_num_queries(4):  # identity, then three
            body = client.get(ME).json()
        resets_at = "2026-04-01T00:00:00Z"
        assert list(body)[:3] == ["plan", "limits", "usage"]
        assert body == {
            "plan": "Pro",
            "limits": {"api_calls": 1000, "exports": None},
            "usage": {"api_calls": 120, "exports": 0},
            "plan_key": "pro",
            "status": "active",
            "subscription": str(pro.pk),
            "features": {"sso": True, "storage_gb": 100},
            "remaining": {"api_calls": 880, "exports": None},
            "held": {"api_calls": 0, "exports": 0},
            "resets_at": {"api_calls": resets_at, "exports": resets_at},
            "current_period": {"starts_at": "2026-03-01T00:00:00Z", "ends_at": resets_at},
            "trial_ends_at": None,
            "cancel_at": None,
            "collection_paused": False,
            "scheduled_change": None,
            "add_ons": [],
            "over_limit": [],
        }

    def test_shows_the_default_plan_to_everyone_else(self, client):
        body = client.get(ME).json()
        assert (body["plan"], body["limits"], body["usage"]) == (
            "Free",
            {"api_calls": 100},
            {"api_calls": 0},
        )
        assert (body["status"], body["subscription"], body["current_period"]) == (
            "active",
            None,
            None,
        )

    def test_is_not_sent_again_while_nothing_changed(self, client, pro, customer):
        tag = client.get(ME)["ETag"]
        for condition in (tag, f'W/{tag}, "x"', "*"):
            unchanged = client.get(ME, HTTP_IF_NONE_MATCH=condition)
            assert (unchanged.status_code, unchanged.content) == (304, b"")
            assert unchanged["ETag"] == tag
        factories.consume(customer, 1, at=STARTED)
        changed = client.get(ME, HTTP_IF_NONE_MATCH=tag)
        assert (changed.status_code, changed["ETag"] == tag) == (200, False)

    def test_keeps_limit_and_usage_of_a_paused_subscription_but_leaves_nothing(self, client, pro):
        Subscription.objects.update(status="paused")
        body = client.get(ME).json()
        assert (body["status"], body["limits"]["api_calls"], body["usage"]["api_calls"]) == (
            "paused",
            1000,
            120,
        )
        assert (body["remaining"]["api_calls"], body["features"]) == (
            0,
            {"sso": False, "storage_gb": None},
        )

    def test_names_what_is_over_its_limit(self, client, pro):
        Balance.objects.update(used_units=1001, ceiling_units=1001)
        body = client.get(ME).json()
        assert (body["over_limit"], body["remaining"]["api_calls"]) == (["api_calls"], 0)

    def test_shows_nothing_in_force_where_there_is_nothing(self, client, settings):
        settings.ENGINE = factories_engine(settings.ENGINE, default_plan_key="")
        body = client.get(ME).json()
        assert (body["plan"], body["status"], body["limits"]) == (None, None, {})

    def test_shows_a_scheduled_change_and_an_end(self, client, pro, at):
        free = factories.Plan.objects.get(key="free").versions.get()
        Subscription.objects.update(
            change_at=at.replace(month=5), change_to=free, cancel_at=at.replace(month=6)
        )
        body = client.get(ME).json()
        assert body["scheduled_change"] == {
            "plan": "free",
            "effective_at": "2026-05-10T12:00:00Z",
        }
        assert body["cancel_at"] == "2026-06-10T12:00:00Z"

    def test_tells_while_collection_is_paused(self, client, pro):
        tag = client.get(ME)["ETag"]
        for action, is_paused in ((collection.pause, True), (collection.resume, False)):
            action(subscription_id=pro.pk, actor=factories.ACTOR, clock=factories.standing(STARTED))
            told = client.get(ME, HTTP_IF_NONE_MATCH=tag)
            assert (told.status_code, told.json()["collection_paused"]) == (200, is_paused)
            assert told.json()["status"] == "active"
            tag = told["ETag"]


def factories_engine(engine, **changes):
    return type(engine)(**(vars(engine) | changes))


class TestSubscribe:
    URL = "/api/subscriptions/"

    def subscribe(self, client, key="s1", **body):
        return client.post(self.URL, body, format="json", HTTP_IDEMPOTENCY_KEY=key)

    def test_answers_with_me_and_how_to_pay_and_replays_it(self, client, at):
        answer = self.subscribe(client, plan="pro")
        again = self.subscribe(client, plan="pro")
        body = answer.json()
        assert (answer.status_code, body["status"], body["plan"]) == (201, "incomplete", "Free")
        assert body["payment"]["gateway"] == "manual"
        assert body["payment"]["expires_at"] == "2026-03-11T11:00:00Z"
        assert body | {"payment": None} == client.get(ME).json() | {"payment": None}
        assert again.content == answer.content
        assert (again.status_code, again["Idempotent-Replayed"]) == (201, "true")
        assert Subscription.objects.count() == 1
        other = self.subscribe(client, plan="free")
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")

    def test_is_paid_by_a_backend_and_then_in_force(self, client, customer):
        self.subscribe(client, plan="pro")
        row = Subscription.objects.get()
        url = f"/api/subscriptions/{row.pk}/mark-paid/"
        refused = client.post(url, {"reason": "me"}, format="json", HTTP_IDEMPOTENCY_KEY="p")
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
        backend = factories.service_client()
        unkeyed = backend.post(url, {"reason": "bank transfer"}, format="json")
        assert (unkeyed.status_code, unkeyed.json()["code"]) == (400, "idempotency_key_missing")
        row.refresh_from_db()
        assert row.status == "incomplete"
        pay = functools.partial(backend.post, url, format="json")
        paid = pay({"reason": "bank transfer"}, HTTP_IDEMPOTENCY_KEY="p")
        assert (paid.status_code, paid.json()["status"]) == (200, "active")
        assert client.get(ME).json()["plan"] == "Pro"
        before = TimelineEntry.objects.count()
        again = pay({"reason": "bank transfer"}, HTTP_IDEMPOTENCY_KEY="p")
        assert (again.content, again["Idempotent-Replayed"]) == (paid.content, "true")
        other = pay({"reason": "another"}, HTTP_IDEMPOTENCY_KEY="p")
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        twice = pay({"reason": "again"}, HTTP_IDEMPOTENCY_KEY="q")
        assert (twice.status_code, twice.json()["code"]) == (409, "invalid_transition")
        assert TimelineEntry.objects.count() == before

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"plan": "nope"}, 404, "plan_unknown"),
            ({"plan": "pro", "price": "nope"}, 422, "invalid"),
            ({"plan": "pro", "quantity": 0}, 422, "invalid"),
            ({"plan": "pro", "status": "active"}, 400, "unknown_field"),
            ({}, 422, "invalid"),
        ],
    )
    def test_refuses_what_is_not_on_offer_and_changes_nothing(self, client, body, status, code):
        answer = self.subscribe(client, **body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        missing = client.post(self.URL, body, format="json")
        assert missing.status_code in {400, status}
        assert not Subscription.objects.exists()

    def test_is_listed_with_its_timeline(self, client, pro):
        rows = client.get(self.URL).json()["results"]
        assert [(row["id"], row["plan"], row["status"]) for row in rows] == [
            (str(pro.pk), "pro", "active")
        ]
        lines = client.get("/api/subscriptions/me/timeline/").json()["results"]
        assert [(line["from"], line["to"], line["event"]) for line in lines] == [
            ("incomplete", "active", "payment_succeeded"),
            (None, "incomplete", "subscribed"),
        ]
        assert TimelineEntry.objects.count() == 2

    def test_shows_what_a_change_made_of_the_usage(self, client, pro, at):
        changes.change(
            subscription_id=pro.pk,
            order=changes.ChangeOrder(plan_key="pro", quantity=2, usage_policy="reset"),
            actor=factories.ACTOR,
            clock=factories.standing(at),
        )
        lines = client.get("/api/subscriptions/me/timeline/").json()["results"]
        policies = ["reset", "keep", "keep"]
        assert [line["usage_policy"] for line in lines] == policies


class TestEntitlements:
    def test_are_shown_as_one_map(self, client, pro, django_assert_num_queries):
        client.get("/api/entitlements/")  # reads once what never changes
        with django_assert_num_queries(4):
            answer = client.get("/api/entitlements/")
        body = answer.json()
        assert sorted(body["entitlements"]) == ["api_calls", "exports", "sso", "storage_gb"]
        assert body["entitlements"]["api_calls"] == {
            "feature": "api_calls",
            "type": "metered",
            "enabled": True,
            "value": None,
            "limit": 1000,
            "mode": "hard",
            "resets_at": "2026-04-01T00:00:00Z",
            "sources": [{"kind": "plan", "key": "pro", "units": 1000}],
        }
        assert body["entitlements"]["storage_gb"]["value"] == 100
        assert body["next_change_at"] == "2026-04-01T00:00:00Z"
        unchanged = client.get("/api/entitlements/", HTTP_IF_NONE_MATCH=answer["ETag"])
        assert unchanged.status_code == 304

    def test_change_their_tag_with_the_plan(self, client, customer, pro):
        tag = client.get("/api/entitlements/")["ETag"]
        lifecycle.cancel_now(
            subscription_id=pro.pk, actor=factories.ACTOR, clock=clock.process_clock()
        )
        changed = client.get("/api/entitlements/", HTTP_IF_NONE_MATCH=tag)
        assert changed.status_code == 200
        assert changed.json()["entitlements"]["api_calls"]["limit"] == 100

    def test_are_shown_one_by_one_also_where_there_is_none(self, client, pro):
        one = client.get("/api/entitlements/sso/").json()
        assert (one["enabled"], one["type"], one["limit"]) == (True, "boolean", None)
        none = client.get("/api/entitlements/court_minutes/").json()
        assert (none["enabled"], none["limit"], none["sources"]) == (False, 0, [])
        for key in ("court_minute", "%00", "a b"):
            unknown = client.get(f"/api/entitlements/{key}/")
            assert (unknown.status_code, unknown.json()["code"]) == (404, "feature_unknown")


class TestCheck:
    def check(self, client, **body):
        return client.post("/api/usage/check/", body, format="json")

    def test_answers_as_consuming_would_and_changes_nothing(
        self, client, pro, django_assert_num_queries
    ):
        before = (list(Balance.objects.values()), UsageEntry.objects.count())
        self.check(client, feature="api_calls", units=1)
        with django_assert_num_queries(4):
            allowed = self.check(client, feature="api_calls", units=880).json()
        refused = self.check(client, feature="api_calls", units=881).json()
        assert (allowed["allowed"], allowed["remaining"]) == (True, 880)
        assert "code" not in allowed
        assert (refused["allowed"], refused["code"], refused["upgrade"]) == (
            False,
            "usage_limit_reached",
            [],
        )
        assert (list(Balance.objects.values()), UsageEntry.objects.count()) == before

    def test_adds_up_several_items(self, client, pro):
        items = [{"feature": "api_calls", "units": 880}, {"feature": "api_calls", "units": 1}]
        body = self.check(client, items=items).json()
        assert (body["allowed"], body["feature"]) == (False, "api_calls")
        assert [each["allowed"] for each in body["items"]] == [True, False]

    def test_names_the_plans_that_would_do(self, client, customer):
        body = self.check(client, feature="api_calls", units=101).json()
        assert body["upgrade"] == [{"plan": "pro", "limit": 1000}]
        missing = self.check(client, feature="court_minutes", units=1).json()
        assert (missing["allowed"], missing["code"]) == (False, "feature_not_in_plan")

    def test_refuses_what_is_not_there_or_not_counted(self, client):
        unknown = self.check(client, feature="nope", units=1)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "feature_unknown")
        boolean = self.check(client, feature="sso", units=1)
        assert (boolean.status_code, boolean.json()["code"]) == (422, "feature_not_metered")


class TestExplain:
    def explain(self, client, feature="api_calls", **query):
        return client.get(f"/api/entitlements/{feature}/explain/", query)

    def test_tells_the_rule_that_decides(self, client, pro):
        body = self.explain(client, units=881).json()
        assert (body["allowed"], body["code"], body["rule"]) == (
            False,
            "usage_limit_reached",
            "used + held + units > limit",
        )
        assert body["plan"] == {"key": "pro", "version": 1, "status": "active"}
        assert body["balance"]["remaining"] == 880
        assert body["steps"] == [
            "The subscription to pro (version 1) is active.",
            "The plan pro grants 1000 units of api_calls (hard).",
            "The usage period began 2026-03-01T00:00:00Z and ends 2026-04-01T00:00:00Z.",
            "120 units are used and 0 held in it, under a limit of 1000.",
            "881 units asked: denied: usage_limit_reached.",
        ]

    @pytest.mark.parametrize(
        ("feature", "allowed", "rule"),
        [
            ("api_calls", True, "used + held + units ≤ limit"),
            ("exports", True, "the feature is unlimited"),
            ("sso", True, "the plan in force grants the feature"),
            ("court_minutes", False, "the plan in force does not grant the feature"),
        ],
    )
    def test_covers_every_kind_of_feature(self, client, pro, feature, allowed, rule):
        body = self.explain(client, feature=feature).json()
        assert (body["allowed"], body["rule"]) == (allowed, rule)

    def test_covers_status_modes_and_the_default_plan(self, client, customer, at):
        body = self.explain(client).json()
        assert body["steps"][0].startswith("No subscription is live, so the default plan free")
        factories.make_plan(
            "soft", at=at, limits={"tokens": 1}, entitlement={"mode": "soft"}, group="ai"
        )
        factories.make_plan(
            "capped",
            at=at,
            limits={"prompts": 1},
            entitlement={"mode": "capped", "overage_cap_units": 2},
            group="llm",
        )
        nothing = self.explain(client, feature="tokens").json()
        assert nothing["steps"][0] == "No plan is in force for the customer."
        factories.subscribe(customer, "soft", at=at)
        factories.subscribe(customer, "capped", at=at)
        soft = self.explain(client, feature="tokens", units=5).json()
        assert (soft["allowed"], soft["rule"]) == (True, "a soft limit allows and records overage")
        capped = self.explain(client, feature="prompts", units=4).json()
        assert capped["rule"] == "used + held + units > limit + overage cap"
        Subscription.objects.update(status="paused")
        paused = self.explain(client, feature="tokens").json()
        assert (paused["code"], paused["rule"]) == (
            "subscription_paused",
            "a paused subscription gives no access",
        )

    def test_answers_a_recorded_decision_again(self, client, customer, pro):
        granted = factories.consume(customer, 880, at=STARTED).entries[0]
        with pytest.raises(errors.UsageLimitReached):
            factories.consume(customer, 1, at=STARTED, key="denied")
        denied = UsageEntry.objects.get(kind="denied")
        with pytest.raises(errors.FeatureNotInPlan):
            factories.consume(customer, 1, at=STARTED, feature="court_minutes")
        missing = UsageEntry.objects.get(kind="denied", feature__key="court_minutes")
        Balance.objects.update(limit_units=5000, ceiling_units=5000)
        for entry, units, code, remaining in (
            (granted, 880, None, 880),
            (denied, 1, "usage_limit_reached", 0),
        ):
            body = self.explain(client, entry=str(entry.pk)).json()
            assert (body["units"], body["code"], body["allowed"]) == (units, code, not code)
            assert (body["balance"]["limit"], body["balance"]["remaining"]) == (1000, remaining)
        body = self.explain(client, feature="court_minutes", entry=str(missing.pk)).json()
        assert (body["code"], body["balance"]) == ("feature_not_in_plan", None)
        unknown = self.explain(client, entry="01936d3c-7c00-7000-8000-0000000000c1")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")

    def test_looks_ahead_and_back(self, client, pro):
        ahead = self.explain(client, units=1000, at="2026-04-01T00:00:00Z").json()
        assert (ahead["allowed"], ahead["balance"]["used"]) == (True, 0)
        before = self.explain(client, at="2026-02-28T23:59:59Z").json()
        assert (before["code"], before["plan"]) == ("no_active_subscription", None)
        assert before["balance"] is None
        for at, status, code in (
            ("2026-04-01T00:00:00", 400, "naive_datetime"),
            ("yesterday", 422, "invalid"),
            ("2026-13-01T00:00:00Z", 422, "invalid"),
        ):
            answer = self.explain(client, at=at)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
        for units in ("1e3", "true", "0", "１２", "1_0", "-0"):
            answer = self.explain(client, units=units)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


class TestLedger:
    URL = "/api/usage/entries/"

    def test_is_listed_page_by_page_newest_first(self, client, customer, pro):
        for number in range(5):
            factories.consume(customer, number + 1, at=STARTED)
        first = client.get(self.URL, {"limit": 4}).json()
        second = client.get(first["next"]).json()
        assert [each["units"] for each in first["results"] + second["results"]] == [
            5,
            4,
            3,
            2,
            1,
            120,
        ]
        assert (first["previous"], second["next"]) == (None, None)
        assert client.get(second["previous"]).json()["results"] == first["results"]

    def test_shows_denials_with_their_code_and_one_feature_where_asked(self, client, pro):
        client.post(
            "/api/usage/consume/",
            {"feature": "api_calls", "units": 881},
            format="json",
            HTTP_IDEMPOTENCY_KEY="k",
        )
        entry = client.get(self.URL, {"feature": "api_calls"}).json()["results"][0]
        assert (entry["kind"], entry["units"], entry["code"]) == (
            "denied",
            881,
            "usage_limit_reached",
        )
        assert client.get(self.URL, {"feature": "exports"}).json()["results"] == []

    @pytest.mark.parametrize(
        "query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"cursor": "x"}]
    )
    def test_refuses_pages_that_are_none(self, client, query):
        answer = client.get(self.URL, query)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")

    def test_of_a_feature_that_is_none_is_refused(self, client, pro):
        answer = client.get(self.URL, {"feature": "api_cals"})
        assert (answer.status_code, answer.json()["code"]) == (404, "feature_unknown")

    def test_of_others_is_not_shown(self, client, pro, at):
        stranger = factories.client_for(factories.make_user(at=at))
        assert stranger.get(self.URL).json()["results"] == []
