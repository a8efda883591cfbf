"""Send events over HTTP in the three forms of CloudEvents: counted once, or refused."""

import json
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from rest_framework.test import APIClient

from core import db
from core.models import Customer
from metering.models import MeterEvent
from metering.services import ingest, meters
from metering.services.meters import Definition
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/events/"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "idempotency.json").read_text(encoding="utf-8")
)


@pytest.fixture
def customer(at) -> Customer:
    return factories.make_customer(at=at, name="acme")


@pytest.fixture(autouse=True)
def _meter(at, standing_clock) -> None:
    definition = Definition(
        key="tokens",
        event_type="used",
        aggregation="sum",
        value_path="$.n",
        group_by={"region": "$.region"},
        late_horizon_seconds=3600,
    )
    meters.define(definition, clock=standing_clock)


@pytest.fixture
def client(customer) -> APIClient:
    return factories.service_client()


def event(event_id="e1", **attributes):
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/shop",
        "type": "used",
        "subject": "acme",
        "data": {"n": 5, "region": "eu"},
    } | attributes


def send(client, body, content_type=BATCH, **headers):
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return client.post(URL, raw, content_type=content_type, **headers)


def results(answer):
    assert answer.status_code == 200, answer.content
    return [
        each["result"] if "code" not in each else each["code"] for each in answer.json()["results"]
    ]


def stored() -> list[tuple]:
    return list(MeterEvent.objects.order_by("position").values_list("event_id", "value"))


