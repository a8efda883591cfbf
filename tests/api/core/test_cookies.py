"""The refresh token of a browser: in a cookie that no script reads and no other site uses."""

import pytest
from django.test import Client
from rest_framework.test import APIClient

from core import clock
from core.models import RefreshToken
from tests import factories

pytestmark = pytest.mark.django_db
ORIGIN = "https://app.example.com"


@pytest.fixture
def browser() -> Client:
    factories.make_user(at=clock.DatabaseClock().now(), username="alice")
    return Client(enforce_csrf_checks=True)


def post(browser, path, body=None, **headers):
    return browser.post(
        f"/api/{path}/", body or {}, content_type="application/json", headers=headers
    )


def log_in(browser):
    body = {"username": "alice", "password": factories.PASSWORD, "cookie": True}
    answer = post(browser, "token", body)
    assert answer.status_code == 200
    return answer


def refusal(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class TestCookie:
    def test_is_out_of_reach_of_scripts_and_other_sites(self, browser, settings):
        settings.HTTPS_ONLY = True
        answer = log_in(browser)
        assert set(answer.json()) == {"access", "csrf_token"}
        cookie = answer.cookies["refresh_token"]
        assert cookie["httponly"]
        assert cookie["secure"]
        assert (cookie["samesite"], cookie["path"]) == ("Strict", "/api/token/")
        assert cookie["max-age"] == settings.ENGINE.refresh_token_seconds

    def test_rotates_with_the_csrf_token(self, browser):
        token = log_in(browser).json()["csrf_token"]
        before = browser.cookies["refresh_token"].value
        answer = post(browser, "token/refresh", **{"X-CSRFToken": token})
        assert answer.status_code == 200
        assert set(answer.json()) == {"access", "csrf_token"}
        assert browser.cookies["refresh_token"].value != before
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access']}")
        assert client.get("/api/users/me/").status_code == 200
        again = post(browser, "token/refresh", **{"X-CSRFToken": answer.json()["csrf_token"]})
        assert again.status_code == 200

    @pytest.mark.parametrize("path", ["token/refresh", "token/revoke"])
    def test_does_nothing_without_the_csrf_token_or_from_a_foreign_origin(self, browser, path):
        token = log_in(browser).json()["csrf_token"]
        before = list(RefreshToken.objects.values())
        for headers in (
            {},
            {"X-CSRFToken": "x" * 64},
            {"X-CSRFToken": token, "Origin": "https://evil.example"},
        ):
            assert refusal(post(browser, path, **headers)) == (403, "permission_denied")
        assert list(RefreshToken.objects.values()) == before

    def test_serves_an_origin_that_is_allowed(self, browser, settings):
        settings.CSRF_TRUSTED_ORIGINS = [ORIGIN]
        token = log_in(browser).json()["csrf_token"]
        answer = post(browser, "token/refresh", **{"X-CSRFToken": token, "Origin": ORIGIN})
        assert answer.status_code == 200

    def test_is_taken_back_by_logging_out(self, browser):
        token = log_in(browser).json()["csrf_token"]
        answer = post(browser, "token/revoke", **{"X-CSRFToken": token})
        assert answer.status_code == 204
        assert answer.cookies["refresh_token"]["max-age"] == 0
        assert RefreshToken.objects.get().revoked_at is not None
        assert refusal(post(browser, "token/refresh", **{"X-CSRFToken": token})) == (
            401,
            "unauthenticated",
        )

    def test_is_not_needed_in_body_mode(self, browser):
        body = {"username": "alice", "password": factories.PASSWORD}
        answer = post(browser, "token", body)
        assert set(answer.json()) == {"access", "refresh"}
        assert "refresh_token" not in answer.cookies
        refreshed = post(browser, "token/refresh", {"refresh": answer.json()["refresh"]})
        assert set(refreshed.json()) == {"access", "refresh"}

    def test_is_missed_where_there_is_no_token_at_all(self, browser):
        assert refusal(post(browser, "token/refresh")) == (401, "unauthenticated")
        assert refusal(post(browser, "token/revoke")) == (401, "unauthenticated")
