"""Record, reverse and give back over HTTP, and holds with bad input."""

from datetime import UTC, datetime

import pytest

from metering.models import Balance, Hold, UsageEntry
from subscriptions.models import Feature
from tests import factories

pytestmark = pytest.mark.django_db
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
NOBODY = "01936d3c-7c00-7000-8000-0000000000c1"


@pytest.fixture
def customer():
    plan = factories.make_plan(
        "free", at=STARTED, limits={"api_calls": 10, "seats": 3}, publish=False
    )
    Feature.objects.filter(key="seats").update(is_allocated=True)
    factories.catalog.publish(
        plan_version_id=plan.versions.get().pk, clock=factories.standing(STARTED)
    )
    return factories.make_customer(at=STARTED, name="acme")


@pytest.fixture
def backend(customer, standing_clock):
    return factories.service_client()


def post(client, path, body, key="k1"):
    given = {"customer": "acme"} | body
    return client.post(f"/api/usage/{path}/", given, format="json", HTTP_IDEMPOTENCY_KEY=key)


def everything():
    return (
        list(Balance.objects.order_by("id").values()),
        list(UsageEntry.objects.order_by("id").values_list("id", flat=True)),
        list(Hold.objects.order_by("id").values()),
    )


class TestRecord:
    def test_counts_beyond_the_limit_and_is_replayed(self, backend):
        body = {"feature": "api_calls", "units": 25}
        done = post(backend, "record", body)
        assert (done.status_code, done.json()["used"], done.json()["remaining"]) == (200, 25, 0)
        before = everything()
        again = post(backend, "record", body)
        assert (again.content, again["Idempotent-Replayed"]) == (done.content, "true")
        denied = post(backend, "consume", {"feature": "api_calls", "units": 1}, key="c")
        assert denied.json()["code"] == "usage_limit_reached"
        assert everything()[0] == before[0]

    def test_is_for_backends(self, backend, customer, at):
        client = factories.client_for(factories.make_user(at=at, customer=customer))
        before = everything()
        refused = client.post(
            "/api/usage/record/",
            {"feature": "api_calls", "units": 1},
            format="json",
            HTTP_IDEMPOTENCY_KEY="k",
        )
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
        assert everything() == before

    def test_of_a_feature_that_the_plan_lacks_is_a_recorded_denial(self, backend):
        factories.make_feature("other", at=STARTED)
        denied = post(backend, "record", {"feature": "other", "units": 1})
        assert (denied.status_code, denied.json()["code"]) == (403, "feature_not_in_plan")
        assert UsageEntry.objects.get().kind == "denied"
        again = post(backend, "record", {"feature": "other", "units": 1})
        assert again["Idempotent-Replayed"] == "true"


class TestReverse:
    def test_takes_a_line_back_once(self, backend):
        done = post(backend, "consume", {"feature": "api_calls", "units": 4}).json()
        back = post(backend, f"entries/{done['id']}/reverse", {"reason": "failed"}, key="r")
        assert (back.status_code, back.json()["used"], back.json()["units"]) == (200, 0, 4)
        entry = UsageEntry.objects.get(kind="reversal")
        assert (str(entry.reverses_id), entry.metadata) == (done["id"], {"reason": "failed"})
        listed = backend.get("/api/usage/entries/", {"customer": "acme"}).json()["results"]
        assert listed[0]["reverses"] == done["id"]
        before = everything()
        again = post(backend, f"entries/{done['id']}/reverse", {"reason": "failed"}, key="r")
        assert (again.content, again["Idempotent-Replayed"]) == (back.content, "true")
        other = post(backend, f"entries/{done['id']}/reverse", {}, key="s")
        assert (other.status_code, other.json()["code"]) == (409, "entry_already_reversed")
        assert everything() == before

    def test_of_what_is_not_there_or_not_countable_is_not_found(self, backend):
        denied = post(backend, "consume", {"feature": "api_calls", "units": 11}).json()
        assert denied["code"] == "usage_limit_reached"
        held = post(backend, "holds", {"feature": "api_calls", "units": 1}, key="h").json()
        before = everything()
        hold_entry = UsageEntry.objects.get(kind="hold").pk
        denial = UsageEntry.objects.get(kind="denied").pk
        for entry_id in (NOBODY, denial, hold_entry, held["id"]):
            refused = post(backend, f"entries/{entry_id}/reverse", {}, key="r")
            assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
        assert everything() == before

    def test_of_a_capture_gives_back_what_was_captured(self, backend):
        held = post(backend, "holds", {"feature": "api_calls", "units": 4}).json()
        body = {"units": 6, "allow_exceed": True}
        post(backend, f"holds/{held['id']}/capture", body, key="c")
        entry = UsageEntry.objects.get(kind="capture")
        back = post(backend, f"entries/{entry.pk}/reverse", {}, key="r").json()
        assert (back["used"], back["units"]) == (0, 6)