class TestBatch:
    def test_counts_each_event_once_and_tells_what_became_of_each(self, client, customer, at):
        batch = [
            event("e1"),
            event("e1"),
            event("e2", source="/other", time="2026-03-10T11:30:00+01:00"),
            event("e3", type="unknown"),
            event("e4", time="2026-03-10T10:59:59Z"),
            event("e5", time="2026-03-10T12:05:01Z"),
            event("e6", subject="nobody"),
            event("e7", data={"n": 1.5}),
            event("e8", time="2026-03-10T12:00:00"),
            "no object",
            event(7),
            event("e2"),
        ]
        batch[2]["time"] = "2026-03-10T12:30:00+01:00"

        answer = send(client, batch)

        assert answer.json()["results"] == [
            {"index": 0, "id": "e1", "result": "counted"},
            {"index": 1, "id": "e1", "result": "duplicate"},
            {"index": 2, "id": "e2", "result": "counted"},
            {"index": 3, "id": "e3", "result": "refused", "code": "meter_unknown"},
            {"index": 4, "id": "e4", "result": "refused", "code": "event_too_old"},
            {"index": 5, "id": "e5", "result": "refused", "code": "event_in_future"},
            {"index": 6, "id": "e6", "result": "refused", "code": "not_found"},
            {"index": 7, "id": "e7", "result": "refused", "code": "invalid"},
            {"index": 8, "id": "e8", "result": "refused", "code": "naive_datetime"},
            {"index": 9, "id": None, "result": "refused", "code": "malformed_request"},
            {"index": 10, "id": None, "result": "refused", "code": "invalid"},
            {"index": 11, "id": "e2", "result": "counted"},
        ]
        rows = MeterEvent.objects.order_by("position").values_list(
            "event_id", "source", "value", "groups", "occurred_at", "received_at"
        )
        assert list(rows) == [
            ("e1", "/shop", 5, {"region": "eu"}, at, at),
            ("e2", "/other", 5, {"region": "eu"}, at - timedelta(minutes=30), at),
            ("e2", "/shop", 5, {"region": "eu"}, at, at),
        ]

    def test_counts_as_the_vector_says(self, client):
        (vector,) = [each for each in VECTORS["scenarios"] if each["id"] == "ID14"]
        (step,) = vector["steps"]
        batch = [event(each["id"], data={"n": each["n"]}) for each in step["batch"]]
        assert results(send(client, batch)) == step["expect"]["results"]
        assert MeterEvent.objects.count() == vector["expected_effects"]

    def test_answers_a_repeated_batch_with_duplicates_and_changes_nothing(self, client):
        batch = [event(f"e{number}") for number in range(50)]
        assert results(send(client, batch)) == ["counted"] * 50
        before = stored()
        assert results(send(client, batch)) == ["duplicate"] * 50
        assert stored() == before

    def test_tells_duplicate_of_what_was_counted_and_is_too_old_by_now(self, client, at):
        send(client, [event(time="2026-03-10T11:00:00Z")])
        with factories.clock.overridden(factories.standing(at + timedelta(hours=1))):
            again = send(
                client,
                [event(time="2026-03-10T11:00:00Z"), event("e2", time="2026-03-10T11:00:00Z")],
            )
        assert results(again) == ["duplicate", "event_too_old"]
        assert stored() == [("e1", 5)]

    def test_takes_the_edges_of_the_time_that_it_accepts(self, client):
        edges = [
            event("e1", time="2026-03-10T11:00:00Z"),
            event("e2", time="2026-03-10T12:05:00Z"),
            event("e3", time="2026-03-10T10:59:59.999999Z"),
            event("e4", time="2026-03-10T12:05:00.000001Z"),
        ]
        assert results(send(client, edges)) == [
            "counted",
            "counted",
            "event_too_old",
            "event_in_future",
        ]

    def test_counts_the_valid_twin_of_a_refused_event(self, client):
        twins = [event(data={}), event()]
        assert results(send(client, twins)) == ["invalid", "counted"]
        assert stored() == [("e1", 5)]

    def test_reads_one_event_by_every_meter_of_its_type_and_claims_it_once(self, client, at):
        for key, filters in (("calls", {}), ("eu_calls", {"$.region": ["eu"]})):
            definition = Definition(
                key=key,
                event_type="used",
                aggregation="count",
                filters=filters,
                late_horizon_seconds=3600,
            )
            meters.define(definition, clock=factories.standing(at))
        batch = [event("e1"), event("e2", data={"n": 1, "region": "us"}), event("e1")]

        assert results(send(client, batch)) == ["counted", "counted", "duplicate"]
        assert results(send(client, batch)) == ["duplicate"] * 3

        rows = MeterEvent.objects.order_by("position", "item")
        assert list(rows.values_list("event_id", "item", "meter__key", "value")) == [
            ("e1", 0, "tokens", 5),
            ("e1", 1, "calls", None),
            ("e1", 2, "eu_calls", None),
            ("e2", 0, "tokens", 1),
            ("e2", 1, "calls", None),
        ]

    def test_claims_an_event_that_no_filter_matches(self, client, at):
        definition = Definition(
            key="paid", event_type="paid", aggregation="count", filters={"$.ok": [True]}
        )
        meters.define(definition, clock=factories.standing(at))
        given = [event(type="paid", data={"ok": 1})]
        assert results(send(client, given)) == ["counted"]
        assert results(send(client, given)) == ["duplicate"]
        assert list(MeterEvent.objects.values_list("item", "meter")) == [(0, None)]

    def test_counts_no_more_by_an_archived_meter(self, client, at):
        meters.archive(meter_id=meters.Meter.objects.get().pk, clock=factories.standing(at))
        assert results(send(client, [event()])) == ["meter_unknown"]
        assert stored() == []

    def test_takes_ten_thousand_events_and_not_one_more(self, client):
        batch = [event(f"e{number}") for number in range(ingest.EVENTS_MAX + 1)]
        refused = send(client, batch)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
        assert refused.json()["errors"][0]["code"] == "max_length"
        assert stored() == []

        assert results(send(client, batch[1:])) == ["counted"] * ingest.EVENTS_MAX
        assert MeterEvent.objects.count() == ingest.EVENTS_MAX

    def test_takes_an_empty_batch(self, client):
        assert results(send(client, [])) == []

    @pytest.mark.parametrize("name", ["acme", "id"])
    def test_names_the_customer_by_external_key_or_id(self, client, customer, name):
        named = "acme" if name == "acme" else str(customer.pk)
        assert results(send(client, [event(subject=named)])) == ["counted"]
        assert MeterEvent.objects.get().customer == customer

    def test_of_many_customers_goes_to_each_its_own(self, client, at):
        others = [factories.make_customer(at=at) for _ in range(5)]
        batch = [event(subject=each.external_key) for each in others]
        assert results(send(client, batch)) == ["counted"] * 5
        assert {row.customer_id for row in MeterEvent.objects.all()} == {each.pk for each in others}

    def test_asks_the_database_as_often_for_many_as_for_one(
        self, client, django_assert_num_queries
    ):
        for number, size in enumerate((1, 80)):
            batch = [event(f"{number}-{each}") for each in range(size)]
            with django_assert_num_queries(self.queries()):
                assert results(send(client, batch)) == ["counted"] * size

    def queries(self) -> int:
        """Key, customers, meters, test clocks, and the claim; SQLite looks first."""
        return 7 if db.is_postgres() else 8


