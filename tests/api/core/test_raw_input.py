"""Raw, hostile input: answered by a 4xx problem within a second, and nothing changes."""

import time

import pytest
from django.test import Client

from core import clock
from core.models import AuditEntry, RefreshToken
from metering.models import UsageEntry
from tests import factories

pytestmark = pytest.mark.django_db
SECONDS_MAX = 1.0
CONSUME, LOGIN = "/api/usage/consume/", "/api/token/"
BODIES = {
    "100,000 deep in lists": b"[" * 100_000,
    "100,000 deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "100,000 deep in objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "10 MB": b'{"feature": "' + b"a" * 10_000_000 + b'"}',
    "broken UTF-8": b'{"feature": "\xff\xfe", "units": 1}',
    "overlong UTF-8": b'{"feature": "\xc0\xaf", "units": 1}',
    "NUL in a text": b'{"feature": "a\\u0000b", "units": 1}',
    "raw NUL": b'{"feature": "a\x00b", "units": 1}',
    "lone surrogate": b'{"feature": "\\ud800", "units": 1}',
    "lone surrogate in a name": b'{"\\udfff": 1}',
    "2^63": b'{"feature": "api_calls", "units": 9223372036854775808}',
    "a thousand digits": b'{"feature": "api_calls", "units": ' + b"9" * 1000 + b"}",
    "a million digits": b'{"feature": "api_calls", "units": ' + b"9" * 1_000_000 + b"}",
    "NaN": b'{"feature": "api_calls", "units": NaN}',
    "Infinity": b'{"feature": "api_calls", "units": -Infinity}',
    "1e400": b'{"feature": "api_calls", "units": 1e400}',
    "exponent": b'{"feature": "api_calls", "units": 1e3}',
    "negative zero": b'{"feature": "api_calls", "units": -0}',
    "boolean": b'{"feature": "api_calls", "units": true}',
    "no object": b'"text"',
    "null": b"null",
    "two values": b"{} {}",
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"feature": "api_calls", "units": 1}'.encode("utf-16"),
    "prototype": b'{"__proto__": {"is_staff": true}, "constructor": 1}',
    "a path into the ORM": b'{"feature__plan_group__key": "main", "units": 1}',
    "100,000 names": b"{" + b",".join(b'"k%d":1' % n for n in range(80_000)) + b"}",
}
HEADERS = {
    "many": {f"X-Flood-{n}": "x" * 100 for n in range(2000)},
    "long": {"X-Flood": "x" * 1_000_000},
    "a long token": {"Authorization": "Bearer " + "a" * 1_000_000},
    "a token of dots": {"Authorization": "Bearer " + "." * 100_000},
    "a long service key": {"Authorization": "Api-Key " + "a." * 500_000},
    "no scheme": {"Authorization": "\x00\x01"},
    "a long forwarding list": {"X-Forwarded-For": "1.2.3.4, " * 50_000},
    "a long cookie": {"Cookie": "a=b; " * 100_000},
    "ranges of ETags": {"If-None-Match": '"x", ' * 100_000},
}


@pytest.fixture
def authorization():
    now = clock.DatabaseClock().now()
    factories.make_plan("free", at=now)
    client = factories.client_for(factories.make_user(at=now))
    return client._credentials["HTTP_AUTHORIZATION"]


def state() -> list[int]:
    return [each.objects.count() for each in (UsageEntry, RefreshToken, AuditEntry)]


def sent(path, body, **headers):
    """Return the answer and the seconds that it took."""
    started = time.perf_counter()
    client = Client(raise_request_exception=False)
    answer = client.post(path, body, content_type="application/json", headers=headers)
    return answer, time.perf_counter() - started


class TestBody:
    @pytest.mark.parametrize("name", BODIES)
    @pytest.mark.parametrize("path", [CONSUME, LOGIN])
    def test_is_refused_at_once(self, authorization, path, name):
        before = state()
        headers = {"Authorization": authorization, "Idempotency-Key": "k"}
        answer, seconds = sent(path, BODIES[name], **headers)
        assert 400 <= answer.status_code < 500, answer.content[:200]
        assert answer["Content-Type"] == "application/problem+json"
        assert seconds < SECONDS_MAX
        assert state() == before

    @pytest.mark.parametrize(
        "content_type",
        ["text/plain", "application/xml", "multipart/form-data; boundary=x", "", "a" * 10_000],
    )
    def test_of_another_type_is_refused(self, authorization, content_type):
        client = Client(raise_request_exception=False)
        answer = client.generic(
            "POST", CONSUME, b"{}", content_type, headers={"Authorization": authorization}
        )
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


class TestHeaders:
    @pytest.mark.parametrize("name", HEADERS)
    def test_are_answered_at_once(self, authorization, name):
        before = state()
        headers = {"Authorization": authorization} | HEADERS[name]
        answer, seconds = sent(CONSUME, b"{}", **headers)
        assert 400 <= answer.status_code < 500, answer.content[:200]
        assert seconds < SECONDS_MAX
        assert state() == before

    @pytest.mark.parametrize("key", ["", " ", "a" * 256, "ü", "a b", "\x7f"])
    def test_of_idempotency_are_read_strictly(self, authorization, key):
        before = state()
        body = b'{"feature": "api_calls", "units": 1}'
        headers = {"Authorization": authorization, "Idempotency-Key": key}
        answer, _ = sent(CONSUME, body, **headers)
        assert answer.status_code == 400
        assert state() == before


class TestPath:
    @pytest.mark.parametrize(
        "path",
        [
            "/api/" + "a" * 100_000 + "/",
            "/api/plans/%00/",
            "/api/plans/..%2f..%2fetc/",
            "/api/entitlements/%ff%fe/",
            "/api/usage/entries/?limit=99999999999999999999",
            "/api/usage/entries/?cursor=%ff",
            "/api/usage/entries/?" + "&".join(f"a{n}=1" for n in range(5000)),
            "/api/subscriptions/me/?customer=' OR 1=1 --",
        ],
    )
    def test_that_is_odd_is_no_fault_of_ours(self, authorization, path):
        started = time.perf_counter()
        client = Client(raise_request_exception=False)
        answer = client.get(path, headers={"Authorization": authorization})
        assert 400 <= answer.status_code < 500, answer.content[:200]
        assert answer["Content-Type"] == "application/problem+json"
        assert time.perf_counter() - started < SECONDS_MAX
