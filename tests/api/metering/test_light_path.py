"""Consuming asks less than other operations, and answers no differently."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import errors, memory
from core.api import authentication
from core.api.serializers import read
from core.models import ServiceKey, User
from metering.api import serializers as shapes
from metering.models import UsageEntry
from tests import factories

STARTED = datetime(2026, 3, 1, tzinfo=UTC)
URL = "/api/usage/consume/"
ASKED = {"feature": "api_calls", "units": 1}
TEXTS = st.sampled_from(
    ["api_calls", "", " ", "a" * 100, "a" * 101, "é", "a\x00", "\ud800", 7, None]
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "feature": TEXTS,
        "units": st.sampled_from([1, 0, -1, 10**12, 10**12 + 1, True, "1", 1.0, None]),
        "customer": TEXTS,
        "entity": TEXTS,
        "metadata": st.sampled_from([{}, {"a": [1, None]}, {"a": "x" * 2048}, [], None, "x"]),
        "items": st.sampled_from([[], [ASKED], [{"feature": "api_calls", "units": 0}]]),
        "plan": st.just("pro"),
    },
)


def outcome(read_body, data: Any) -> object:
    try:
        return read_body(SimpleNamespace(data=data))
    except errors.DomainError as error:
        return (error.code, error.detail, error.facts())


@given(data=st.one_of(BODIES, st.sampled_from([[], "x", 1, None])))
def test_a_plain_body_is_read_as_the_serializer_reads_it(data):
    by_serializer = outcome(lambda request: read(shapes.UsageSerializer, request), data)
    assert outcome(shapes.read_usage, data) == by_serializer


@pytest.fixture
def user(db, standing_clock) -> User:
    factories.make_plan("free", at=STARTED, limits={"api_calls": 100})
    return factories.make_user(at=STARTED)


@pytest.fixture
def client(user):
    return factories.client_for(user)


_keys = iter(range(1000))


def consume(client) -> int:
    key = f"key{next(_keys)}"
    return client.post(URL, ASKED, format="json", HTTP_IDEMPOTENCY_KEY=key).status_code


def later(monkeypatch, *, seconds: float) -> None:
    now = memory.time.monotonic()
    monkeypatch.setattr(memory.time, "monotonic", lambda: now + seconds)


class TestKnownCallers:
    def test_takes_a_caller_as_known_and_asks_again_after_five_seconds(
        self, client, user, monkeypatch
    ):
        assert consume(client) == 200
        User.objects.filter(pk=user.pk).update(is_active=False)
        assert consume(client) == 200
        later(monkeypatch, seconds=5)
        assert consume(client) == 401
        assert UsageEntry.objects.count() == 2

    def test_asks_each_time_where_it_is_told_so(self, client, user, settings):
        settings.ENGINE = replace(settings.ENGINE, identity_seconds=0)
        assert consume(client) == 200
        User.objects.filter(pk=user.pk).update(is_active=False)
        assert consume(client) == 401
        assert UsageEntry.objects.count() == 1

    def test_knows_nobody_beyond_his_credentials_own_end(self, user, monkeypatch, at):
        identity = authentication.Identity(user=user, expires_at=at + timedelta(seconds=2))
        monkeypatch.setattr(authentication.clock, "host_now", lambda: at)
        assert authentication._seconds_known(identity) == 2
        endless = authentication.Identity(user=user)
        assert authentication._seconds_known(endless) == 5

    def test_a_revoked_service_key_is_refused_after_five_seconds(self, user, monkeypatch):
        client = factories.service_client()
        customer = factories.customer_of(user)
        body = ASKED | {"customer": customer.external_key}

        def ask(key: str) -> int:
            headers = {"HTTP_IDEMPOTENCY_KEY": key}
            return client.post(URL, body, format="json", **headers).status_code

        assert ask("one") == 200
        ServiceKey.objects.update(revoked_at=STARTED)
        assert ask("two") == 200
        later(monkeypatch, seconds=5)
        assert ask("three") == 401
        assert UsageEntry.objects.count() == 2

    def test_other_operations_refuse_at_once(self, client, user):
        assert consume(client) == 200
        User.objects.filter(pk=user.pk).update(is_active=False)
        assert client.get("/api/entitlements/").status_code == 401


class TestLightEntrance:
    """A light request passes by what serves browsers alone; its answer has every header."""

    def test_answers_with_the_headers_of_any_other(self, client):
        light = client.get("/api/entitlements/").headers
        other = client.get("/api/plans/").headers
        assert set(other) - {"ETag"} <= set(light)
