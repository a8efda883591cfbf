"""Run the scenarios of holds over HTTP, second by second."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core import clock
from metering import selectors
from metering.models import Balance, Hold, UsageEntry
from tests import factories

pytestmark = pytest.mark.django_db
SCENARIOS = json.loads(Path("tests/vectors/holds.json").read_text())["scenarios"]
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
ZERO = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


class Club:
    """One customer, and the holds of a scenario by the names that it gives them."""

    def __init__(self, limit: int) -> None:
        factories.make_plan("free", at=STARTED, limits={"api_calls": limit})
        self.user = factories.make_user(at=STARTED)
        self.client = factories.client_for(self.user)
        self.ids: dict[str, str] = {}
        self.number = 0

    def post(self, path: str, body: dict, key: str | None = None):
        self.number += 1
        key = key or f"step{self.number}"
        return self.client.post(f"/api/usage/{path}", body, format="json", HTTP_IDEMPOTENCY_KEY=key)

    def run(self, step: dict):
        if step["op"] == "consume":
            return self.post("consume/", {"feature": "api_calls", "units": step["units"]})
        if step["op"] == "hold":
            body = {"feature": "api_calls", "units": step["units"]}
            body["ttl_seconds"] = step["ttl_seconds"]
            answer = self.post("holds/", body, key=f"hold-{step['id']}")
            if answer.status_code == 201:
                self.ids[step["id"]] = answer.json()["id"]
            return answer
        body = {"units": step["units"]} if "units" in step else {}
        if "allow_exceed" in step:
            body["allow_exceed"] = step["allow_exceed"]
        return self.post(f"holds/{self.ids[step['id']]}/{step['op']}/", body)

    def state(self) -> dict[str, int]:
        customer = factories.customer_of(self.user)
        state = selectors.get_overview(customer=customer, clock=clock.process_clock())
        standing = state.standings["api_calls"]
        return {"used": standing.used_units, "held": standing.held_units}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[each["id"] for each in SCENARIOS])
def test_scenario_holds(scenario):
    club = Club(scenario["limit"])
    for step in scenario["steps"]:
        with clock.overridden(clock.FixedClock(at=ZERO + timedelta(seconds=step["t"]))):
            expected = step["expected"]
            before = everything()
            answer = club.run(step)
            body = answer.json()
            if "error" in expected:
                assert body["code"] == expected["error"], body
                assert answer.status_code in {403, 409, 422}
                if answer.status_code != 403:
                    assert everything() == before
            else:
                assert answer.status_code in {200, 201}, body
            if "available" in expected:
                assert body["remaining"] == expected["available"]
            assert club.state() == expected["state"]


def everything():
    return (
        list(Balance.objects.order_by("id").values()),
        list(UsageEntry.objects.order_by("id").values_list("id", flat=True)),
        list(Hold.objects.order_by("id").values()),
    )
