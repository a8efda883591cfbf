"""What is given to a customer, and taken away, stands in the audit log once, with its reason."""

from datetime import UTC, datetime

import pytest

from core.models import AuditEntry, ServiceKey
from metering.models import Hold, UsageEntry
from tests import factories, staff

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock")]
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
CUSTOMER = "/api/customers/acme"
GIVEN = {
    "grant": (f"{CUSTOMER}/grants/", {"feature": "api_calls", "units": 50, "reason": "why"}),
    "override": (f"{CUSTOMER}/overrides/", {"feature": "api_calls", "units": 5, "reason": "why"}),
    "alert": (f"{CUSTOMER}/alerts/", {"feature": "api_calls", "percent": 80}),
    "coupon": ("/api/coupons/", {"key": "SPRING", "name": "Spring", "percent_off": "20"}),
}
TAKEN = {
    "grant": ("post", "{id}/void/", {"reason": "why"}, "grant.voided"),
    "override": ("post", "{id}/end/", {"reason": "why"}, "override.ended"),
    "alert": ("delete", "{id}/", None, "alert.removed"),
    "coupon": ("post", "SPRING/archive/", {}, "coupon.archived"),
}


@pytest.fixture
def backend():
    factories.make_plan("free", at=STARTED)
    factories.make_customer(at=STARTED, name="acme")
    return factories.service_client()


def send(client, method, path, body, *, key):
    ask = getattr(client, method)
    return ask(path, body, format="json", HTTP_IDEMPOTENCY_KEY=key)


@pytest.mark.parametrize("thing", GIVEN)
def test_a_gift_is_recorded_once_and_its_end_too(backend, thing):
    path, body = GIVEN[thing]
    duration = {"duration": "once"} if thing == "coupon" else {}
    made, _ = [send(backend, "post", path, body | duration, key="k1") for _ in range(2)]
    assert made.status_code == 201, made.json()
    entry = AuditEntry.objects.get(action=f"{thing}.created")
    assert entry.actor == f"service key {ServiceKey.objects.get().prefix}"
    assert entry.reason == body.get("reason", "")
    assert entry.request_id == made.headers["X-Request-Id"]
    assert entry.after

    method, rest, given, action = TAKEN[thing]
    for key in ("k2", "k3"):
        send(backend, method, path + rest.format(id=made.json().get("id")), given, key=key)
    ended = AuditEntry.objects.get(action=action)
    assert ended.before != ended.after


class TestStaff:
    @pytest.fixture
    def world(self, at):
        return staff.world(at)

    def test_who_release_a_hold_are_recorded_with_their_reason(self, world):
        hold = Hold.objects.get(state="live", owner="")
        client = staff.client("support")
        for _ in range(2):
            client.post(staff.page(hold, "release_hold"), staff.confirmed(reason="by phone"))
        entry = AuditEntry.objects.get(action="hold.released")
        assert (entry.object_id, entry.reason) == (str(hold.pk), "by phone")
        assert (entry.before["state"], entry.after["state"]) == ("live", "released")
        assert entry.actor

    def test_who_reverse_a_line_are_recorded_with_their_reason(self, world):
        address = staff.page(world.entry, "reverse_entry")
        staff.client("support").post(address, staff.confirmed(reason="by phone"))
        entry = AuditEntry.objects.get(action="usage.reversed")
        assert entry.after == {"reverses": str(world.entry.pk), "units": world.entry.units}
        assert entry.reason == "by phone"
        assert UsageEntry.objects.filter(reverses=world.entry, pk=entry.object_id).exists()

    def test_a_backend_that_releases_its_own_hold_is_not(self, world):
        hold = Hold.objects.get(state="live", owner="")
        path = f"/api/usage/holds/{hold.operation_id}/release/"
        body = {"customer": str(hold.customer_id)}
        answer = send(factories.service_client(), "post", path, body, key="k1")
        assert answer.status_code == 200, answer.json()
        assert not AuditEntry.objects.filter(action="hold.released").exists()
