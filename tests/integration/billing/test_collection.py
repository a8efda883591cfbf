"""While collection is paused all goes on as it does, and what is billed is kept as drafts."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.models import Invoice, MrrMovement
from billing.services import changing, issuing
from core import errors
from core.models import Customer, OutboxEvent
from metering import selectors
from subscriptions import errors as own_errors
from subscriptions.models import Subscription, TimelineEntry
from subscriptions.services import actions, collection
from subscriptions.services.changes import ChangeOrder
from tests import factories
from tests.till import STARTED

pytestmark = pytest.mark.django_db
APRIL, MAY = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
JUNE, DAY = datetime(2026, 6, 1, tzinfo=UTC), timedelta(days=1)


def act(operation, row, at) -> Subscription:
    return operation(subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(at))


def pause(row, at) -> Subscription:
    return act(collection.pause, row, at)


def resume(row, at) -> Subscription:
    return act(collection.resume, row, at)


def statuses() -> list[tuple]:
    rows = Invoice.objects.order_by("billed_at", "id")
    return list(rows.values_list("billed_at", "status", "total_minor"))


def everything() -> list:
    stored = (Subscription, TimelineEntry, OutboxEvent, Customer, Invoice)
    return [list(model.objects.order_by("pk").values()) for model in stored]


class TestPauseCollection:
    def test_keeps_what_renews_as_drafts_and_lets_all_else_go_on(self, customer, till):
        row = till.subscribe("pro", STARTED)
        movements = MrrMovement.objects.count()
        paused = pause(row, STARTED + DAY)
        assert (paused.status, paused.collection_paused_at) == ("active", STARTED + DAY)
        till.settle(MAY)
        till.issue(MAY)
        assert statuses() == [
            (STARTED, "paid", 1000),
            (APRIL, "draft", 1000),
            (MAY, "draft", 1000),
        ]
        assert factories.consume(customer, 1000, at=MAY + DAY).entries[0].used_units == 1000
        shown = selectors.get_overview(
            customer=Customer.objects.get(), clock=factories.standing(MAY + DAY)
        )
        assert shown.standings["api_calls"].resets_at == JUNE
        assert MrrMovement.objects.count() == movements

    def test_resumed_issues_them_in_order_due_as_of_then(self, customer, till):
        row = till.subscribe("pro", STARTED)
        pause(row, STARTED + DAY)
        till.settle(MAY)
        resume(row, MAY + DAY)
        till.issue(MAY + 2 * DAY)
        issued = Invoice.objects.order_by("number")
        assert list(issued.values_list("billed_at", "status", "due_at")) == [
            (STARTED, "paid", STARTED + 14 * DAY),
            (APRIL, "open", MAY + 16 * DAY),
            (MAY, "open", MAY + 16 * DAY),
        ]

    def test_is_in_the_timeline_told_and_revises_the_customer(self, customer, till):
        row = till.subscribe("pro", STARTED)
        revision = Customer.objects.get().revision
        pause(row, STARTED + DAY)
        resume(row, STARTED + 2 * DAY)
        lines = TimelineEntry.objects.order_by("id").values_list(
            "at", "from_status", "to_status", "event", "actor"
        )
        assert list(lines)[-2:] == [
            (STARTED + DAY, "active", "active", "collection_paused", "test"),
            (STARTED + 2 * DAY, "active", "active", "collection_resumed", "test"),
        ]
        told = OutboxEvent.objects.order_by("id").values_list("event_type", "payload__event")
        assert list(told)[-2:] == [
            ("subscription.transitioned", "collection_paused"),
            ("subscription.transitioned", "collection_resumed"),
        ]
        assert Customer.objects.get().revision == revision + 2

    def test_twice_changes_nothing(self, customer, till):
        row = till.subscribe("pro", STARTED)
        pause(row, STARTED + DAY)
        before = everything()
        pause(row, STARTED + 2 * DAY)
        assert everything() == before
        resume(row, STARTED + 3 * DAY)
        before = everything()
        resume(row, STARTED + 4 * DAY)
        assert everything() == before

    def test_lets_an_upgrade_say_that_nothing_is_due_and_keeps_its_draft(self, customer, till):
        row = till.subscribe("pro", STARTED)
        pause(row, STARTED + DAY)
        quote = changing.preview(
            customer_id=customer.pk,
            order=ChangeOrder(plan_key="team"),
            clock=factories.standing(STARTED + 2 * DAY),
        )
        assert quote.due_now_minor == 0
        assert sum(line.amount_minor for line in quote.lines) > 0
        till.change(row, STARTED + 2 * DAY, plan_key="team")
        till.issue(STARTED + 3 * DAY)
        assert [status for _, status, _ in statuses()] == ["paid", "draft"]

    def test_is_resumed_after_the_end_too(self, customer, till):
        row = till.subscribe("usage", STARTED)
        pause(row, STARTED + DAY)
        factories.consume(customer, 200, at=STARTED + 2 * DAY)
        act(actions.cancel_now, row, STARTED + 3 * DAY)
        till.issue(STARTED + 4 * DAY)
        assert [status for _, status, _ in statuses()] == ["paid", "draft"]
        assert resume(row, STARTED + 5 * DAY).status == "canceled"
        till.issue(STARTED + 6 * DAY)
        assert [status for _, status, _ in statuses()] == ["paid", "open"]

    def test_keeps_a_draft_that_was_listed_before_it(self, customer, till):
        row = till.subscribe("pro", STARTED)
        till.settle(APRIL)
        (listed,) = issuing.IssueJob().list_due(at=APRIL, limit=9, excluded=())
        pause(row, APRIL)
        issuing.IssueJob().work(key=listed, clock=factories.standing(APRIL))
        assert Invoice.objects.get(pk=listed).status == "draft"

    def test_leaves_what_is_issued_due(self, customer, till):
        row = till.subscribe("pro", STARTED)
        till.settle(APRIL)
        till.issue(APRIL)
        pause(row, APRIL + DAY)
        till.mark(Invoice.objects.get(status="open"), APRIL + 2 * DAY)
        assert [status for _, status, _ in statuses()] == ["paid", "paid"]


class TestRefused:
    @pytest.mark.parametrize(
        ("ends", "refusal"),
        [(False, own_errors.InvalidTransition), (True, own_errors.SubscriptionEnded)],
    )
    def test_is_what_is_not_live(self, customer, ends, refusal):
        row = factories.subscribe(customer, "pro", at=STARTED, pay=False)
        if ends:
            act(actions.cancel_now, row, STARTED + DAY)
        before = everything()
        with pytest.raises(refusal):
            pause(row, STARTED + 2 * DAY if ends else STARTED + timedelta(hours=1))
        assert everything() == before

    def test_is_what_is_not_there(self, customer):
        for operation in (pause, resume):
            with pytest.raises(errors.NotFound):
                operation(Subscription(), STARTED)
