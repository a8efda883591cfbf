"""Run the idempotency scenarios of `vectors/idempotency.json` over HTTP."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest
from django.db import OperationalError

from core import clock
from core.models import Member
from metering.models import Balance, UsageEntry
from metering.services import ledger
from tests import factories
from tests.concurrency import racing

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "idempotency.json").read_text())
OF_LATER_ISSUES = {"ID08": "holds", "ID14": "events"}
SCENARIOS = [each for each in VECTORS["scenarios"] if each["id"] not in OF_LATER_ISSUES]
SEQUENTIAL = [each for each in SCENARIOS if "steps" in each]
CONCURRENT = [each for each in SCENARIOS if "concurrent" in each]
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
URL = "/api/usage/consume/"


class Stage:
    """Play the steps of one scenario against the API and the database."""

    def __init__(self, *, at: datetime) -> None:
        self.at = at
        self.plan = factories.make_plan("free", at=STARTED, limits={"api_calls": 100})
        user = factories.make_user(at=STARTED, username="u1")
        colleague = factories.make_user(
            at=STARTED, username="b", customer=factories.customer_of(user)
        )
        other = factories.make_user(at=STARTED, username="u2")
        self.clients = {
            name: factories.client_for(each)
            for name, each in (("u1", user), ("A", user), ("B", colleague), ("u2", other))
        }

    def post(self, step, *, raw=None):
        body = {"feature": "api_calls", "units": step.get("body", {"n": 1})["n"]}
        headers = {} if step["key"] is None else {"HTTP_IDEMPOTENCY_KEY": step["key"]}
        client = self.clients[step.get("user") or step.get("credential") or "u1"]
        with clock.overridden(factories.standing(self.at)):
            return client.generic(
                "POST", URL, raw or json.dumps(body), content_type="application/json", **headers
            )

    def play(self, step) -> None:
        if "admin" in step:
            self.raise_limit()
        elif "advance_days" in step:
            self.at += timedelta(days=step["advance_days"])
        elif step.get("fault") == "crash_before_commit":
            self.check(self.crash(step), step["expect"])
        elif step.get("fault") == "connection_lost_after_commit":
            self.post(step)  # the answer is lost
        else:
            self.check(self.post(step, raw=step.get("raw")), step["expect"])

    def raise_limit(self) -> None:
        customer = Member.objects.get(user__username="u1").customer
        factories.make_plan("big", at=STARTED, limits={"api_calls": 10_000}, rank=9)
        factories.subscribe(customer, "big", at=self.at)

    def crash(self, step):
        lost = OperationalError("server closed the connection unexpectedly")
        with mock.patch.object(ledger, "append_step", side_effect=lost):
            return self.post(step)

    @staticmethod
    def check(answer, expected) -> None:
        assert answer.status_code == expected["status"], answer.content
        if "code" in expected:
            assert answer.json()["code"] == expected["code"]
        if "replayed" in expected:
            assert ("Idempotent-Replayed" in answer) is expected["replayed"]


def test_leaves_out_only_what_other_operations_answer():
    assert len(SCENARIOS) == len(VECTORS["scenarios"]) - len(OF_LATER_ISSUES)
    assert len(SEQUENTIAL) + len(CONCURRENT) == len(SCENARIOS)


@pytest.mark.django_db
@pytest.mark.parametrize("scenario", SEQUENTIAL, ids=[each["id"] for each in SEQUENTIAL])
def test_scenario_holds(scenario, at):
    stage = Stage(at=at)
    if scenario["id"] == "ID15":  # the unit to be granted is the last one
        customer = Member.objects.get(user__username="u1").customer
        factories.consume(customer, 99, at=at)
    before = UsageEntry.objects.filter(kind="consume").count()

    for step in scenario["steps"]:
        stage.play(step)

    effects = UsageEntry.objects.filter(kind="consume").count() - before
    expected = scenario.get("expected_effects")
    assert expected is None or effects == expected
    recount = Counter()
    for entry in UsageEntry.objects.filter(kind="consume"):
        recount[entry.balance_id] += entry.units
    assert recount == {row.pk: row.used_units for row in Balance.objects.filter(used_units__gt=0)}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("scenario", CONCURRENT, ids=[each["id"] for each in CONCURRENT])
def test_concurrent_scenario_holds(scenario):
    stage = Stage(at=clock.process_clock().now())
    client = stage.clients["u1"]
    credentials = dict(client._credentials)

    def call():
        own = factories.APIClient(raise_request_exception=False)
        own.credentials(**credentials)
        body = {"feature": "api_calls", "units": 1}
        return own.post(URL, body, format="json", HTTP_IDEMPOTENCY_KEY="k1").status_code

    statuses = sorted(racing.in_threads([call] * scenario["concurrent"]))

    assert statuses in scenario["expect_any_of"]
    assert UsageEntry.objects.count() == scenario["expected_effects"]
