"""Every error is a problem document, and no page needs another host."""

import re
from unittest import mock

import pytest
from django.core.exceptions import SuspiciousOperation
from django.db import OperationalError
from django.test import Client
from rest_framework.test import APIClient

from core import clock
from core.models import SCOPES
from core.services import service_keys
from metering import selectors
from tests import factories

pytestmark = pytest.mark.django_db
ME = "/api/subscriptions/me/"


@pytest.fixture
def client(standing_clock, at) -> APIClient:
    factories.make_plan("free", at=at)
    return factories.client_for(factories.make_user(at=at))


def problem(answer) -> tuple[int, str]:
    body = answer.json()
    assert answer["Content-Type"] == "application/problem+json"
    assert body["type"] == f"/docs/errors/{body['code']}"
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer["X-Request-Id"]
    return answer.status_code, body["code"]


class TestProblems:
    @pytest.mark.parametrize("path", ["/nope", "/api/nope/", "/docs/errors/nope", "/%00"])
    @pytest.mark.parametrize("method", ["get", "post"])
    def test_of_an_unknown_address(self, path, method):
        assert problem(getattr(Client(enforce_csrf_checks=True), method)(path)) in {
            (404, "not_found"),
            (405, "method_not_allowed"),
        }

    def test_of_a_missing_slash_names_the_right_address(self, client):
        for method in (client.get, client.post):
            answer = method("/api/usage/consume")
            assert problem(answer) == (404, "not_found")
            assert "/api/usage/consume/" in answer.json()["detail"]

    def test_of_an_unexpected_fault_shows_nothing_and_is_logged(self, client, caplog):
        with mock.patch.object(selectors, "find_reading", side_effect=KeyError("secret")):
            answer = client.get(ME, HTTP_X_REQUEST_ID="req-1")
        assert problem(answer) == (500, "internal_error")
        assert b"secret" not in answer.content
        assert "req-1" in caplog.text
        assert "secret" in caplog.text

    def test_of_a_database_that_does_not_answer_is_closed(self, client):
        with mock.patch.object(selectors, "find_reading", side_effect=OperationalError("gone")):
            answer = client.get(ME)
        assert problem(answer) == (503, "unavailable")
        assert answer["Retry-After"] == "1"

    def test_of_a_request_that_django_refuses(self, client):
        with mock.patch.object(selectors, "find_reading", side_effect=SuspiciousOperation("x")):
            assert problem(client.get(ME)) == (400, "malformed_request")
        assert Client().get("/", HTTP_HOST="evil.example").status_code == 400

    def test_of_a_form_without_its_token(self):
        answer = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "x"})
        assert answer.status_code == 403
        assert answer["Content-Type"].startswith("text/html")  # people are in the admin
        assert "permission_denied" in answer.content.decode()

    @pytest.mark.parametrize(
        ("query", "status", "code"),
        [
            ("?plan=pro", 400, "unknown_field"),
            ("?customer=a&customer=b", 400, "malformed_request"),
            ("?customer=nobody", 404, "not_found"),
            ("?customer=%00", 422, "invalid"),
        ],
    )
    def test_of_query_parameters(self, client, query, status, code):
        assert problem(client.get(ME + query)) == (status, code)

    def test_of_nobody(self):
        answer = APIClient().get(ME)
        assert problem(answer) == (401, "unauthenticated")
        assert "WWW-Authenticate" in answer

    def test_keep_a_sane_request_id_and_replace_any_other(self, client):
        assert client.get(ME, HTTP_X_REQUEST_ID="abc.1")["X-Request-Id"] == "abc.1"
        assert re.fullmatch("[0-9a-f]{32}", client.get(ME, HTTP_X_REQUEST_ID="a b")["X-Request-Id"])

    def test_stand_beside_answers_that_are_private(self, client):
        answer = client.get(ME)
        assert answer["Cache-Control"] == "private, no-cache"
        assert "Authorization" in answer["Vary"]


