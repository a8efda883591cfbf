"""Consume over HTTP: the edge of the limit, replays, denials, and bad input."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from rest_framework.test import APIClient

from core import clock
from core.models import User
from metering.models import Balance, UsageEntry
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/usage/consume/"
STARTED = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def kept_plans(kept_rows) -> None:
    factories.make_plan("free", at=STARTED, limits={"api_calls": 100, "exports": 5})
    factories.make_plan("pro", at=STARTED, limits={"api_calls": 1000, "exports": None}, rank=20)


@pytest.fixture
def user(kept_plans) -> User:
    return factories.make_user(at=STARTED)


@pytest.fixture
def client(user, standing_clock) -> APIClient:
    return factories.client_for(user)


def consume(client, units=1, key="k1", feature="api_calls", **body):
    headers = {} if key is None else {"HTTP_IDEMPOTENCY_KEY": key}
    given = {"feature": feature, "units": units} | body
    return client.post(URL, given, format="json", **headers)


def counted() -> tuple[list[tuple[str, int]], list[tuple[str, int, str]]]:
    """Return all that the database holds about usage."""
    balances = Balance.objects.order_by("feature__key").values_list("feature__key", "used_units")
    entries = UsageEntry.objects.order_by("id").values_list("kind", "units", "feature__key")
    return list(balances), list(entries)


class TestConsume:
    def test_counts_units_and_answers_with_the_figures_after_them(self, client):
        answer = consume(client, units=3, metadata={"job": "a", "again": 1.5})

        body = answer.json()
        entry = UsageEntry.objects.get()
        assert answer.status_code == 200
        assert body == {
            "id": str(entry.pk),
            "feature": "api_calls",
            "units": 3,
            "used": 3,
            "held": 0,
            "limit": 100,
            "remaining": 97,
            "period": {"starts_at": "2026-03-01T00:00:00Z", "ends_at": "2026-04-01T00:00:00Z"},
            "consumed_at": "2026-03-10T12:00:00Z",
            "metadata": {"job": "a", "again": 1.5},
        }
        assert "Idempotent-Replayed" not in answer
        assert counted() == ([("api_calls", 3)], [("consume", 3, "api_calls")])

    def test_grants_the_last_unit_and_refuses_one_too_many(self, client):
        assert consume(client, units=99).status_code == 200
        assert consume(client, units=1, key="k2").status_code == 200
        before = Balance.objects.values().get()

        refused = consume(client, units=1, key="k3")

        assert refused.status_code == 403
        problem = refused.json()
        assert problem.pop("request_id") == refused["X-Request-Id"]
        assert problem == {
            "type": "/docs/errors/usage_limit_reached",
            "title": "The usage limit is reached",
            "status": 403,
            "code": "usage_limit_reached",
            "detail": "1 api_calls requested, 0 of 100 left.",
            "feature": "api_calls",
            "requested": 1,
            "limit": 100,
            "used": 100,
            "held": 0,
            "remaining": 0,
            "resets_at": "2026-04-01T00:00:00Z",
            "upgrade": [{"plan": "pro", "limit": 1000}],
        }
        assert refused["Content-Type"] == "application/problem+json"
        assert Balance.objects.values().get() == before

    def test_refuses_all_of_a_request_that_does_not_fit_whole(self, client):
        consume(client, units=98)

        refused = consume(client, units=3, key="k2")

        assert refused.json()["remaining"] == 2
        assert Balance.objects.get().used_units == 98

    def test_replays_grant_and_denial_to_the_byte(self, client):
        first = consume(client, units=100, metadata={"b": 1, "a": {"z": 1, "y": 2}})
        denied = consume(client, units=1, key="k2")
        before = counted()

        again = consume(client, units=100, metadata={"a": {"y": 2, "z": 1}, "b": 1})
        denied_again = consume(client, units=1, key="k2")

        assert again.content == first.content
        assert (again.status_code, again["Idempotent-Replayed"]) == (200, "true")
        assert denied_again.content == denied.content
        assert (denied_again.status_code, denied_again["Idempotent-Replayed"]) == (403, "true")
        assert counted() == before

    def test_takes_several_features_together_or_none_of_them(self, client):
        items = [{"feature": "api_calls", "units": 7}, {"feature": "exports", "units": 5}]
        granted = client.post(URL, {"items": items}, format="json", HTTP_IDEMPOTENCY_KEY="k1")
        before = list(Balance.objects.order_by("id").values())
        items[1]["units"] = 1

        refused = client.post(URL, {"items": items}, format="json", HTTP_IDEMPOTENCY_KEY="k2")

        body = granted.json()
        assert [(each["feature"], each["used"], each["remaining"]) for each in body["items"]] == [
            ("api_calls", 7, 93),
            ("exports", 5, 0),
        ]
        assert set(body) == {"id", "items", "consumed_at", "metadata"}
        assert (refused.status_code, refused.json()["feature"]) == (403, "exports")
        assert list(Balance.objects.order_by("id").values()) == before
        again = client.post(URL, {"items": items}, format="json", HTTP_IDEMPOTENCY_KEY="k2")
        assert again.content == refused.content

    def test_adds_up_items_of_one_feature_in_their_order(self, client):
        items = [{"feature": "api_calls", "units": 60}, {"feature": "api_calls", "units": 40}]
        granted = client.post(URL, {"items": items}, format="json", HTTP_IDEMPOTENCY_KEY="k1")

        assert [each["used"] for each in granted.json()["items"]] == [60, 100]
        assert Balance.objects.get().used_units == 100

    def test_opens_a_new_period_at_its_boundary_and_not_before(self, client):
        consume(client, units=100)
        for instant, status in (
            (datetime(2026, 3, 31, 23, 59, 59, 999999, tzinfo=UTC), 403),
            (datetime(2026, 4, 1, tzinfo=UTC), 200),
        ):
            with clock.overridden(factories.standing(instant)):
                assert consume(client, key=instant.isoformat()).status_code == status
        assert list(
            Balance.objects.order_by("period_starts_at").values_list("used_units", "is_current")
        ) == [(100, False), (1, True)]

    def test_never_limits_what_is_unlimited_but_its_counter(self, client, user):
        factories.subscribe(factories.customer_of(user), "pro", at=STARTED)
        body = consume(client, units=10**12, feature="exports").json()
        Balance.objects.filter(feature__key="exports").update(used_units=2**63 - 2)

        last = consume(client, units=1, feature="exports", key="k2")
        refused = consume(client, units=1, feature="exports", key="k3")

        assert (body["limit"], body["remaining"]) == (None, None)
        assert (last.status_code, refused.status_code) == (200, 403)
        assert Balance.objects.get(feature__key="exports").used_units == 2**63 - 1

    def test_asks_the_database_a_constant_number_of_times(self, client, django_assert_num_queries):
        items = [{"feature": "api_calls", "units": 1}, {"feature": "exports", "units": 1}]
        client.post(URL, {"items": items}, format="json", HTTP_IDEMPOTENCY_KEY="open")
        consume(client, units=99, key="fill")
        with django_assert_num_queries(GRANTED + SAVEPOINTS):
            assert consume(client, feature="exports", key="one").status_code == 200
        with django_assert_num_queries(GRANTED + SAVEPOINTS):
            both = [{"feature": "exports", "units": 1}, {"feature": "exports", "units": 1}]
            client.post(URL, {"items": both}, format="json", HTTP_IDEMPOTENCY_KEY="two")
        with django_assert_num_queries(3 + SAVEPOINTS):  # lock, upgrades, append
            assert consume(client, key="denied").status_code == 403
        with django_assert_num_queries(REPLAYED + SAVEPOINTS):
            assert consume(client, key="one", feature="exports")["Idempotent-Replayed"] == "true"


# PostgreSQL locks, then counts and appends in one statement; SQLite looks for the key and writes
# one by one. A key that turns out to be taken is rolled back and read.
GRANTED = 2 if connection.vendor == "postgresql" else 4
REPLAYED = 3 + 1  # and the savepoint's own rollback
SAVEPOINTS = 2  # a test's own transaction turns BEGIN and COMMIT into SAVEPOINT and RELEASE


class TestBadInput:
    @pytest.mark.parametrize(
        ("raw", "status", "code"),
        [
            ('{"feature": "api_calls", "units": -1}', 422, "invalid"),
            ('{"feature": "api_calls", "units": 0}', 422, "invalid"),
            ('{"feature": "api_calls", "units": 9223372036854775808}', 422, "invalid"),
            ('{"feature": "api_calls", "units": 18446744073709551616}', 422, "invalid"),
            ('{"feature": "api_calls", "units": 1000000000001}', 422, "invalid"),
            ('{"feature": "api_calls", "units": 1e3}', 422, "invalid"),
            ('{"feature": "api_calls", "units": 1.0}', 422, "invalid"),
            ('{"feature": "api_calls", "units": "1"}', 422, "invalid"),
            ('{"feature": "api_calls", "units": true}', 422, "invalid"),
            ('{"feature": "api_calls", "units": null}', 422, "invalid"),
            ('{"feature": "api_calls", "units": [1]}', 422, "invalid"),
            ('{"feature": "api_calls"}', 422, "invalid"),
            ('{"units": 1}', 422, "invalid"),
            ('{"feature": 1, "units": 1}', 422, "invalid"),
            ('{"feature": "api_\\u0000calls", "units": 1}', 422, "invalid"),
            ('{"feature": "api_calls", "units": 1, "items": []}', 422, "invalid"),
            ('{"items": []}', 422, "invalid"),
            ('{"items": [{"feature": "api_calls", "units": 0}]}', 422, "invalid"),
            ('{"items": [1]}', 422, "invalid"),
            ('{"feature": "api_calls", "units": 1, "metadata": []}', 422, "invalid"),
            ('{"feature": "api_calls", "units": 1, "used": 0}', 400, "unknown_field"),
            ('{"items": [{"feature": "api_calls", "units": 1, "x": 1}]}', 400, "unknown_field"),
            ('{"feature": "api_cals", "units": 1}', 404, "feature_unknown"),
            ('{"feature": "sso", "units": 1}', 422, "feature_not_metered"),
            ('{"feature": "api_calls", "units": 1', 400, "malformed_request"),
            ("[]", 400, "malformed_request"),
            ("NaN", 400, "malformed_request"),
            ('{"feature": "\\ud800", "units": 1}', 400, "malformed_request"),
            ("[" * 100_000, 400, "malformed_request"),
            ('{"a":' * 100_000, 400, "malformed_request"),
        ],
    )
    def test_is_refused_with_its_problem_and_changes_nothing(self, client, at, raw, status, code):
        factories.make_feature("sso", at=at, kind="boolean")

        answer = client.generic(
            "POST", URL, raw, content_type="application/json", HTTP_IDEMPOTENCY_KEY="k1"
        )

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer["Content-Type"] == "application/problem+json"
        assert counted() == ([], [])

    def test_names_each_wrong_value_by_its_pointer(self, client):
        items = [{"feature": "api_calls", "units": 1}, {"feature": "api_calls", "units": 0}]
        answer = client.post(URL, {"items": items}, format="json", HTTP_IDEMPOTENCY_KEY="k1")

        assert answer.json()["errors"] == [
            {
                "pointer": "/items/1/units",
                "code": "min_value",
                "detail": "Ensure this value is greater than or equal to 1.",
            }
        ]

    def test_refuses_metadata_beyond_two_kilobytes(self, client):
        assert consume(client, metadata={"a": "x" * 2040}).status_code == 200
        refused = consume(client, key="k2", metadata={"a": "x" * 2048})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
        assert len(counted()[1]) == 1

    @pytest.mark.parametrize("key", ["x" * 256, "with space", "ümlaut", "tab\tbed"])
    def test_refuses_a_key_that_is_not_visible_ascii(self, client, key):
        answer = consume(client, key=key)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
        assert counted() == ([], [])

    def test_refuses_a_body_of_another_type_or_beyond_the_bound(self, client, settings):
        text = client.generic("POST", URL, "x", content_type="text/plain", HTTP_IDEMPOTENCY_KEY="k")
        assert (text.status_code, text.json()["code"]) == (415, "unsupported_media_type")
        big = '{"feature": "' + "x" * settings.ENGINE.body_bytes_max + '"}'
        large = client.generic(
            "POST", URL, big, content_type="application/json", HTTP_IDEMPOTENCY_KEY="k"
        )
        assert (large.status_code, large.json()["code"]) == (413, "payload_too_large")
        wrong = client.get(URL)
        assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
        assert wrong["Allow"] == "POST, OPTIONS"
        assert counted() == ([], [])

    def test_refuses_another_customer_whether_he_exists_or_not(self, client, at):
        other = factories.make_customer(at=at)
        for named in (str(other.pk), other.external_key, "nobody"):
            answer = consume(client, customer=named)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert counted() == ([], [])
