"""Grants and overrides over HTTP: made, listed, ended, and refused with nothing changed."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission

from core import clock
from core.models import IdempotencyRecord, OutboxEvent
from metering.models import Balance, Grant, UsageEntry
from subscriptions.models import Override
from tests import factories

pytestmark = pytest.mark.django_db
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "credits.json").read_text())


@pytest.fixture
def customer():
    factories.make_plan(
        "free",
        at=STARTED,
        limits={"api_calls": 100},
        booleans={"sso": False},
        statics={"storage_gb": 1},
    )
    factories.make_feature("seats", at=STARTED)
    return factories.make_customer(at=STARTED, name="acme")


@pytest.fixture
def backend(customer, standing_clock):
    return factories.service_client()


def post(client, path, body, key="k1"):
    return client.post(
        f"/api/customers/acme/{path}/", body, format="json", HTTP_IDEMPOTENCY_KEY=key
    )


def everything():
    return (
        list(Balance.objects.values()),
        list(Grant.objects.values()),
        list(Override.objects.values()),
        OutboxEvent.objects.count(),
        IdempotencyRecord.objects.count(),
        UsageEntry.objects.count(),
    )


def me(client):
    return client.get("/api/subscriptions/me/", {"customer": "acme"}).json()


class TestGrants:
    def test_add_to_the_limit_at_once_and_are_listed(self, backend):
        made = post(backend, "grants", {"feature": "api_calls", "units": 50, "reason": "top-up"})
        assert made.status_code == 201, made.json()
        body = made.json()
        grant = Grant.objects.get()
        assert body == {
            "id": str(grant.pk),
            "feature": "api_calls",
            "units": 50,
            "remaining": 50,
            "priority": 100,
            "category": "paid",
            "effective_at": "2026-03-10T12:00:00Z",
            "expires_at": None,
            "rollover_min": 0,
            "rollover_max": None,
            "recurrence": None,
            "voided_at": None,
            "reason": "top-up",
        }
        assert me(backend)["limits"]["api_calls"] == 150
        again = post(backend, "grants", {"feature": "api_calls", "units": 50, "reason": "top-up"})
        assert (again.content, again["Idempotent-Replayed"]) == (made.content, "true")
        assert Grant.objects.count() == 1
        listed = backend.get("/api/customers/acme/grants/").json()
        assert listed["results"] == [body]
        entitlement = backend.get("/api/entitlements/api_calls/", {"customer": "acme"}).json()
        assert entitlement["sources"] == [
            {"kind": "plan", "key": "free", "units": 100},
            {"kind": "grant", "key": "api_calls", "units": 50},
        ]

    @pytest.mark.parametrize("vector", VECTORS["expiry"], ids=lambda each: each["id"])
    def test_end_an_interval_after_their_effect_by_the_calendar(self, backend, vector):
        interval, count = vector["duration"]
        body = {
            "feature": "api_calls",
            "units": 50,
            "effective_at": vector["effective_at"],
            "expires_after": {"interval": interval, "count": count},
        }
        with clock.overridden(factories.standing(datetime.fromisoformat(vector["effective_at"]))):
            made = post(backend, "grants", body)
        assert made.status_code == 201, made.json()
        assert made.json()["expires_at"] == vector["expected_expires_at"]

    def test_end_when_voided_and_keep_what_they_gave(self, backend):
        grant = post(backend, "grants", {"feature": "api_calls", "units": 50, "priority": 1}).json()
        usage = {"customer": "acme", "feature": "api_calls", "units": 20}
        backend.post("/api/usage/consume/", usage, format="json", HTTP_IDEMPOTENCY_KEY="u")
        voided = post(backend, f"grants/{grant['id']}/void", {"reason": "refund"}, key="v")
        assert (voided.status_code, voided.json()["voided_at"]) == (200, "2026-03-10T12:00:00Z")
        shown = me(backend)
        assert (shown["limits"], shown["usage"], shown["remaining"]) == (
            {"api_calls": 120},
            {"api_calls": 20},
            {"api_calls": 100},
        )
        again = post(backend, f"grants/{grant['id']}/void", {"reason": "refund"}, key="w")
        assert again.json()["voided_at"] == voided.json()["voided_at"]

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"feature": "api_calls", "units": 0}, 422, "invalid"),
            ({"feature": "api_calls", "units": 10**12 + 1}, 422, "invalid"),
            ({"feature": "api_calls", "units": True}, 422, "invalid"),
            ({"feature": "nope", "units": 1}, 404, "feature_unknown"),
            ({"feature": "sso", "units": 1}, 422, "feature_not_metered"),
            (
                {"feature": "api_calls", "units": 1, "rollover_min": 5, "rollover_max": 4},
                422,
                "invalid",
            ),
            (
                {"feature": "api_calls", "units": 1, "expires_at": "2026-03-09T00:00:00Z"},
                422,
                "invalid",
            ),
            (
                {
                    "feature": "api_calls",
                    "units": 1,
                    "effective_at": "2026-04-01T00:00:00Z",
                    "expires_at": "2026-04-01T00:00:00Z",
                },
                422,
                "invalid",
            ),
            (
                {"feature": "api_calls", "units": 1, "expires_at": "2027-01-01T00:00:00"},
                400,
                "naive_datetime",
            ),
            (
                {
                    "feature": "api_calls",
                    "units": 1,
                    "expires_at": "2027-01-01T00:00:00Z",
                    "expires_after": {"interval": "day"},
                },
                422,
                "invalid",
            ),
            (
                {
                    "feature": "api_calls",
                    "units": 1,
                    "effective_at": "9990-01-01T00:00:00Z",
                    "expires_after": {"interval": "year", "count": 10},
                },
                422,
                "invalid",
            ),
            ({"feature": "api_calls", "units": 1, "limit": 5}, 400, "unknown_field"),
            (
                {"feature": "api_calls", "units": 1, "recurrence": {"interval": "lifetime"}},
                422,
                "invalid",
            ),
        ],
    )
    def test_are_refused_where_they_make_no_sense(self, backend, body, status, code):
        before = everything()
        refused = post(backend, "grants", body)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert everything() == before

    def test_are_for_backends_and_permitted_staff(self, backend, customer, at):
        user = factories.make_user(at=at, customer=customer)
        client = factories.client_for(user)
        before = everything()
        body = {"feature": "api_calls", "units": 1}
        assert post(client, "grants", body).json()["code"] == "permission_denied"
        reader = factories.service_client(scopes=("customers:read",))
        assert post(reader, "grants", body).json()["code"] == "insufficient_scope"
        assert everything() == before
        user.is_staff = True
        user.save()
        user.user_permissions.add(Permission.objects.get(codename="add_grant"))
        assert post(client, "grants", body).status_code == 201

    def test_of_others_and_unknown_ones_are_not_found(self, backend, at):
        grant = post(backend, "grants", {"feature": "api_calls", "units": 5}).json()
        factories.make_customer(at=at, name="other")
        before = everything()
        for path in (
            f"/api/customers/other/grants/{grant['id']}/void/",
            "/api/customers/nobody/grants/",
        ):
            body = {} if path.endswith("void/") else {"feature": "api_calls", "units": 1}
            refused = backend.post(path, body, format="json", HTTP_IDEMPOTENCY_KEY="x")
            assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
        assert everything() == before


class TestOverrides:
    def test_add_units_for_a_span_and_end(self, backend):
        made = post(backend, "overrides", {"feature": "api_calls", "units": 5, "reason": "trial"})
        assert made.status_code == 201, made.json()
        assert made.json()["units"] == 5
        assert me(backend)["limits"]["api_calls"] == 105
        listed = backend.get("/api/customers/acme/overrides/").json()["results"]
        assert listed == [made.json()]
        ended = post(
            backend, f"overrides/{made.json()['id']}/end", {"reason": "over"}, key="e"
        ).json()
        assert ended["ends_at"] == "2026-03-10T12:00:00Z"
        assert me(backend)["limits"]["api_calls"] == 100

    def test_turn_switches_on_set_values_and_lift_limits(self, backend):
        post(backend, "overrides", {"feature": "sso", "reason": "r"}, key="a")
        post(backend, "overrides", {"feature": "storage_gb", "value": 50, "reason": "r"}, key="b")
        post(
            backend,
            "overrides",
            {"feature": "api_calls", "unlimited": True, "reason": "r"},
            key="c",
        )
        shown = me(backend)
        assert shown["features"] == {"sso": True, "storage_gb": 50}
        assert shown["limits"] == {"api_calls": None}
        usage = {"customer": "acme", "feature": "api_calls", "units": 5000}
        done = backend.post("/api/usage/consume/", usage, format="json", HTTP_IDEMPOTENCY_KEY="u")
        assert (done.status_code, done.json()["remaining"]) == (200, None)

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"feature": "api_calls", "reason": "r"}, 422, "invalid"),
            (
                {"feature": "api_calls", "units": 5, "unlimited": True, "reason": "r"},
                422,
                "invalid",
            ),
            ({"feature": "api_calls", "value": 5, "reason": "r"}, 422, "invalid"),
            ({"feature": "sso", "units": 5, "reason": "r"}, 422, "invalid"),
            ({"feature": "storage_gb", "units": 5, "reason": "r"}, 422, "invalid"),
            ({"feature": "nope", "units": 5, "reason": "r"}, 404, "feature_unknown"),
            ({"feature": "api_calls", "units": 5}, 422, "invalid"),
            (
                {
                    "feature": "api_calls",
                    "units": 5,
                    "reason": "r",
                    "ends_at": "2026-03-10T12:00:00Z",
                },
                422,
                "invalid",
            ),
        ],
    )
    def test_are_refused_where_they_make_no_sense(self, backend, body, status, code):
        before = everything()
        refused = post(backend, "overrides", body)
        assert (refused.status_code, refused.json()["code"]) == (status, code), refused.json()
        assert everything() == before

    def test_unknown_ones_are_not_found(self, backend):
        before = everything()
        path = "overrides/01936d3c-7c00-7000-8000-0000000000e1/end"
        assert post(backend, path, {"reason": "r"}).json()["code"] == "not_found"
        refused = backend.post(
            "/api/customers/nobody/overrides/",
            {"feature": "sso", "reason": "r"},
            format="json",
            HTTP_IDEMPOTENCY_KEY="x",
        )
        assert refused.status_code == 404
        assert everything() == before


class TestAlerts:
    def test_are_set_listed_and_removed(self, backend):
        made = post(backend, "alerts", {"feature": "api_calls", "percent": 80})
        assert (made.status_code, made.json()["percent"], made.json()["units"]) == (201, 80, None)
        again = post(backend, "alerts", {"feature": "api_calls", "percent": 80}, key="k2")
        assert again.json()["id"] == made.json()["id"]
        assert Balance.objects.get().alert_units == 80
        listed = backend.get("/api/customers/acme/alerts/").json()["results"]
        assert listed == [made.json()]
        path = f"/api/customers/acme/alerts/{made.json()['id']}/"
        assert backend.delete(path).status_code == 204
        assert Balance.objects.get().alert_units is None
        before = everything()
        assert backend.delete(path).status_code == 404
        assert everything() == before

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"feature": "api_calls"}, 422, "invalid"),
            ({"feature": "api_calls", "percent": 80, "units": 5}, 422, "invalid"),
            ({"feature": "api_calls", "percent": 0}, 422, "invalid"),
            ({"feature": "sso", "units": 5}, 422, "feature_not_metered"),
            ({"feature": "nope", "units": 5}, 404, "feature_unknown"),
        ],
    )
    def test_are_refused_where_they_make_no_sense(self, backend, body, status, code):
        before = everything()
        refused = post(backend, "alerts", body)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert everything() == before
