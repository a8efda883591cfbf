"""Ask meters over HTTP: figures by window and group, and whose they are."""

import pytest
from rest_framework.test import APIClient

from metering.models import Meter
from metering.services import ingest, meters
from metering.services.arrivals import Event
from metering.services.meters import Definition
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/meters/"
SPAN = {"from": "2026-03-09T00:00:00Z", "to": "2026-03-11T00:00:00Z"}


@pytest.fixture
def customer(at):
    return factories.make_customer(at=at, name="acme", time_zone="Europe/Berlin")


@pytest.fixture(autouse=True)
def _tokens(at, standing_clock, customer) -> None:
    definition = Definition(
        key="tokens",
        name="Tokens",
        event_type="used",
        aggregation="sum",
        value_path="$.n",
        is_decimal=True,
        group_by={"region": "$.region"},
    )
    meters.define(definition, clock=standing_clock)
    events = [
        Event(
            customer_id=customer.pk,
            source="/s",
            event_id=f"e{number}",
            event_type="used",
            occurred_at=at.replace(day=day, hour=hour),
            data={"n": value, "region": region},
        )
        for number, (day, hour, value, region) in enumerate(
            [(9, 22, "1.5", "eu"), (9, 23, 2, "eu"), (10, 1, 4, "us"), (10, 2, "0.25", None)]
        )
    ]
    ingest.ingest(events=events, clock=standing_clock)


@pytest.fixture
def client() -> APIClient:
    return factories.service_client()


def figures(answer):
    assert answer.status_code == 200, answer.content
    return [
        (each["starts_at"], each["ends_at"], each["group"], each["value"])
        for each in answer.json()["results"]
    ]


class TestQuery:
    def test_answers_figures_by_window_and_group_in_the_customers_zone(
        self, client, django_assert_num_queries
    ):
        asked = SPAN | {"customer": "acme", "window": "day", "group_by": "region"}
        with django_assert_num_queries(4):
            answer = client.get(f"{URL}tokens/query/", asked)
        assert answer.json()["meter"] == "tokens"
        assert (answer.json()["window"], answer.json()["time_zone"]) == ("day", "Europe/Berlin")
        first = ("2026-03-09T00:00:00Z", "2026-03-09T23:00:00Z")
        second = ("2026-03-09T23:00:00Z", "2026-03-10T23:00:00Z")
        assert sorted(figures(answer), key=str) == [
            (*first, {"region": "eu"}, "1.500000"),
            (*second, {"region": "eu"}, "2.000000"),
            (*second, {"region": "us"}, "4.000000"),
            (*second, {"region": None}, "0.250000"),
        ]

    def test_answers_one_figure_where_nothing_else_is_asked(self, client):
        answer = client.get(f"{URL}tokens/query/", SPAN | {"customer": "acme"})
        assert figures(answer) == [(SPAN["from"], SPAN["to"], {}, "7.750000")]
        assert answer.json()["window"] is None

    def test_takes_another_zone_and_filters(self, client):
        asked = SPAN | {"customer": "acme", "window": "day", "time_zone": "UTC"}
        assert [each[3] for each in figures(client.get(f"{URL}tokens/query/", asked))] == [
            "3.500000",
            "4.250000",
        ]
        asked |= {"filter": "region:us"}
        assert [each[3] for each in figures(client.get(f"{URL}tokens/query/", asked))] == [
            "4.000000"
        ]

    @pytest.mark.parametrize(
        ("wrong", "status", "code"),
        [
            ({"from": None}, 422, "invalid"),
            ({"from": "yesterday"}, 422, "invalid"),
            ({"from": "0001-01-01T00:00:00Z"}, 422, "invalid"),
            ({"to": "9999-12-31T23:59:59Z"}, 422, "invalid"),
            ({"from": "2026-03-09T00:00:00"}, 400, "naive_datetime"),
            ({"to": "2026-03-09T00:00:00Z"}, 422, "invalid"),
            ({"window": "year"}, 422, "invalid"),
            ({"window": "minute", "from": "2026-01-01T00:00:00Z"}, 422, "invalid"),
            ({"time_zone": "Mars/Olympus"}, 422, "invalid"),
            ({"time_zone": "../etc/passwd"}, 422, "invalid"),
            ({"group_by": "country"}, 422, "invalid"),
            ({"group_by": "region,region"}, 422, "invalid"),
            ({"group_by": ","}, 422, "invalid"),
            ({"filter": "region"}, 422, "invalid"),
            ({"filter": "country:de"}, 422, "invalid"),
            ({"groups": "region"}, 400, "unknown_field"),
            ({"customer": "nobody"}, 404, "not_found"),
            ({"customer": None}, 422, "invalid"),
        ],
    )
    def test_refuses_what_cannot_be_asked(self, client, wrong, status, code):
        asked = {
            name: value
            for name, value in (SPAN | {"customer": "acme"} | wrong).items()
            if value is not None
        }
        refused = client.get(f"{URL}tokens/query/", asked)
        assert (refused.status_code, refused.json()["code"]) == (status, code)

    def test_refuses_an_unknown_meter(self, client):
        refused = client.get(f"{URL}tokns/query/", SPAN | {"customer": "acme"})
        assert (refused.status_code, refused.json()["code"]) == (404, "meter_unknown")

    def test_shows_a_user_his_own_customer_alone(self, at):
        client = factories.client_for(factories.make_user(at=at))
        assert figures(client.get(f"{URL}tokens/query/", SPAN)) == []
        refused = client.get(f"{URL}tokens/query/", SPAN | {"customer": "acme"})
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")

    def test_needs_the_scope(self):
        client = factories.service_client(scopes=("events:write",))
        for path in ("", "tokens/query/"):
            refused = client.get(f"{URL}{path}", SPAN | {"customer": "acme"} if path else {})
            assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")


class TestList:
    def test_shows_what_counts_by_key(self, client, at, django_assert_num_queries):
        archived = Definition(key="archived", event_type="used", aggregation="count")
        calls = Definition(key="calls", event_type="called", aggregation="count")
        meters.define(calls, clock=factories.standing(at))
        gone = meters.define(archived, clock=factories.standing(at))
        meters.archive(meter_id=gone.pk, clock=factories.standing(at))
        with django_assert_num_queries(2):
            answer = client.get(URL)
        assert [each["key"] for each in answer.json()["results"]] == ["calls", "tokens"]
        assert answer.json()["results"][1] == {
            "key": "tokens",
            "name": "Tokens",
            "event_type": "used",
            "aggregation": "sum",
            "decimal": True,
            "group_by": ["region"],
            "late_horizon_seconds": 604800,
            "feature": None,
        }
        assert Meter.objects.count() == 3

    def test_is_for_users_too_and_for_nobody_else(self, at):
        assert factories.client_for(factories.make_user(at=at)).get(URL).status_code == 200
        assert APIClient().get(URL).status_code == 401
