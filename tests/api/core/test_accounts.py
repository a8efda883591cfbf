"""Accounts: proving an address, resetting a password, and how often one may try."""

import re
from datetime import timedelta
from unittest import mock

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.core import mail as django_mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from core import clock
from core.api import throttles
from core.models import AuditEntry, Customer, Mail, RefreshToken, User
from core.services import mail
from tests import factories

pytestmark = pytest.mark.django_db
ME = "/api/users/me/"
NEW = "h8fk3-kd8d-new"
BODY = {"username": "bob", "email": "bob@example.com", "password": "h8fk3-kd8d"}


@pytest.fixture
def now():
    return clock.DatabaseClock().now()


@pytest.fixture
def user(now) -> User:
    return factories.make_user(at=now, username="alice")


@pytest.fixture
def anonymous() -> APIClient:
    return APIClient(raise_request_exception=False)


@pytest.fixture
def client(user) -> APIClient:
    return factories.client_for(user)


def post(client, path, **body):
    return client.post(f"/api/{path}/", body, format="json")


def refusal(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def mailed_token() -> str:
    """Send what is due and return the token of the last mail's link."""
    assert mail.send_due(clock=clock.process_clock()) >= 1
    found = re.search(r"#token=(\S+)", django_mail.outbox[-1].body)
    assert found, django_mail.outbox[-1].body
    return found.group(1)


def work_of(action) -> tuple[int, int, int]:
    """Return a request's status, statements and password hashes."""
    real, hashes = MD5PasswordHasher.encode, []
    clock.process_clock().now()  # asks the database once a minute: not while this counts

    def encode(self, *args, **kwargs):
        hashes.append(1)
        return real(self, *args, **kwargs)

    with (
        mock.patch.object(MD5PasswordHasher, "encode", encode),
        CaptureQueriesContext(connection) as queries,
    ):
        answer = action()
    return answer.status_code, len(queries), len(hashes)


class TestSameWork:
    """Nobody learns from answer, statements or hashes whether an account exists."""

    def test_of_a_login_by_a_known_and_an_unknown_name(self, anonymous, user):
        known = work_of(lambda: post(anonymous, "token", username="alice", password="x"))
        unknown = work_of(lambda: post(anonymous, "token", username="nobody", password="x"))
        assert known == unknown
        assert known[0] == 401
        assert known[2] == 1

    def test_of_registering_a_free_and_a_taken_name(self, anonymous, user):
        free = work_of(lambda: post(anonymous, "users", **BODY))
        taken = work_of(lambda: post(anonymous, "users", **BODY | {"username": "ALICE"}))
        other = BODY | {"username": "carl", "email": "ALICE@example.com"}
        address_taken = work_of(lambda: post(anonymous, "users", **other))
        assert free == taken == address_taken
        assert free[0] == 201
        assert free[2] == 1
        assert Customer.objects.count() == User.objects.count() == 2

    def test_of_asking_for_a_reset(self, anonymous, user):
        known = work_of(lambda: post(anonymous, "users/password/reset", email=user.email))
        unknown = work_of(lambda: post(anonymous, "users/password/reset", email="x@example.com"))
        assert known == unknown
        assert known[0] == 202
        mail.send_due(clock=clock.process_clock())
        assert [each.to for each in django_mail.outbox] == [[user.email]]


class TestAddress:
    def test_is_proved_by_its_link_once(self, anonymous):
        post(anonymous, "users", **BODY)
        token = mailed_token()
        assert post(anonymous, "users/verify-email", token=token).status_code == 204
        bob = User.objects.get()
        assert bob.email_verified_at is not None
        again = post(anonymous, "users/verify-email", token=token)
        assert refusal(again) == (422, "invalid")
        assert again.json()["errors"][0]["pointer"] == "/token"
        assert User.objects.get() == bob
        assert AuditEntry.objects.filter(action="user.address_verified").count() == 1

    def test_is_not_proved_after_three_days(self, anonymous, now):
        post(anonymous, "users", **BODY)
        token = mailed_token()
        late = clock.process_clock().now() + timedelta(days=3)
        with clock.overridden(factories.standing(late)):
            answer = post(anonymous, "users/verify-email", token=token)
        assert refusal(answer) == (422, "invalid")
        assert User.objects.get().email_verified_at is None

    @pytest.mark.parametrize("token", ["x", "a:b:c", "ü", "WzFd:1:x"])
    def test_is_not_proved_by_a_forged_link(self, anonymous, user, token):
        assert refusal(post(anonymous, "users/verify-email", token=token)) == (422, "invalid")
        assert refusal(
            post(anonymous, "users/password/reset/confirm", token=token, new_password=NEW)
        ) == (422, "invalid")
        assert User.objects.get().token_version == 0

    def test_changes_only_when_the_new_one_is_proved(self, client, anonymous, user):
        answer = client.patch(
            ME, {"email": "New@example.com", "current_password": factories.PASSWORD}, format="json"
        )
        assert (answer.status_code, answer.json()["email"]) == (200, "alice@example.com")
        token = mailed_token()
        assert django_mail.outbox[-1].to == ["new@example.com"]
        assert post(anonymous, "users/verify-email", token=token).status_code == 204
        shown = client.get(ME).json()
        assert (shown["email"], shown["email_verified"]) == ("new@example.com", True)
        mail.send_due(clock=clock.process_clock())
        assert django_mail.outbox[-1].to == ["alice@example.com"]

    def test_of_another_account_is_answered_alike_and_never_taken(self, client, anonymous, now):
        other = factories.make_user(at=now, username="other")
        body = {"email": other.email, "current_password": factories.PASSWORD}
        assert client.patch(ME, body, format="json").status_code == 200
        answer = post(anonymous, "users/verify-email", token=mailed_token())
        assert refusal(answer) == (422, "invalid")
        assert client.get(ME).json()["email"] == "alice@example.com"

    def test_needs_the_current_password(self, client):
        body = {"email": "new@example.com", "current_password": "x"}
        answer = client.patch(ME, body, format="json")
        assert answer.json()["errors"][0]["pointer"] == "/current_password"
        assert not Mail.objects.exists()


class TestReset:
    def ask(self, anonymous, user) -> str:
        post(anonymous, "users/password/reset", email=user.email.upper())
        return mailed_token()

    def confirm(self, anonymous, token, password=NEW):
        return post(anonymous, "users/password/reset/confirm", token=token, new_password=password)

    def test_sets_the_password_once_and_ends_every_login(self, client, anonymous, user, now):
        pair = factories.pair_for(user, at=now)
        token = self.ask(anonymous, user)
        assert self.confirm(anonymous, token).status_code == 204
        assert refusal(client.get(ME)) == (401, "token_revoked")
        assert refusal(post(anonymous, "token/refresh", refresh=pair["refresh"])) == (
            401,
            "token_revoked",
        )
        assert post(anonymous, "token", username="alice", password=NEW).status_code == 200
        before = User.objects.get().password
        assert refusal(self.confirm(anonymous, token, "another-h8fk3")) == (422, "invalid")
        assert User.objects.get().password == before
        assert User.objects.get().email_verified_at is not None

    def test_is_dead_after_an_hour_a_new_password_or_a_deactivation(self, anonymous, user, now):
        token = self.ask(anonymous, user)
        User.objects.update(is_active=False)
        assert refusal(self.confirm(anonymous, token)) == (422, "invalid")
        User.objects.update(is_active=True, token_version=1)
        assert refusal(self.confirm(anonymous, token)) == (422, "invalid")
        User.objects.update(token_version=0)
        late = clock.process_clock().now() + timedelta(hours=1)
        with clock.overridden(factories.standing(late)):
            assert refusal(self.confirm(anonymous, token)) == (422, "invalid")
        assert User.objects.get().check_password(factories.PASSWORD)

    def test_is_no_verification_and_refuses_a_weak_password(self, anonymous, user):
        token = self.ask(anonymous, user)
        assert refusal(post(anonymous, "users/verify-email", token=token)) == (422, "invalid")
        weak = self.confirm(anonymous, token, "123")
        assert weak.json()["errors"][0]["pointer"] == "/new_password"
        assert User.objects.get().check_password(factories.PASSWORD)

    def test_writes_nothing_to_a_deactivated_user(self, anonymous, user):
        User.objects.update(is_active=False)
        post(anonymous, "users/password/reset", email=user.email)
        assert mail.send_due(clock=clock.process_clock()) == 1
        assert django_mail.outbox == []
        assert mail.send_due(clock=clock.process_clock()) == 0


class TestLogoutEverywhere:
    def test_ends_every_token(self, client, anonymous, user, now):
        pair = factories.pair_for(user, at=now)
        assert client.post("/api/token/revoke-all/").status_code == 204
        assert refusal(client.get(ME)) == (401, "token_revoked")
        assert refusal(post(anonymous, "token/refresh", refresh=pair["refresh"])) == (
            401,
            "token_revoked",
        )
        assert not RefreshToken.objects.filter(revoked_at__isnull=True).exists()

    def test_is_for_users(self):
        answer = factories.service_client().post("/api/token/revoke-all/")
        assert refusal(answer) == (403, "permission_denied")


class TestThrottles:
    def test_of_one_account_hold_from_any_address(self, anonymous, user):
        for number in range(throttles.LOGIN_ACCOUNT.requests):
            address = f"10.0.{number}.1"
            post_from(anonymous, address, "token", username="Alice", password="x")
        answer = post_from(
            anonymous, "10.9.9.9", "token", username="alice", password=factories.PASSWORD
        )
        assert refusal(answer) == (429, "rate_limited")
        assert int(answer["Retry-After"]) >= 1
        assert not RefreshToken.objects.exists()

    def test_of_mail_hold_for_an_unknown_address_too(self, anonymous):
        for _ in range(throttles.MAIL_ACCOUNT.requests):
            assert post(anonymous, "users/password/reset", email="x@example.com").status_code == 202
        answer = post(anonymous, "users/password/reset", email="X@example.com")
        assert refusal(answer) == (429, "rate_limited")
        assert Mail.objects.count() == throttles.MAIL_ACCOUNT.requests

    def test_of_an_address_hold_for_any_account(self, anonymous):
        for number in range(throttles.MAIL_ADDRESS.requests):
            post(anonymous, "users/password/reset", email=f"x{number}@example.com")
        answer = post(anonymous, "users/password/reset", email="y@example.com")
        assert refusal(answer) == (429, "rate_limited")
        assert (
            post_from(
                anonymous, "10.1.1.1", "users/password/reset", email="y@example.com"
            ).status_code
            == 202
        )

    def test_keep_a_stolen_token_from_trying_passwords(self, client, user):
        for _ in range(throttles.PASSWORD_ACCOUNT.requests):
            post(client, "users/me/password", current_password="x", new_password=NEW)
        body = {"current_password": factories.PASSWORD, "new_password": NEW}
        assert refusal(post(client, "users/me/password", **body)) == (429, "rate_limited")
        assert User.objects.get().check_password(factories.PASSWORD)


def post_from(client, address, path, **body):
    return client.post(f"/api/{path}/", body, format="json", REMOTE_ADDR=address)


class TestMail:
    def test_that_fails_is_tried_again_later_and_at_last_given_up(self, anonymous, user):
        post(anonymous, "users/password/reset", email=user.email)
        at = clock.process_clock().now()
        with mock.patch.object(mail, "send_mail", side_effect=OSError("no route")) as sending:
            for days in range(12):
                standing = factories.standing(at + timedelta(days=days))
                mail.send_due(clock=standing)
                mail.send_due(clock=standing)
        assert sending.call_count == mail.ATTEMPTS_MAX
        assert Mail.objects.get().sent_at is None
        assert mail.prune(clock=factories.standing(at), keep=timedelta(days=1)) == 0
        late = factories.standing(at + timedelta(days=60))
        assert mail.prune(clock=late, keep=timedelta(days=30)) == 1

    def test_leaves_nothing_secret_in_the_database(self, anonymous, user):
        post(anonymous, "users/password/reset", email=user.email)
        token = mailed_token()
        assert token not in str(list(Mail.objects.values()))

    def test_is_sent_at_once_in_development(
        self, anonymous, user, django_capture_on_commit_callbacks
    ):
        with django_capture_on_commit_callbacks(execute=True):
            post(anonymous, "users/password/reset", email=user.email)
        assert len(django_mail.outbox) == 1
