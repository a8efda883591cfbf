"""A trial lasts longer where a service says so; what is scheduled for its end moves along."""

from datetime import UTC, datetime, timedelta

import pytest

from core import clock, db
from core.models import OutboxEvent
from subscriptions.models import Subscription, TimelineEntry
from subscriptions.services import actions, moves
from tests import factories

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
STARTED = datetime(2026, 4, 1, tzinfo=UTC)
ENDS, LATER = STARTED + 14 * DAY, STARTED + 21 * DAY
QUERIES = 19


@pytest.fixture
def at() -> datetime:
    return STARTED


@pytest.fixture
def row(at, standing_clock) -> Subscription:
    factories.make_plan("pro", at=at, price_minor=2900, version={"trial_days": 14})
    return factories.subscribe(factories.make_customer(at=at), "pro", at=at, pay=False)


@pytest.fixture
def service():
    return factories.service_client()


def extend(service, row, until, *, key="k", **fields):
    body = {"ends_at": clock.rfc3339(until), "reason": "Asked for time"} | fields
    headers = {} if key is None else {"Idempotency-Key": key}
    url = f"/api/subscriptions/{row.pk}/extend-trial/"
    return service.post(url, body, format="json", headers=headers)


def everything() -> list:
    stored = (Subscription, TimelineEntry, OutboxEvent)
    return [list(model.objects.order_by("pk").values()) for model in stored]


def settle(row, at) -> str:
    with db.transaction():
        moves.lock_step(customer_id=row.customer_id, clock=factories.standing(at))
    row.refresh_from_db()
    return row.status


class TestExtendTrial:
    def test_lets_it_last_longer(self, service, row, django_assert_num_queries):
        extend(service, row, ENDS + DAY, key="first")
        with django_assert_num_queries(QUERIES):
            answer = extend(service, row, LATER)
        assert answer.status_code == 200
        assert answer.json()["trial_ends_at"] == clock.rfc3339(LATER)
        line = TimelineEntry.objects.order_by("id").last()
        assert (line.event, line.from_status, line.to_status, line.reason) == (
            "trial_extended",
            "trialing",
            "trialing",
            "Asked for time",
        )
        assert settle(row, ENDS + DAY) == "trialing"
        assert settle(row, LATER) == "canceled"
        assert row.ended_at == LATER

    def test_moves_what_is_scheduled_for_its_end(self, service, row):
        actions.cancel_at_period_end(
            subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(STARTED)
        )
        assert extend(service, row, LATER).status_code == 200
        row.refresh_from_db()
        assert (row.cancel_at, row.trial_ends_at, row.due_at) == (LATER, LATER, LATER)

    def test_changes_nothing_where_it_is_asked_again(self, service, row):
        extend(service, row, LATER)
        before = everything()
        assert extend(service, row, LATER, key="another").status_code == 200
        assert everything() == before

    def test_happens_once_under_its_key(self, service, row):
        before = everything()
        unkeyed = extend(service, row, LATER, key=None)
        assert (unkeyed.status_code, unkeyed.json()["code"]) == (400, "idempotency_key_missing")
        assert everything() == before
        first = extend(service, row, ENDS + DAY)
        extend(service, row, LATER, key="later")
        after = everything()
        again = extend(service, row, ENDS + DAY)
        assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
        other = extend(service, row, LATER)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert everything() == after

    @pytest.mark.parametrize(
        ("until", "fields", "status", "code"),
        [
            (ENDS - DAY, {}, 422, "invalid"),
            (STARTED + timedelta(days=366, seconds=1), {}, 422, "invalid"),
            (LATER, {"ends_at": "2026-04-22T00:00:00"}, 400, "naive_datetime"),
            (LATER, {"ends_at": None}, 422, "invalid"),
            (LATER, {"colour": 1}, 400, "unknown_field"),
            (LATER, {"reason": ""}, 422, "invalid"),
        ],
    )
    def test_is_refused_for_what_cannot_be(self, service, row, until, fields, status, code):
        before = everything()
        answer = extend(service, row, until, **fields)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert everything() == before

    @pytest.mark.parametrize(
        ("state", "code"), [("active", "invalid_transition"), ("canceled", "subscription_ended")]
    )
    def test_is_refused_once_the_trial_is_over(self, service, row, state, code):
        ended_at = STARTED if state == "canceled" else None
        Subscription.objects.update(status=state, ended_at=ended_at)
        before = everything()
        answer = extend(service, row, LATER)
        assert (answer.status_code, answer.json()["code"]) == (409, code)
        assert everything() == before

    def test_is_refused_for_what_is_not_there(self, service, row):
        row.pk = row.customer_id
        assert extend(service, row, LATER).status_code == 404
