"""`manage.py replay`: JSON in, JSON out, nothing else, and no database."""

import io
import json
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

TIMELINE = {
    "measure_from": "2024-01-01T00:00:00Z",
    "grants": [{"id": "g1", "amount": 100, "effective_at": "2024-01-01T00:00:00Z"}],
    "usage": [{"id": "u1", "at": "2024-01-01T10:00:00Z", "value": 60}],
    "queries": [{"at": "2024-01-02T00:00:00Z"}],
}


@pytest.fixture
def answer(monkeypatch):
    """Return what the command writes for some bytes."""

    def run(given: bytes) -> object:
        stdin = SimpleNamespace(buffer=io.BytesIO(given))
        monkeypatch.setattr("sys.stdin", stdin)
        out = io.StringIO()
        try:
            call_command("replay", stdout=out)
        finally:
            run.written = json.loads(out.getvalue())
        return run.written

    return run


class TestReplayCommand:
    def test_answers_one_timeline_by_its_states(self, answer):
        states = answer(json.dumps(TIMELINE).encode())
        assert states == [
            {
                "at": "2024-01-02T00:00:00Z",
                "balances": {"g1": 40},
                "balance": 40,
                "overage": 0,
                "usage_in_period": 60,
                "grant_used_in_period": 60,
                "granted_in_period": 100,
                "period": {"starts_at": "2024-01-01T00:00:00Z", "ends_at": None},
                "has_access": True,
            }
        ]

    def test_answers_a_list_by_a_list_and_a_wrong_timeline_by_its_error(self, answer):
        wrong = TIMELINE | {"colour": "red"}
        first, second, third, fourth = answer(json.dumps([TIMELINE, wrong, 5, TIMELINE]).encode())
        assert first == fourth
        assert first[0]["balance"] == 40
        assert second == {"error": {"code": "unknown_field", "detail": "/colour is not known."}}
        assert third["error"]["code"] == "malformed_request"

    def test_answers_no_timelines_by_an_empty_list(self, answer):
        assert answer(b"[]") == []

    @pytest.mark.parametrize(
        "given",
        [b"", b"{", b'{"measure_from": NaN}', b"\xff\xfe\x00", b"[" * 100_000, b"1" * 5000],
        ids=["nothing", "broken", "NaN", "no UTF-8", "too deep", "too long a number"],
    )
    def test_fails_for_what_is_no_json(self, answer, given):
        with pytest.raises(CommandError, match="not JSON"):
            answer(given)
        assert answer.written["error"]["code"] == "malformed_request"

    def test_asks_no_database(self, answer, django_db_blocker):
        with django_db_blocker.block():
            assert answer(json.dumps(TIMELINE).encode())[0]["balance"] == 40