class TestStructured:
    def test_counts_one_event(self, client):
        answer = send(client, event(), STRUCTURED + "; charset=UTF-8")
        assert answer.json() == {"results": [{"index": 0, "id": "e1", "result": "counted"}]}
        assert results(send(client, event(), STRUCTURED)) == ["duplicate"]
        assert stored() == [("e1", 5)]

    @pytest.mark.parametrize(
        ("wrong", "status", "code", "pointer"),
        [
            ({"specversion": "0.3"}, 422, "invalid", "/specversion"),
            ({"specversion": None}, 422, "invalid", "/specversion"),
            ({"id": None}, 422, "invalid", "/id"),
            ({"id": ""}, 422, "invalid", "/id"),
            ({"id": 7}, 422, "invalid", "/id"),
            ({"id": "a" * 256}, 422, "invalid", "/id"),
            ({"id": "a\x00"}, 422, "invalid", "/id"),
            ({"id": "a\n"}, 422, "invalid", "/id"),
            ({"source": None}, 422, "invalid", "/source"),
            ({"source": "a b"}, 422, "invalid", "/source"),
            ({"type": None}, 422, "invalid", "/type"),
            ({"subject": ""}, 422, "invalid", "/subject"),
            ({"subject": None}, 422, "invalid", "/subject"),
            ({"time": "yesterday"}, 422, "invalid", "/time"),
            ({"time": 1}, 422, "invalid", "/time"),
            ({"time": "2026-02-30T00:00:00Z"}, 422, "invalid", "/time"),
            ({"time": "2026-03-10T12:00:00"}, 400, "naive_datetime", None),
            ({"data_base64": "AAAA"}, 422, "invalid", "/data_base64"),
            ({"datacontenttype": "text/xml"}, 422, "invalid", "/datacontenttype"),
            ({"dataschema": 1}, 422, "invalid", "/dataschema"),
            ({"Big": 1}, 422, "invalid", "/Big"),
            ({"my/x": 1}, 422, "invalid", "/my~1x"),
            ({"nested": {"a": 1}}, 422, "invalid", "/nested"),
            ({f"x{number}": 1 for number in range(51)}, 422, "invalid", "/"),
            ({"data": None}, 422, "invalid", "/data"),
            ({"data": {"n": "5"}}, 422, "invalid", "/data"),
            ({"data": {"n": 5, "region": {}}}, 422, "invalid", "/data"),
            ({"time": "2026-03-10T10:00:00Z"}, 422, "event_too_old", None),
            ({"time": "2026-03-10T13:00:00Z"}, 422, "event_in_future", None),
            ({"type": "unknown"}, 404, "meter_unknown", None),
            ({"subject": "nobody"}, 404, "not_found", None),
        ],
    )
    def test_answers_the_refusal_of_an_event_and_counts_nothing(
        self, client, wrong, status, code, pointer
    ):
        refused = send(client, event(**wrong), STRUCTURED)
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (status, code)
        assert refused["Content-Type"] == "application/problem+json"
        if pointer:
            assert problem["errors"][0]["pointer"] == pointer
        assert stored() == []

    def test_ignores_what_cloudevents_allows_beside_its_attributes(self, client):
        allowed = event(
            traceparent="00-ab", sampled=True, weight=1, gone=None, dataschema="https://x.example"
        )
        assert results(send(client, allowed, STRUCTURED)) == ["counted"]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"1",
            b'{"a":',
            b'{"specversion": NaN}',
            b"\xff",
            b'{"id": "\\ud800"}',
            b"[" * 100_000 + b"]" * 100_000,
        ],
    )
    def test_refuses_a_body_of_another_shape(self, client, body):
        refused = send(client, body, STRUCTURED)
        assert refused.status_code in {400, 422}
        assert stored() == []

    def test_refuses_a_body_beyond_its_bound_and_takes_a_batch_beyond_it(self, client, settings):
        large = event(data={"n": 1, "filling": "x" * 1_100_000})
        refused = send(client, large, STRUCTURED)
        assert (refused.status_code, refused.json()["code"]) == (413, "payload_too_large")
        assert stored() == []
        assert results(send(client, [large])) == ["counted"]

    def test_refuses_a_batch_beyond_its_own_bound(self, client, settings):
        engine = settings.ENGINE
        settings.ENGINE = type(engine)(**{**vars(engine), "event_batch_bytes_max": 100})
        refused = send(client, [event()])
        assert (refused.status_code, refused.json()["code"]) == (413, "payload_too_large")
        assert stored() == []


