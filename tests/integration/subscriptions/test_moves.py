"""What customers, operators, gateways and the clock do to a stored subscription."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from core import errors
from core.models import Customer, Member, OutboxEvent
from subscriptions import errors as own_errors
from subscriptions.models import Subscription, TimelineEntry, TrialMemory
from subscriptions.services import actions, payments
from tests import factories

pytestmark = pytest.mark.django_db
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ENDS = datetime(2026, 4, 10, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def kept_plans(kept_rows) -> None:
    factories.make_plan("free", at=STARTED, limits={"api_calls": 100})
    factories.make_plan("pro", at=STARTED, limits={"api_calls": 1000}, rank=20, price_minor=2900)
    factories.make_plan("trial", at=STARTED, price_minor=900, rank=10, version={"trial_days": 14})


@pytest.fixture
def customer(kept_plans) -> Customer:
    return factories.make_customer(at=STARTED)


@pytest.fixture
def pro(customer, at) -> Subscription:
    return factories.subscribe(customer, "pro", at=at)


def act(operation, row, at, **given) -> Subscription:
    return operation(
        subscription_id=row.pk, actor=factories.ACTOR, clock=factories.standing(at), **given
    )


def note(row, event, at) -> Subscription:
    return act(payments.note, row, at, event=event)


def facts(event_type: str) -> list[dict]:
    rows = OutboxEvent.objects.filter(event_type=event_type).order_by("id")
    return [{"at": row.occurred_at, **row.payload} for row in rows]


def lines() -> list[tuple]:
    rows = TimelineEntry.objects.order_by("id")
    return list(rows.values_list("at", "from_status", "to_status", "event"))


def everything() -> tuple:
    return (
        list(Subscription.objects.order_by("pk").values()),
        lines(),
        list(Customer.objects.order_by("pk").values()),
        OutboxEvent.objects.count(),
    )


class TestCancel:
    def test_at_the_periods_end_lets_the_period_run_out(self, pro, at):
        row = act(actions.cancel_at_period_end, pro, at + DAY)
        assert (row.status, row.cancel_at) == ("active", ENDS)
        later = factories.subscribe(row.customer, "trial", at=ENDS)
        row.refresh_from_db()
        assert (row.status, row.ended_at, later.status) == ("canceled", ENDS, "trialing")
        assert (ENDS, "active", "canceled", "cancel_at_reached") in lines()
        assert facts("subscription.renewed") == []

    def test_of_a_trial_ends_with_it(self, customer, at):
        row = factories.subscribe(customer, "trial", at=at)
        assert act(actions.cancel_at_period_end, row, at + DAY).cancel_at == at + 14 * DAY

    def test_is_undone_before_it_comes_about_and_not_after(self, pro, at):
        act(actions.cancel_at_period_end, pro, at)
        assert act(actions.undo_cancel, pro, ENDS - DAY).cancel_at is None
        act(actions.cancel_at_period_end, pro, ENDS - DAY)
        before = everything()
        with pytest.raises(own_errors.SubscriptionEnded):
            act(actions.undo_cancel, pro, ENDS)
        assert everything() == before

    def test_by_the_gateway_is_told_as_such_and_repeated_changes_nothing(self, pro, at):
        row = act(actions.end_by_gateway, pro, at + DAY)
        assert (row.status, row.ended_at) == ("canceled", at + DAY)
        assert lines()[-1] == (at + DAY, "active", "canceled", "gateway_deleted")
        before = everything()
        for operation in (actions.end_by_gateway, actions.cancel_now):
            assert act(operation, pro, at + 2 * DAY).ended_at == at + DAY
        assert everything() == before


class TestPause:
    def test_runs_from_now_on_and_resumes_in_the_same_period(self, pro, at):
        row = act(actions.pause, pro, at + DAY, resume_at=at + 3 * DAY)
        assert (row.status, row.paused_at, row.resume_at) == ("paused", at + DAY, at + 3 * DAY)
        row = act(actions.cancel_at_period_end, pro, at + 5 * DAY)
        assert (row.status, row.anchor_at, row.renewed_until) == ("active", at, ENDS)
        assert (at + 3 * DAY, "paused", "active", "resume_at_reached") in lines()
        assert facts("subscription.renewed") == []

    def test_over_a_boundary_is_renewed_when_it_resumes(self, pro, at):
        act(actions.pause, pro, ENDS - DAY)
        row = act(actions.resume, pro, ENDS + DAY)
        assert (row.status, row.anchor_at) == ("active", at)
        assert facts("subscription.renewed") == [
            {
                "at": ENDS + DAY,
                "subscription": str(pro.pk),
                "period_starts_at": "2026-04-10T12:00:00Z",
                "period_ends_at": "2026-05-10T12:00:00Z",
            }
        ]

    @pytest.mark.parametrize("offset", [timedelta(0), -DAY, timedelta(days=367)])
    def test_is_refused_for_an_end_that_is_not_ahead_or_too_far(self, pro, at, offset):
        before = everything()
        with pytest.raises(errors.Invalid):
            act(actions.pause, pro, at, resume_at=at + offset)
        assert everything() == before

    def test_after_a_trial_without_payment_method_needs_one_to_resume(self, at):
        factories.make_plan(
            "try",
            at=STARTED,
            price_minor=900,
            version={"trial_days": 14, "trial_end_policy": "pause"},
        )
        row = factories.subscribe(factories.make_customer(at=at), "try", at=at)
        late = at + 20 * DAY
        before = everything()
        with pytest.raises(own_errors.InvalidTransition):
            act(actions.resume, row, late)
        assert everything() == before
        row = act(actions.resume, row, late, is_payment_secured=True)
        assert (row.status, row.has_payment_method) == ("active", True)
        assert len(facts("subscription.renewed")) == 1


class TestPayments:
    def test_that_fail_start_grace_once_and_a_success_ends_it(self, pro, at):
        row = note(pro, "payment_failed", at)
        assert (row.status, row.grace_until) == ("past_due", at + 7 * DAY)
        row = note(pro, "payment_failed", at + 3 * DAY)
        assert (row.failed_payments, row.grace_until) == (2, at + 7 * DAY)
        row = act(payments.succeed, pro, at + 4 * DAY)
        assert (row.status, row.grace_until, row.anchor_at) == ("active", None, at)

    def test_that_fail_past_grace_leave_it_unpaid_until_one_succeeds(self, pro, at):
        note(pro, "payment_action_required", at)
        row = act(payments.succeed, pro, at + 9 * DAY)
        assert row.status == "active"
        assert lines()[-2:] == [
            (at + 7 * DAY, "past_due", "unpaid", "grace_elapsed"),
            (at + 9 * DAY, "unpaid", "active", "payment_succeeded"),
        ]

    @pytest.mark.parametrize(("policy", "status"), [("unpaid", "unpaid"), ("cancel", "canceled")])
    def test_whose_retries_are_exhausted_follow_the_policy_of_the_version(self, at, policy, status):
        factories.make_plan("firm", at=at, price_minor=2900, version={"past_due_policy": policy})
        row = factories.subscribe(factories.make_customer(at=at), "firm", at=at)
        note(row, "payment_failed", at)
        assert note(row, "retries_exhausted", at + DAY).status == status

    def test_that_come_late_are_recorded_and_alerted_and_revive_nothing(self, pro, at):
        act(actions.cancel_now, pro, at)
        row = act(payments.succeed, pro, at + DAY)
        assert row.status == "canceled"
        assert lines()[-1] == (at + DAY, "canceled", "canceled", "payment_succeeded")
        assert facts("subscription.payment_late") == [
            {"at": at + DAY, "subscription": str(pro.pk), "status": "canceled"}
        ]

    def test_that_find_the_slot_taken_are_recorded_and_alerted(self, customer, at):
        waiting = factories.subscribe(customer, "pro", at=at, pay=False)
        Subscription.objects.update(status="expired", ended_at=at)
        factories.subscribe(customer, "trial", at=at)
        Subscription.objects.filter(pk=waiting.pk).update(status="incomplete", ended_at=None)
        assert act(payments.succeed, waiting, at).status == "incomplete"
        assert len(facts("subscription.payment_late")) == 1

    def test_activate_what_waits_for_them(self, customer, at):
        waiting = factories.subscribe(customer, "pro", at=at, pay=False)
        row = act(payments.succeed, waiting, at + DAY / 2)
        assert (row.status, row.anchor_at) == ("active", at + DAY / 2)
        assert facts("subscription.renewed") == []

    def test_are_refused_where_the_state_awaits_none(self, pro, at):
        act(actions.pause, pro, at)
        before = everything()
        with pytest.raises(own_errors.InvalidTransition):
            act(payments.succeed, pro, at)
        with pytest.raises(ValueError, match="not told"):
            note(pro, "cancel_now", at)
        assert everything() == before


class TestRenewal:
    def test_comes_at_each_boundary_once_with_a_line_and_a_fact(self, pro, at):
        act(actions.cancel_at_period_end, pro, ENDS + 35 * DAY)
        boundary = datetime(2026, 5, 10, 12, tzinfo=UTC)
        assert [each["at"] for each in facts("subscription.renewed")] == [ENDS, boundary]
        renewals = [line for line in lines() if line[3] == "period_ended_renew"]
        assert [line[0] for line in renewals] == [ENDS, boundary]
        pro.refresh_from_db()
        assert pro.due_at == pro.renewed_until == datetime(2026, 6, 10, 12, tzinfo=UTC)

    def test_of_a_converted_trial_opens_the_first_paid_period(self, customer, at):
        row = factories.subscribe(customer, "trial", at=at)
        Subscription.objects.update(has_payment_method=True)
        row = act(actions.cancel_at_period_end, row, at + 15 * DAY)
        assert (row.status, row.anchor_at) == ("active", at + 14 * DAY)
        assert [each["at"] for each in facts("subscription.renewed")] == [at + 14 * DAY]


class TestTrial:
    def test_is_remembered_under_a_hash_when_the_customer_is_gone(self, customer, at):
        user = factories.make_user(at=at, username="ann")
        first = factories.customer_of(user)
        factories.subscribe(first, "trial", at=at)
        assert TrialMemory.objects.count() == 2
        memories = str(list(TrialMemory.objects.values()))
        assert "ann" not in memories
        again = factories.make_customer(at=at, name="somebody else")
        Member.objects.create(user=user, customer=again)
        row = factories.subscribe(again, "trial", at=at, pay=False)
        assert (row.status, row.trial_ends_at) == ("incomplete", None)

    def test_that_is_insisted_on_twice_is_refused(self, customer, at):
        row = factories.subscribe(customer, "trial", at=at)
        act(actions.cancel_now, row, at)
        before = everything()
        with pytest.raises(own_errors.TrialAlreadyUsed):
            factories.subscribe(customer, "trial", at=at, wants_trial=True)
        with pytest.raises(own_errors.TrialAlreadyUsed):
            factories.subscribe(customer, "pro", at=at, wants_trial=True)
        assert everything() == before

    def test_can_be_left_for_later(self, customer, at):
        row = factories.subscribe(customer, "trial", at=at, wants_trial=False, pay=False)
        assert (row.status, TrialMemory.objects.count()) == ("incomplete", 0)


class TestScope:
    def test_of_an_operation_is_a_subscription_that_exists(self, customer, at):
        with pytest.raises(errors.NotFound):
            act(actions.cancel_now, Subscription(pk=uuid4()), at)

    def test_of_a_released_schedule_is_one_that_is_there(self, pro, at):
        before = everything()
        with pytest.raises(own_errors.InvalidTransition):
            act(actions.release_schedule, pro, at)
        assert everything() == before


class TestLawfulStates:
    """The database refuses what no service writes."""

    @pytest.mark.parametrize(
        ("changes", "constraint"),
        [
            ({"status": "canceled"}, "ended_is_final"),
            ({"ended_at": STARTED}, "ended_is_final"),
            ({"status": "trialing"}, "trial_has_end"),
            ({"status": "incomplete", "incomplete_expires_at": None}, "incomplete_has_end"),
            ({"status": "past_due"}, "past_due_has_grace"),
            ({"resume_at": ENDS}, "resumes_from_pause"),
            ({"change_at": ENDS}, "change_is_whole"),
            ({"end_at": STARTED}, "term_after_start"),
            ({"quantity": 0}, "quantity_positive"),
        ],
    )
    def test_alone_are_stored(self, pro, changes, constraint):
        before = everything()
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            Subscription.objects.filter(pk=pro.pk).update(**changes)
        assert everything() == before

    @pytest.mark.parametrize("status", ["trialing", "active", "past_due", "unpaid", "paused"])
    def test_have_one_live_subscription_per_plan_group(self, pro, at, status):
        twin = Subscription.objects.get(pk=pro.pk)
        twin.pk, twin.status = uuid4(), status
        twin.trial_ends_at, twin.grace_until = ENDS, ENDS
        before = everything()
        with pytest.raises(IntegrityError), transaction.atomic():
            twin.save(force_insert=True)
        assert everything() == before

    def test_have_one_incomplete_per_plan_group(self, customer, at):
        row = factories.subscribe(customer, "pro", at=at, pay=False)
        row.pk = uuid4()
        before = everything()
        with pytest.raises(IntegrityError), transaction.atomic():
            row.save(force_insert=True)
        assert everything() == before