class TestGiveBack:
    def test_frees_seats(self, backend):
        post(backend, "consume", {"feature": "seats", "units": 3})
        freed = post(backend, "give-back", {"feature": "seats", "units": 2}, key="g")
        assert (freed.status_code, freed.json()["used"], freed.json()["remaining"]) == (200, 1, 2)

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"feature": "seats", "units": 1}, "exceeds_usage"),
            ({"feature": "api_calls", "units": 1}, "feature_not_allocated"),
        ],
    )
    def test_is_refused_where_nothing_is_taken(self, backend, body, code):
        before = everything()
        refused = post(backend, "give-back", body)
        assert (refused.status_code, refused.json()["code"]) == (422, code)
        assert everything() == before


class TestHolds:
    def test_are_shown_extended_and_released(self, backend, standing_clock):
        body = {"feature": "api_calls", "units": 4, "ttl_seconds": 60, "metadata": {"job": 1}}
        made = post(backend, "holds", body)
        assert made.status_code == 201
        hold_id = made.json()["id"]
        assert made.json() == {
            "id": hold_id,
            "state": "live",
            "expires_at": "2026-03-10T12:01:00Z",
            "usage_at": "2026-03-10T12:00:00Z",
            "feature": "api_calls",
            "units": 4,
            "captured_units": 0,
            "used": 0,
            "held": 4,
            "limit": 10,
            "remaining": 6,
        }
        longer = post(backend, f"holds/{hold_id}/extend", {"ttl_seconds": 600}, key="e").json()
        assert (longer["state"], longer["expires_at"]) == ("live", "2026-03-10T12:10:00Z")
        again = post(backend, "holds", body)
        assert (again.content, again["Idempotent-Replayed"]) == (made.content, "true")
        shown = backend.get(f"/api/usage/holds/{hold_id}/", {"customer": "acme"}).json()
        assert (shown["state"], shown["expires_at"]) == ("live", "2026-03-10T12:10:00Z")
        released = post(backend, f"holds/{hold_id}/release", {}, key="r").json()
        assert (released["state"], released["held"], released["remaining"]) == ("released", 0, 10)
        before = everything()[0]
        twice = post(backend, f"holds/{hold_id}/release", {}, key="s")
        assert (twice.status_code, twice.json()["state"]) == (200, "released")
        assert everything()[0] == before

    @pytest.mark.parametrize("ttl", [0, 86_401, "60", True, 1.5])
    def test_live_for_a_second_to_a_day(self, backend, ttl):
        before = everything()
        body = {"feature": "api_calls", "units": 1, "ttl_seconds": ttl}
        refused = post(backend, "holds", body)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
        assert everything() == before

    def test_of_others_are_not_found(self, backend, at):
        made = post(backend, "holds", {"feature": "api_calls", "units": 4}).json()
        stranger = factories.client_for(factories.make_user(at=at))
        before = everything()
        assert stranger.get(f"/api/usage/holds/{made['id']}/").json()["code"] == "not_found"
        for action, body in (("capture", {}), ("release", {}), ("extend", {"ttl_seconds": 9})):
            for hold_id in (made["id"], NOBODY):
                refused = stranger.post(
                    f"/api/usage/holds/{hold_id}/{action}/",
                    body,
                    format="json",
                    HTTP_IDEMPOTENCY_KEY="x",
                )
                assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
        assert everything() == before

    def test_a_key_of_a_consume_means_no_hold(self, backend):
        post(backend, "consume", {"feature": "api_calls", "units": 1})
        before = everything()
        refused = post(backend, "holds", {"feature": "api_calls", "units": 1})
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
        assert everything() == before
