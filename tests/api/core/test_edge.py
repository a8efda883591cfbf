"""What stands around every answer: headers, bounds, the log, the metrics."""

import io
import json
import logging
import re

import pytest
from django.test import Client
from rest_framework.test import APIClient

from core import clock, logs, metrics
from core.api import json as own_json

pytestmark = pytest.mark.django_db
PAGES = ["/", "/api/docs/", "/api/redoc/", "/docs/errors/not_found"]


class TestHeaders:
    def test_of_an_answer_let_it_do_nothing_in_a_browser(self):
        answer = APIClient().get("/api/plans/")
        assert answer["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer["Referrer-Policy"] == "same-origin"
        assert answer["X-Frame-Options"] == "DENY"

    @pytest.mark.parametrize("path", PAGES)
    def test_of_a_page_forbid_inline_script_and_the_page_has_none(self, path):
        answer = Client().get(path)
        assert "script-src 'self';" in answer["Content-Security-Policy"]
        assert re.findall(rb"<script(?![^>]*\bsrc=)[^>]*>", answer.content) == []
        assert re.findall(rb"\son[a-z]+=", answer.content) == []

    def test_of_the_admin_alone_allow_inline_script(self):
        policy = Client().get("/admin/login/")["Content-Security-Policy"]
        assert "'unsafe-inline' 'unsafe-eval'" in policy

    def test_let_a_listed_origin_call_and_read_ours(self, settings):
        settings.CORS_ALLOWED_ORIGINS = ["https://app.example.com"]
        answer = Client().get("/api/plans/", headers={"Origin": "https://app.example.com"})
        assert answer["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert "RateLimit" in answer["Access-Control-Expose-Headers"]
        other = Client().get("/api/plans/", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other


class TestBodies:
    def nested(self, depth) -> str:
        return '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)

    @pytest.mark.parametrize(
        ("depth", "code"), [(own_json.DEPTH_MAX, "unknown_field"), (33, "malformed_request")]
    )
    def test_are_read_to_a_depth(self, depth, code):
        answer = Client().post("/api/token/", self.nested(depth), content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (400, code)

    def test_that_are_wide_are_not_deep(self):
        body = json.dumps({"a": [{} for _ in range(1000)]})
        answer = Client().post("/api/token/", body, content_type="application/json")
        assert answer.json()["code"] == "unknown_field"


class TestLog:
    @pytest.fixture
    def lines(self):
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        configured = logs.configuration(as_json=True)["formatters"]["line"]
        handler.setFormatter(configured.pop("()")(**configured))
        root, requests = logging.getLogger(), logging.getLogger(logs.REQUESTS)
        written = logging.StreamHandler(stream)
        root.addHandler(handler)
        requests.addHandler(written)
        requests.propagate = False
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
        requests.propagate = True
        requests.removeHandler(written)
        root.removeHandler(handler)
        logs.configuration(as_json=False)

    def test_has_one_line_a_request_with_its_id(self, lines):
        Client().get("/api/plans/?x=secret-in-query", headers={"X-Request-Id": "req-7"})
        line = next(each for each in lines() if each["event"] == "request")
        assert (line["request_id"], line["method"], line["path"]) == ("req-7", "GET", "/api/plans/")
        assert (line["route"], line["status"]) == ("api/plans/", 400)
        assert "secret-in-query" not in json.dumps(lines())

    def test_blots_out_a_secret_in_the_path(self, lines):
        Client().get("/api/plans/eyJhbGciOiJI.abc.def/")
        assert "eyJhbGciOiJI" not in json.dumps(lines())

    def test_is_quiet_about_health(self, lines):
        Client().get("/livez")
        assert lines() == []

    def test_blots_out_secrets_of_any_logger(self, lines):
        logging.getLogger("other").warning("got Bearer abc.def", extra={"password": "pw-1"})
        try:
            {}["Api-Key p.s3cret"]
        except KeyError:
            logging.getLogger("other").exception("failed")
        text = json.dumps(lines())
        assert "abc.def" not in text
        assert "pw-1" not in text
        assert "s3cret" not in text
        assert "[redacted]" in text
        assert "KeyError" in text


class TestMetrics:
    TOKEN = "a-token-of-sufficient-length"

    def test_are_not_there_without_a_token(self):
        assert Client().get("/metrics").status_code == 404

    def test_are_shown_to_the_token_alone(self, settings):
        settings.METRICS_TOKEN = self.TOKEN
        for given in ("", "Bearer x", self.TOKEN, "Bearer \u00fc"):
            answer = Client().get("/metrics", headers={"Authorization": given})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")

    def test_count_requests_problems_and_what_waits(self, settings):
        settings.METRICS_TOKEN = self.TOKEN
        Client().get("/api/users/me/")
        answer = Client().get("/metrics", headers={"Authorization": f"Bearer {self.TOKEN}"})
        text = answer.content.decode()
        assert re.search(
            r'engine_requests_total{method="GET",route="api/users/me/",status="401"} [1-9]', text
        )
        assert re.search(r'engine_problems_total{code="unauthenticated"} [1-9]', text)
        assert "engine_mail_lag_seconds 0.0" in text
        assert "engine_outbox_events" in text

    def test_are_gathered_from_all_processes(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
        assert b"engine_mail_lag_seconds" in metrics.exposition()

    def test_name_no_method_that_a_caller_made_up(self):
        Client().generic("BREW", "/api/plans/")
        Client().generic("STEAL", "/api/plans/")
        samples = [sample for each in metrics.REQUESTS.collect() for sample in each.samples]
        assert "OTHER" in {each.labels["method"] for each in samples}
        assert not {"BREW", "STEAL"} & {each.labels["method"] for each in samples}


def test_the_hosts_clock_is_told_for_comparison():
    assert abs(clock.host_now() - clock.DatabaseClock().now()).total_seconds() < 60
