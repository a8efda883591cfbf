"""Logging in, rotating, revoking: no token works longer than it should."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import jwt
import pytest
from django.conf import settings as django_settings
from rest_framework.test import APIClient

from core import clock
from core.models import RefreshToken, User
from core.services import accounts
from tests import factories

pytestmark = pytest.mark.django_db
ME = "/api/users/me/"
GRACE = django_settings.ENGINE.refresh_reuse_grace_seconds


@pytest.fixture
def now() -> datetime:
    return clock.DatabaseClock().now()


@pytest.fixture
def user(now) -> User:
    return factories.make_user(at=now, username="alice")


@pytest.fixture
def anonymous() -> APIClient:
    return APIClient(raise_request_exception=False)


def post(client, path, **body):
    return client.post(f"/api/{path}/", body, format="json")


def bearer(token) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def refusal(answer) -> tuple[int, str]:
    if answer.status_code == 401:
        assert answer["WWW-Authenticate"] == 'Bearer realm="api", Api-Key realm="api"'
    return answer.status_code, answer.json()["code"]


class TestLogin:
    @pytest.mark.parametrize("name", ["alice", "ALICE", "alice@example.com", "Alice@Example.com"])
    def test_takes_username_or_address_whatever_its_case(self, anonymous, user, name):
        answer = post(anonymous, "token", username=name, password=factories.PASSWORD)
        assert answer.status_code == 200
        assert set(answer.json()) == {"access", "refresh"}
        assert bearer(answer.json()["access"]).get(ME).json()["username"] == "alice"

    def test_answers_alike_for_a_wrong_password_and_an_unknown_name(self, anonymous, user):
        wrong = post(anonymous, "token", username="alice", password="wrong")
        unknown = post(anonymous, "token", username="nobody", password="wrong")
        assert refusal(wrong) == refusal(unknown) == (401, "unauthenticated")
        assert wrong.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}
        assert not RefreshToken.objects.exists()

    def test_pauses_after_too_many_failures_even_for_the_right_password(
        self, anonymous, user, settings
    ):
        for _ in range(settings.AXES_FAILURE_LIMIT):
            answer = post(anonymous, "token", username="alice", password="wrong")
        assert refusal(answer) == (429, "rate_limited")
        answer = post(anonymous, "token", username="alice", password=factories.PASSWORD)
        assert refusal(answer) == (429, "rate_limited")
        assert answer["Retry-After"] == "900"
        assert not RefreshToken.objects.exists()

    def test_refuses_a_deactivated_user(self, anonymous, user):
        User.objects.update(is_active=False)
        answer = post(anonymous, "token", username="alice", password=factories.PASSWORD)
        assert refusal(answer) == (401, "unauthenticated")


class TestAccessToken:
    def test_costs_one_query(self, user, django_assert_num_queries):
        client = factories.client_for(user)
        with django_assert_num_queries(1):
            assert client.get(ME).status_code == 200

    def forged(self, user, **changes) -> str:
        now = datetime.now(UTC)
        claims = {
            "token_type": "access",
            "exp": now + timedelta(minutes=5),
            "iat": now,
            "jti": uuid4().hex,
            "user_id": str(user.pk),
            "ver": user.token_version,
            "aud": "subscription-engine",
            "iss": "subscription-engine",
        }
        key = changes.pop("key", django_settings.JWT_SIGNING_KEY)
        algorithm = changes.pop("algorithm", "HS256")
        claims |= changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key, algorithm=algorithm)

    def test_of_our_own_making_is_accepted(self, user):
        assert bearer(self.forged(user)).get(ME).status_code == 200

    @pytest.mark.parametrize(
        "changes",
        [
            {"exp": datetime(2020, 1, 1, tzinfo=UTC)},
            {"aud": "another"},
            {"aud": None},
            {"iss": "another"},
            {"iss": None},
            {"token_type": "refresh"},
            {"user_id": "x"},
            {"user_id": "999999999"},
            {"user_id": None},
            {"ver": None},
            {"ver": "x"},
            {"key": "another-signing-key-of-sufficient-length-0123456789"},
            {"key": django_settings.SECRET_KEY},
            {"key": None, "algorithm": "none"},
            {"algorithm": "HS512"},
        ],
    )
    def test_that_is_forged_expired_or_of_another_kind_is_refused(self, user, changes):
        assert refusal(bearer(self.forged(user, **changes)).get(ME)) == (401, "unauthenticated")

    @pytest.mark.parametrize("token", ["", "x", "a.b.c", "ü", "Bearer", "eyJ." * 3])
    def test_that_is_none_is_refused(self, token):
        assert refusal(bearer(token).get(ME)) == (401, "unauthenticated")

    def test_ends_at_once_with_its_user(self, user):
        client = factories.client_for(user)
        User.objects.update(is_active=False)
        assert refusal(client.get(ME)) == (401, "unauthenticated")
        User.objects.all().delete()
        assert refusal(client.get(ME)) == (401, "unauthenticated")

    def test_ends_with_a_new_password_and_so_do_its_siblings(self, anonymous, user, now):
        pair = factories.pair_for(user, at=now)
        client = bearer(pair["access"])
        wrong = post(client, "users/me/password", current_password="x", new_password="h8fk3-kd8d")
        assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (
            422,
            "/current_password",
        )
        changed = post(
            client,
            "users/me/password",
            current_password=factories.PASSWORD,
            new_password="h8fk3-kd8d",
        )
        assert changed.status_code == 204
        assert refusal(client.get(ME)) == (401, "token_revoked")
        assert refusal(post(anonymous, "token/refresh", refresh=pair["refresh"])) == (
            401,
            "token_revoked",
        )
        assert post(anonymous, "token/verify", token=pair["access"]).status_code == 401
        login = post(anonymous, "token", username="alice", password="h8fk3-kd8d")
        assert login.status_code == 200


class TestRefreshToken:
    def test_is_spent_by_its_first_use(self, anonymous, user, now):
        pair = factories.pair_for(user, at=now)
        first = post(anonymous, "token/refresh", refresh=pair["refresh"])
        again = post(anonymous, "token/refresh", refresh=pair["refresh"])
        assert first.status_code == 200
        assert refusal(again) == (401, "token_spent")
        assert not RefreshToken.objects.filter(revoked_at__isnull=False).exists()
        successor = post(anonymous, "token/refresh", refresh=first.json()["refresh"])
        assert successor.status_code == 200

    @pytest.mark.parametrize(
        ("seconds", "code"), [(GRACE, "token_spent"), (GRACE + 1, "token_revoked")]
    )
    def test_that_comes_again_after_the_grace_ends_its_family(
        self, anonymous, user, now, seconds, code
    ):
        pair = factories.pair_for(user, at=now)
        other_login = factories.pair_for(user, at=now)
        with clock.overridden(factories.standing(now)):
            successor = post(anonymous, "token/refresh", refresh=pair["refresh"]).json()
        with clock.overridden(factories.standing(now + timedelta(seconds=seconds))):
            assert refusal(post(anonymous, "token/refresh", refresh=pair["refresh"])) == (401, code)
            answer = post(anonymous, "token/refresh", refresh=successor["refresh"])
            assert answer.status_code == (200 if code == "token_spent" else 401)
            other = post(anonymous, "token/refresh", refresh=other_login["refresh"])
            assert other.status_code == 200

    def test_works_until_it_expires(self, anonymous, user, now, settings):
        pair = factories.pair_for(user, at=now)
        expiry = now + timedelta(seconds=settings.ENGINE.refresh_token_seconds)
        with clock.overridden(factories.standing(expiry)):
            answer = post(anonymous, "token/refresh", refresh=pair["refresh"])
        assert refusal(answer) == (401, "unauthenticated")
        assert RefreshToken.objects.filter(spent_at__isnull=True).count() == 1

    def test_is_no_access_token_and_the_other_way_round(self, anonymous, user, now):
        pair = factories.pair_for(user, at=now)
        assert refusal(bearer(pair["refresh"]).get(ME)) == (401, "unauthenticated")
        answer = post(anonymous, "token/refresh", refresh=pair["access"])
        assert refusal(answer) == (401, "unauthenticated")

    def test_of_a_deleted_or_deactivated_user_is_refused(self, anonymous, user, now):
        pair = factories.pair_for(user, at=now)
        User.objects.update(is_active=False)
        answer = post(anonymous, "token/refresh", refresh=pair["refresh"])
        assert refusal(answer) == (401, "unauthenticated")
        User.objects.all().delete()
        answer = post(anonymous, "token/refresh", refresh=pair["refresh"])
        assert refusal(answer) == (401, "unauthenticated")
        assert post(anonymous, "token/revoke", refresh=pair["refresh"]).status_code == 204

    def test_is_ended_by_revoking(self, anonymous, user, now):
        pair = factories.pair_for(user, at=now)
        assert post(anonymous, "token/revoke", refresh=pair["refresh"]).status_code == 204
        assert post(anonymous, "token/revoke", refresh=pair["refresh"]).status_code == 204
        answer = post(anonymous, "token/refresh", refresh=pair["refresh"])
        assert refusal(answer) == (401, "token_revoked")


class TestVerify:
    def test_tells_whether_an_access_token_is_accepted(self, anonymous, user, now):
        pair = factories.pair_for(user, at=now)
        answer = post(anonymous, "token/verify", token=pair["access"])
        assert (answer.status_code, answer.json()) == (200, {"active": True})
        assert refusal(post(anonymous, "token/verify", token="x")) == (401, "unauthenticated")


class TestRegistration:
    BODY = {"username": "bob", "email": "Bob@example.com", "password": "h8fk3-kd8d"}

    def test_makes_a_user_with_a_customer_on_the_default_plan(self, anonymous, now):
        factories.make_plan("free", at=now)
        assert post(anonymous, "users", **self.BODY).status_code == 201
        login = post(anonymous, "token", username="bob", password=self.BODY["password"])
        me = bearer(login.json()["access"]).get("/api/subscriptions/me/").json()
        assert (me["plan"], me["limits"], me["usage"]) == (
            "Free",
            {"api_calls": 100},
            {"api_calls": 0},
        )
        who = bearer(login.json()["access"]).get(ME).json()
        assert (who["email"], who["customers"][0]["role"]) == ("bob@example.com", "owner")

    def test_answers_alike_where_a_name_is_taken_and_changes_nothing(self, anonymous):
        first = post(anonymous, "users", **self.BODY)
        before = list(User.objects.values())
        for change in ({"username": "BOB", "email": "x@example.com"}, {"username": "carl"}):
            answer = post(anonymous, "users", **(self.BODY | change))
            assert answer.status_code == first.status_code == 201
            assert set(answer.json()) == set(first.json()) == {"username", "email"}
        assert list(User.objects.values()) == before

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"username": "bob@home"}, "/username"),
            ({"username": ""}, "/username"),
            ({"email": "bob"}, "/email"),
            ({"password": "123"}, "/password"),
            ({"password": "password"}, "/password"),
            ({"username": 7}, "/username"),
            ({"email": "b\x00b@example.com"}, "/email"),
        ],
    )
    def test_refuses_what_is_not_valid(self, anonymous, change, pointer):
        answer = post(anonymous, "users", **(self.BODY | change))
        assert refusal(answer) == (422, "invalid")
        assert {each["pointer"] for each in answer.json()["errors"]} == {pointer}
        assert not User.objects.exists()

    def test_refuses_fields_that_are_not_asked_for(self, anonymous):
        answer = post(anonymous, "users", **self.BODY, is_staff=True)
        assert refusal(answer) == (400, "unknown_field")
        assert not User.objects.exists()

    def test_pauses_an_address_that_registers_too_often(self, anonymous):
        for number in range(20):
            post(
                anonymous,
                "users",
                **(self.BODY | {"username": f"u{number}", "email": f"u{number}@x.org"}),
            )
        answer = post(anonymous, "users", **self.BODY)
        assert refusal(answer) == (429, "rate_limited")
        assert int(answer["Retry-After"]) >= 1
        assert User.objects.count() == 20


@pytest.mark.django_db
def test_changing_the_password_of_nobody_is_refused():
    with pytest.raises(User.DoesNotExist):
        accounts.change_password(user_id=1, password="x", clock=clock.DatabaseClock())
