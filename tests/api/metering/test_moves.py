"""subscriptions/me/: cancel, undo, pause, resume, each answering the new state, once a key."""

from datetime import UTC, datetime, timedelta

import pytest

from core import clock
from core.models import Customer, IdempotencyRecord, OutboxEvent
from subscriptions.models import Subscription, TimelineEntry
from tests import factories

pytestmark = pytest.mark.django_db
ME = "/api/subscriptions/me/"
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ENDS = "2026-04-10T12:00:00Z"


@pytest.fixture(autouse=True)
def _standing(standing_clock):
    """Let every request read the standing clock."""


@pytest.fixture(scope="module")
def kept_plans(kept_rows):
    factories.make_plan("free", at=STARTED)
    factories.make_plan("pro", at=STARTED, limits={"api_calls": 1000}, price_minor=2900, rank=20)


@pytest.fixture
def user(kept_plans):
    return factories.make_user(at=STARTED)


@pytest.fixture
def client(user):
    return factories.client_for(user)


@pytest.fixture
def pro(user, at):
    return factories.subscribe(factories.customer_of(user), "pro", at=at)


def post(client, action, body=None, *, key="k"):
    return client.post(f"{ME}{action}/", body or {}, format="json", HTTP_IDEMPOTENCY_KEY=key)


def everything() -> tuple:
    return (
        list(Subscription.objects.order_by("pk").values()),
        list(Customer.objects.order_by("pk").values()),
        TimelineEntry.objects.count(),
        OutboxEvent.objects.count(),
        IdempotencyRecord.objects.count(),
    )


class TestCancel:
    def test_at_the_periods_end_answers_the_new_state(
        self, client, pro, at, django_assert_num_queries
    ):
        with django_assert_num_queries(21):
            answer = post(client, "cancel", {"reason": "too dear"})
        body = answer.json()
        assert (answer.status_code, body["status"], body["cancel_at"]) == (200, "active", ENDS)
        assert client.get(ME).json() == body
        line = TimelineEntry.objects.order_by("id").last()
        assert (line.event, line.reason) == ("schedule_cancel", "too dear")
        assert line.actor.startswith("user ")
        assert line.request_id == answer["X-Request-Id"]

    def test_now_falls_back_to_the_default_plan(self, client, pro):
        body = post(client, "cancel", {"when": "now"}).json()
        assert (body["plan_key"], body["limits"]) == ("free", {"api_calls": 100})

    def test_with_one_key_is_done_once_and_answered_alike(self, client, pro):
        first = post(client, "cancel")
        before = everything()
        again = post(client, "cancel")
        assert (again.status_code, again.json()) == (200, first.json())
        assert again["Idempotent-Replayed"] == "true"
        reused = post(client, "cancel", {"when": "now"})
        assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
        assert everything() == before

    def test_is_undone(self, client, pro):
        post(client, "cancel")
        assert post(client, "undo-cancel", key="u").json()["cancel_at"] is None

    def test_now_of_what_has_ended_changes_nothing(self, client, pro):
        first = post(client, "cancel", {"when": "now"})
        before = everything()
        again = post(client, "cancel", {"when": "now"}, key="again")
        assert (again.status_code, again.json()) == (200, first.json())
        assert everything()[:4] == before[:4]


class TestPause:
    def test_stops_access_until_it_resumes(self, client, pro, at, django_assert_num_queries):
        until = clock.rfc3339(at + DAY)
        with django_assert_num_queries(27):
            body = post(client, "pause", {"resume_at": until}).json()
        assert (body["status"], body["remaining"]) == ("paused", {"api_calls": 0})
        with clock.overridden(clock.FixedClock(at=at + DAY)):
            assert client.get(ME).json()["status"] == "active"
        assert post(client, "resume", key="r").json()["status"] == "active"


class TestRefusal:
    @pytest.mark.parametrize(
        ("action", "body", "status", "code"),
        [
            ("undo-cancel", {}, 409, "invalid_transition"),
            ("resume", {}, 409, "invalid_transition"),
            ("cancel", {"when": "yesterday"}, 422, "invalid"),
            ("cancel", {"when": 1}, 422, "invalid"),
            ("cancel", {"at": "now"}, 400, "unknown_field"),
            ("pause", {"resume_at": "2026-03-10T12:00:00Z"}, 422, "invalid"),
            ("pause", {"resume_at": "2026-03-11T12:00:00"}, 400, "naive_datetime"),
            ("pause", {"resume_at": True}, 422, "invalid"),
            ("pause", {"reason": 7}, 422, "invalid"),
            ("resume", {"reason": "\x00"}, 422, "invalid"),
        ],
    )
    def test_names_the_fault_and_changes_nothing(self, client, pro, action, body, status, code):
        before = everything()
        answer = post(client, action, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert everything() == before

    @pytest.mark.parametrize("action", ["cancel", "undo-cancel", "pause", "resume"])
    def test_of_whoever_may_not_changes_nothing(self, client, user, pro, action, at):
        customer = factories.customer_of(user)
        member = factories.make_user(at=at, customer=customer, role="member")
        stranger = factories.make_user(at=at)
        reader = factories.service_client(scopes=("subscriptions:read",))
        before = everything()
        answers = [
            post(factories.client_for(member), action),
            post(factories.client_for(stranger), action, {"customer": customer.external_key}),
            post(factories.client_for(stranger), action),
            post(reader, action, {"customer": customer.external_key}),
            client.post(f"{ME}{action}/", {}, format="json"),
            factories.APIClient().post(f"{ME}{action}/", {}, format="json"),
        ]
        assert [(each.status_code, each.json()["code"]) for each in answers] == [
            (403, "permission_denied"),
            (404, "not_found"),
            (404, "not_found"),
            (403, "insufficient_scope"),
            (400, "idempotency_key_missing"),
            (401, "unauthenticated"),
        ]
        assert everything() == before

    def test_of_an_ended_subscription_says_so(self, client, pro):
        post(client, "cancel", {"when": "now"})
        before = everything()
        for action in ("cancel", "undo-cancel", "pause", "resume"):
            answer = post(client, action, key=action)
            assert (answer.status_code, answer.json()["code"]) == (409, "subscription_ended")
        assert everything() == before

    def test_lets_a_service_key_act_for_the_customer_it_names(self, user, pro):
        backend = factories.service_client()
        named = {"customer": factories.customer_of(user).external_key}
        assert post(backend, "pause", named).json()["status"] == "paused"
        assert TimelineEntry.objects.last().actor.startswith("service key ")


class TestTrial:
    def test_insisted_on_twice_is_refused(self, client, user, at):
        factories.make_plan("try", at=at, price_minor=5, version={"trial_days": 7})
        order = {"plan": "try", "trial": True}
        first = client.post("/api/subscriptions/", order, format="json", HTTP_IDEMPOTENCY_KEY="1")
        assert first.json()["status"] == "trialing"
        post(client, "cancel", {"when": "now"}, key="2")
        before = everything()
        again = client.post("/api/subscriptions/", order, format="json", HTTP_IDEMPOTENCY_KEY="3")
        assert (again.status_code, again.json()["code"]) == (409, "trial_already_used")
        assert everything() == before
