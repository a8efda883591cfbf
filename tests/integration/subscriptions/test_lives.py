"""Random lives of a subscription: every step legal by the vectors, refusals change nothing.

Set LIVES and STEPS for the long run.
"""

import itertools
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from core import clock as clocks
from core.errors import DomainError
from core.models import Customer, OutboxEvent
from core.services.idempotency import KeyedRequest
from subscriptions import renewals, status
from subscriptions.models import Subscription, TimelineEntry
from subscriptions.services import actions, changes, lifecycle, payments, sweeping
from subscriptions.services.changes import ChangeOrder
from tests import factories

STARTED = datetime(2026, 1, 31, 10, tzinfo=UTC)
LIVES, STEPS = int(os.environ.get("LIVES", "8")), int(os.environ.get("STEPS", "25"))
VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "transitions.json").read_text())
MATRIX = {
    (each["from"], each["event"]): each["to"]
    for each in VECTORS["matrix"]
    if each["result"] == "ok"
}
PLANS = ("basic", "pro", "max", "try")
hours = st.integers(1, 24 * 40)


def make_plans() -> None:
    factories.make_plan("free", at=STARTED)
    factories.make_plan("basic", at=STARTED, rank=1)
    factories.make_plan("pro", at=STARTED, rank=2, price_minor=2900)
    factories.make_plan("max", at=STARTED, rank=3, price_minor=9900)
    factories.make_plan(
        "try",
        at=STARTED,
        rank=1,
        price_minor=500,
        version={"trial_days": 14, "trial_end_policy": "create_invoice"},
    )


def refusal_of(call) -> str:
    """Return the code by which the call is refused, or nothing."""
    try:
        call()
    except DomainError as refusal:
        return refusal.code
    return ""


class Life(RuleBasedStateMachine):
    """One customer's subscriptions, moved at random through months."""

    @initialize()
    def begin(self):
        self.now = STARTED
        self.customer = factories.make_customer(at=STARTED)
        self.numbers = itertools.count()

    @property
    def clock(self) -> clocks.FixedClock:
        return clocks.FixedClock(at=self.now)

    def rows(self):
        return Subscription.objects.filter(customer=self.customer)

    def newest(self) -> Subscription | None:
        return self.rows().order_by("-id").first()

    def everything(self) -> tuple:
        return (
            list(self.rows().order_by("pk").values()),
            TimelineEntry.objects.filter(customer=self.customer).count(),
            OutboxEvent.objects.filter(customer=self.customer).count(),
            list(Customer.objects.filter(pk=self.customer.pk).values()),
        )

    def attempt(self, event, operation) -> None:
        """Do it, and hold what came of it to the matrix of the vectors."""
        row = self.newest()
        if row is None:
            return
        before, effective = self.everything(), status.standing(row, at=self.now).status
        refused = refusal_of(lambda: operation(row))
        if refused:
            assert self.everything() == before
        if (effective, event) not in MATRIX:
            is_final = effective in Subscription.FINAL_STATUSES
            assert refused == ("subscription_ended" if is_final else "invalid_transition")
        elif not refused:
            row.refresh_from_db()
            assert row.status in MATRIX[effective, event]

    def by_id(self, event, operation, *, given=None) -> None:
        self.attempt(
            event,
            lambda row: operation(
                subscription_id=row.pk, actor=factories.ACTOR, clock=self.clock, **(given or {})
            ),
        )

    @rule(length=hours)
    def let_time_pass(self, length):
        self.now += timedelta(hours=length)

    @rule()
    def sweep(self):
        sweeping.settle_free(customer_id=self.customer.pk, clock=self.clock)
        assert not self.rows().filter(due_at__lte=self.now).exists()

    @rule(plan=st.sampled_from(PLANS))
    def subscribe(self, plan):
        before = self.everything()
        refused = refusal_of(
            lambda: lifecycle.subscribe(
                customer_id=self.customer.pk,
                order=lifecycle.Order(plan_key=plan),
                actor=factories.ACTOR,
                keyed=KeyedRequest(key=f"s{next(self.numbers)}", fingerprint="f"),
                render=lambda row, _: {"id": str(row.pk)},
                clock=self.clock,
            )
        )
        if refused:
            assert (refused, self.everything()) == ("subscription_exists", before)

    @rule()
    def cancel_now(self):
        self.by_id("cancel_now", actions.cancel_now)

    @rule()
    def cancel_at_period_end(self):
        self.by_id("schedule_cancel", actions.cancel_at_period_end)

    @rule()
    def undo_cancel(self):
        self.by_id("undo_cancel", actions.undo_cancel)

    @rule(length=st.none() | hours)
    def pause(self, length):
        resume_at = None if length is None else self.now + timedelta(hours=length)
        self.by_id("pause", actions.pause, given={"resume_at": resume_at})

    @rule()
    def resume(self):
        self.by_id("resume", actions.resume)

    @rule()
    def pay(self):
        self.by_id("payment_succeeded", payments.succeed)

    @rule(event=st.sampled_from(["payment_failed", "retries_exhausted"]))
    def fail(self, event):
        self.by_id(event, payments.note, given={"event": event})

    @rule(
        plan=st.sampled_from(PLANS),
        quantity=st.none() | st.integers(1, 5),
        is_previewed=st.booleans(),
    )
    def change(self, plan, quantity, is_previewed):
        order, row = ChangeOrder(plan_key=plan, quantity=quantity), self.newest()
        if row is None:
            return
        plans: list = []
        if is_previewed:
            refusal_of(
                lambda: plans.append(
                    changes.preview(customer_id=self.customer.pk, order=order, clock=self.clock)
                )
            )
            self.now += timedelta(minutes=1)
        before, effective = self.everything(), status.standing(row, at=self.now).status
        proration_at = plans[0].at if plans else None
        refused = refusal_of(
            lambda: changes.change(
                subscription_id=row.pk,
                order=order,
                actor=factories.ACTOR,
                clock=self.clock,
                proration_at=proration_at,
            )
        )
        if refused:
            assert refused in {
                "invalid",
                "invalid_transition",
                "subscription_ended",
                "preview_stale",
            }
            assert self.everything() == before
            return
        assert effective in {"active", "trialing", "past_due"}
        row.refresh_from_db()
        if plans and plans[0].is_immediate:
            assert (row.plan_version_id, row.quantity) == (
                plans[0].to_version.pk,
                plans[0].to_quantity,
            )

    @invariant()
    def one_is_live_and_all_agree(self):
        if not hasattr(self, "customer"):
            return
        rows = list(self.rows())
        live = [row for row in rows if row.status in Subscription.SLOT_STATUSES]
        assert len(live) <= 1
        for row in rows:
            due = renewals.next_due(row)
            assert row.due_at == (due.at if due else None)
            steps = list(row.timeline.order_by("id").values_list("from_status", "to_status", "at"))
            assert steps[-1][1] == row.status
            assert [each[1] for each in steps[:-1]] == [each[0] for each in steps[1:]]
            assert [each[2] for each in steps] == sorted(each[2] for each in steps)

    @invariant()
    def no_period_is_renewed_twice(self):
        if not hasattr(self, "customer"):
            return
        told = OutboxEvent.objects.filter(
            customer=self.customer, event_type="subscription.renewed"
        ).values_list("payload", flat=True)
        periods = [(each["subscription"], each["period_starts_at"]) for each in told]
        assert len(set(periods)) == len(periods)


@pytest.mark.timeout(3600)
@pytest.mark.django_db
def test_lives_are_legal_and_leave_no_illegal_state():
    make_plans()
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=LIVES,
            derandomize="LIVES" not in os.environ,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