class TestBinary:
    HEADERS = {
        "HTTP_CE_SPECVERSION": "1.0",
        "HTTP_CE_ID": "e1",
        "HTTP_CE_SOURCE": "/shop",
        "HTTP_CE_TYPE": "used",
        "HTTP_CE_SUBJECT": "acme",
    }

    def test_counts_an_event_of_headers_and_body(self, client):
        answer = send(client, {"n": 7}, "application/json", **self.HEADERS)
        assert answer.json() == {"results": [{"index": 0, "id": "e1", "result": "counted"}]}
        assert stored() == [("e1", 7)]

    def test_reads_percent_encoded_headers(self, client, at):
        factories.make_customer(at=at, name="Käse & Co")
        encoded = self.HEADERS | {"HTTP_CE_SUBJECT": "K%C3%A4se%20&%20Co"}
        assert results(send(client, {"n": 7}, "application/json", **encoded)) == ["counted"]

    @pytest.mark.parametrize("missing", ["SPECVERSION", "ID", "SOURCE", "TYPE"])
    def test_refuses_missing_headers(self, client, missing):
        headers = {name: value for name, value in self.HEADERS.items() if missing not in name}
        refused = send(client, {"n": 7}, "application/json", **headers)
        assert (refused.status_code, refused.json()["code"]) == (400, "malformed_request")
        assert f"ce-{missing.lower()}" in refused.json()["detail"]
        assert stored() == []

    @pytest.mark.parametrize(
        "wrong",
        [
            {"HTTP_CE_DATACONTENTTYPE": "application/json"},
            {"HTTP_CE_DATA": "1"},
            {"HTTP_CE_ID": "%FF"},
        ],
    )
    def test_refuses_headers_that_binary_mode_does_not_have(self, client, wrong):
        refused = send(client, {"n": 7}, "application/json", **(self.HEADERS | wrong))
        assert (refused.status_code, refused.json()["code"]) == (400, "malformed_request")
        assert stored() == []

    def test_refuses_another_version_and_another_media_type(self, client):
        wrong = self.HEADERS | {"HTTP_CE_SPECVERSION": "0.3"}
        assert send(client, {"n": 7}, "application/json", **wrong).status_code == 422
        assert send(client, b"n=7", "text/plain", **self.HEADERS).status_code == 415
        assert stored() == []


class TestWhose:
    @pytest.fixture
    def user(self, at):
        return factories.make_user(at=at, username="alice")

    def test_is_a_users_own_customer_where_none_is_named(self, user):
        own = factories.customer_of(user)
        unnamed = event(subject=None)
        assert results(send(factories.client_for(user), unnamed, STRUCTURED)) == ["counted"]
        assert MeterEvent.objects.get().customer == own

    def test_is_never_another_customer(self, user, customer):
        client = factories.client_for(user)
        own = factories.customer_of(user)
        batch = [
            event("e1", subject=own.external_key),
            event("e2", subject=str(own.pk)),
            event("e3"),
            event("e4", subject=str(customer.pk)),
        ]
        assert results(send(client, batch)) == ["counted", "counted", "not_found", "not_found"]
        assert {row.customer for row in MeterEvent.objects.all()} == {own}

    def test_must_be_named_by_a_user_of_several(self, user, customer):
        factories.Member.objects.create(user=user, customer=customer, role="member")
        client = factories.client_for(user)
        batch = [event("e1", subject=None), event("e2")]
        assert results(send(client, batch)) == ["invalid", "counted"]
        assert MeterEvent.objects.get().customer == customer

    def test_needs_the_scope(self, customer):
        client = factories.service_client(scopes=("usage:write",))
        refused = send(client, [event()])
        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
        assert stored() == []

    def test_is_nobodys_without_a_credential(self, customer):
        assert send(APIClient(), [event()]).status_code == 401
        assert stored() == []