class TestServiceKeys:
    def test_name_their_customer(self, client, at):
        customer = factories.make_customer(at=at, name="acme")
        backend = factories.service_client()
        for named in ("acme", str(customer.pk)):
            assert backend.get(ME, {"customer": named}).json()["plan"] == "Free"
        assert problem(backend.get(ME)) == (422, "invalid")
        assert problem(backend.get(ME, {"customer": "nobody"})) == (404, "not_found")

    def test_do_only_what_their_scopes_cover(self, client, at):
        factories.make_customer(at=at, name="acme")
        backend = factories.service_client(scopes=("usage:read",))
        body = {"customer": "acme", "feature": "api_calls", "units": 1}
        assert backend.post("/api/usage/check/", body, format="json").status_code == 200
        refused = backend.post("/api/usage/consume/", body, format="json", HTTP_IDEMPOTENCY_KEY="k")
        assert problem(refused) == (403, "insufficient_scope")
        assert refused.json()["scope"] == "usage:write"
        assert problem(backend.get(ME, {"customer": "acme"})) == (403, "insufficient_scope")
        assert problem(backend.get("/api/users/me/")) == (403, "permission_denied")

    def test_of_an_owner_let_another_member_do_less(self, client, at):
        customer = factories.make_customer(at=at)
        member = factories.client_for(factories.make_user(at=at, customer=customer, role="member"))
        assert member.get(ME).status_code == 200
        refused = member.post(
            "/api/subscriptions/", {"plan": "free"}, format="json", HTTP_IDEMPOTENCY_KEY="k"
        )
        assert problem(refused) == (403, "permission_denied")

    def test_end_when_they_expire_or_are_revoked(self, client, at):
        factories.make_customer(at=at, name="acme")
        made = service_keys.create(
            name="x",
            scopes=SCOPES,
            expires_at=at.replace(hour=13),
            clock=factories.standing(at),
        )
        backend = APIClient()
        backend.credentials(HTTP_AUTHORIZATION=f"Api-Key {made.credential}")
        assert backend.get(ME, {"customer": "acme"}).status_code == 200
        with clock.overridden(factories.standing(at.replace(hour=13))):
            assert problem(backend.get(ME, {"customer": "acme"})) == (401, "unauthenticated")
        service_keys.revoke(service_key=made.service_key, clock=factories.standing(at))
        assert problem(backend.get(ME, {"customer": "acme"})) == (401, "unauthenticated")

    @pytest.mark.parametrize("credential", ["", "x", "x.y", "{prefix}.", "{prefix}.wrong", "ü.ü"])
    def test_are_refused_alike_whatever_is_wrong(self, credential):
        prefix = factories.make_service_key().service_key.prefix
        backend = APIClient()
        backend.credentials(HTTP_AUTHORIZATION="Api-Key " + credential.format(prefix=prefix))
        assert problem(backend.get(ME, {"customer": "acme"})) == (401, "unauthenticated")

    def test_keep_only_the_hash_of_their_secret(self):
        made = factories.make_service_key()
        secret = made.credential.partition(".")[2]
        assert len(secret) >= 43
        assert secret not in str(made.service_key.__dict__)

    def test_are_not_made_with_an_unknown_scope_or_a_past_expiry(self, at):
        for wrong in ({"scopes": ("all",)}, {"expires_at": at}):
            asked = {"name": "x", "scopes": SCOPES, "expires_at": None} | wrong
            with pytest.raises(service_keys.errors.Invalid):
                service_keys.create(**asked, clock=factories.standing(at))
        assert not service_keys.ServiceKey.objects.exists()


class TestPages:
    @pytest.mark.parametrize(
        "path", ["/", "/api/docs/", "/api/docs/?script=", "/api/redoc/", "/admin/login/"]
    )
    def test_ask_no_other_host(self, path):
        answer = Client().get(path)
        assert answer.status_code == 200
        hosts = set(re.findall(rb"(?:src|href)=[\"'](?:https?:)?//([^/\"']+)", answer.content))
        assert hosts == set()

    def test_explain_each_code(self):
        answer = Client().get("/docs/errors/usage_limit_reached")
        assert answer.status_code == 200
        assert b"usage_limit_reached" in answer.content

    def test_tell_that_the_process_lives_and_is_ready(self):
        assert Client().get("/livez").json() == {"status": "ok"}
        assert Client().get("/readyz").json()["status"] == "ok"

    def test_tell_that_the_database_is_gone_or_not_migrated(self):
        target = "core.api.health._pending_migrations"
        with mock.patch(target, return_value=2):
            assert problem(Client().get("/readyz")) == (503, "unavailable")
        with mock.patch(target, side_effect=OperationalError("gone")):
            assert problem(Client().get("/readyz")) == (503, "unavailable")
