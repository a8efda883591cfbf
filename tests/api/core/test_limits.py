"""Rate limits of the API: per address, user, key and plan; told in headers; off by default."""

from datetime import timedelta
from unittest import mock

import pytest
from django.test import Client
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from core import clock
from core.api import limits
from core.models import RateState
from core.services import rates
from metering.enforcement.throttles import EntitlementThrottle
from tests import factories

pytestmark = pytest.mark.django_db
ME = "/api/users/me/"


@pytest.fixture(autouse=True)
def _fresh_store():
    rates.shared_store.cache_clear()
    yield
    rates.shared_store.cache_clear()


@pytest.fixture
def now():
    return clock.DatabaseClock().now()


@pytest.fixture
def user(now):
    return factories.make_user(at=now)


def refusal(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class TestAddress:
    def test_is_not_limited_by_default(self, user, django_assert_num_queries):
        client = factories.client_for(user)
        with django_assert_num_queries(1):
            answer = client.get(ME)
        assert answer.status_code == 200
        assert "RateLimit" not in answer

    def test_is_refused_before_any_work_and_told_so(self, settings, django_assert_num_queries):
        settings.RATE_LIMIT_ADDRESS = "2/60 100/3600"
        first, second = Client().get("/api/plans/"), Client().get("/api/plans/")
        assert (first.status_code, second.status_code) == (200, 200)
        with django_assert_num_queries(0):
            answer = Client().get("/api/plans/")
        assert refusal(answer) == (429, "rate_limited")
        assert answer["Retry-After"] == str(answer.json()["retry_after_seconds"])
        assert 1 <= int(answer["Retry-After"]) <= 30
        assert answer["RateLimit-Policy"] == (
            '"address-60s";q=2;w=60, "address-3600s";q=100;w=3600'
        )
        assert answer["RateLimit"].startswith('"address-60s";r=0;t=60, "address-3600s";r=98;t=')
        assert Client().get("/api/plans/", REMOTE_ADDR="10.0.0.9").status_code == 200

    def test_is_counted_for_forged_credentials_too(self, settings):
        settings.RATE_LIMIT_ADDRESS = "1/60"
        headers = {"Authorization": "Bearer x"}
        assert Client().get(ME, headers=headers).status_code == 401
        assert refusal(Client().get(ME, headers=headers)) == (429, "rate_limited")

    def test_does_not_count_health_and_pages(self, settings):
        settings.RATE_LIMIT_ADDRESS = "1/60"
        assert [Client().get("/livez").status_code for _ in range(3)] == [200] * 3


class TestCaller:
    def test_user_is_counted_over_all_his_addresses(self, settings, user):
        settings.RATE_LIMIT_USER = "2/60"
        client = factories.client_for(user)
        answers = [client.get(ME, REMOTE_ADDR=f"10.0.0.{n}") for n in range(3)]
        assert [each.status_code for each in answers] == [200, 200, 429]
        assert answers[0]["RateLimit"] == '"user-60s";r=1;t=30'

    def test_another_user_is_another_caller(self, settings, user, now):
        settings.RATE_LIMIT_USER = "1/60"
        client = factories.client_for(user)
        other = factories.client_for(factories.make_user(at=now))
        assert client.get(ME).status_code == 200
        assert client.get(ME).status_code == 429
        assert other.get(ME).status_code == 200

    def test_service_key_has_limits_of_its_own(self, settings, now):
        settings.RATE_LIMIT_USER, settings.RATE_LIMIT_KEY = "1/60", "3/60"
        factories.make_plan("free", at=now)
        factories.make_customer(at=now, name="acme")
        backend = factories.service_client()
        path = "/api/subscriptions/me/?customer=acme"
        statuses = [backend.get(path).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]

    def test_refused_request_changes_nothing(self, settings, user):
        settings.RATE_LIMIT_USER = "1/60"
        client = factories.client_for(user)
        client.get(ME)
        before = user.token_version
        assert client.post("/api/token/revoke-all/").status_code == 429
        user.refresh_from_db()
        assert user.token_version == before

    def test_costs_no_statement(self, settings, user, django_assert_num_queries):
        settings.RATE_LIMIT_ADDRESS = settings.RATE_LIMIT_USER = "100/60"
        client = factories.client_for(user)
        with django_assert_num_queries(1):
            assert client.get(ME).status_code == 200
        assert not RateState.objects.exists()


class TestPlan:
    @pytest.fixture
    def client(self, now):
        factories.make_plan("free", at=now, statics={"search_per_minute": 2})
        return factories.client_for(factories.make_user(at=now))

    def test_limits_the_whole_api_where_it_is_told_to(self, client, settings):
        settings.RATE_LIMIT_PLAN_FEATURE = "search_per_minute"
        answers = [client.get(ME) for _ in range(3)]
        assert [each.status_code for each in answers] == [200, 200, 429]
        assert answers[0]["RateLimit-Policy"] == '"search_per_minute";q=2;w=60'

    def test_and_user_are_taken_together_or_not_at_all(self, client, settings):
        settings.RATE_LIMIT_PLAN_FEATURE = "search_per_minute"
        settings.RATE_LIMIT_USER = "5/3600"
        for _ in range(3):
            answer = client.get(ME)
        assert answer.status_code == 429
        assert '"user-3600s";r=3;' in answer["RateLimit"]

    def test_without_the_feature_does_not_limit(self, client, settings):
        settings.RATE_LIMIT_PLAN_FEATURE = "nothing_of_the_kind"
        assert [client.get(ME).status_code for _ in range(4)] == [200] * 4

    def test_limits_a_view_by_a_throttle_of_its_own(self, client):
        class Search(APIView):
            throttle_classes = (EntitlementThrottle("search_per_minute"),)

            def get(self, request):
                return Response({})

        def ask():
            header = client._credentials["HTTP_AUTHORIZATION"]
            request = APIRequestFactory().get("/search/", HTTP_AUTHORIZATION=header)
            return Search.as_view()(request).status_code

        assert [ask() for _ in range(3)] == [200, 200, 429]


class TestSetting:
    @pytest.mark.parametrize("text", ["x", "10", "10/0", "0/10", "10/60;5/1", "-1/60"])
    def test_that_is_no_limit_is_refused(self, text):
        with pytest.raises(ValueError, match="requests/seconds"):
            limits.parsed("user", text)

    def test_is_read_as_several(self):
        found = limits.parsed("user", "100/60  5/3600")
        assert [(each.requests, each.seconds) for each in found] == [(100, 60), (5, 3600)]


class TestStore:
    def test_of_marks_is_emptied_of_what_the_clock_passed(self, now):
        limit = limits.parsed("x", "2/60")[0]
        with clock.overridden(factories.standing(now)):
            rates.DatabaseStore().take([rates.limited(limit, caller="a")])
        assert rates.prune(clock=factories.standing(now + timedelta(seconds=29))) == 0
        assert rates.prune(clock=factories.standing(now + timedelta(seconds=31))) == 1

    def test_of_a_process_forgets_whom_it_saw_longest_ago(self):
        limit = limits.parsed("x", "1/3600")[0]
        store = rates.LocalStore()
        with mock.patch.object(rates, "LOCAL_KEYS_MAX", 2):
            for caller in ("a", "b", "c"):
                assert store.take([rates.limited(limit, caller=caller)]).is_allowed
        assert store.take([rates.limited(limit, caller="a")]).is_allowed
        assert not store.take([rates.limited(limit, caller="c")]).is_allowed
