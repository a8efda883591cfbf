"""Move subscriptions by hand: end, keep, pause, resume and change them, by the services."""

from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
)

from core.admin.operations import Asked, Consequence, Done, Operation, ReasonForm
from core.admin.text import instant
from subscriptions import planning, renewals, selectors
from subscriptions.admin import comparison
from subscriptions.models import Subscription
from subscriptions.planning import ChangePlan
from subscriptions.services import actions, changes

Status = Subscription.Status
POLICIES = {
    planning.KEEP: "keep what is used",
    planning.PRORATE_LIMIT: "keep it, and prorate the limit",
    planning.RESET: "start at 0",
    planning.CARRY_BALANCE: "carry what is left over",
}
WHEN = {"": "as the rule says", planning.NOW: "now", planning.PERIOD_END: "at the period's end"}


class CancelNow(Operation[Subscription]):
    """End a subscription at once."""

    name = "cancel_now"
    title = "Cancel now"
    permission = "subscriptions.cancel_subscription"
    icon = "cancel"
    is_dangerous = True

    def is_offered(self, row: Subscription) -> bool:
        """Offer it until it has ended."""
        return row.status not in Subscription.FINAL_STATUSES

    def consequence(self, asked: Asked[Subscription]) -> Consequence:
        """Tell what ends."""
        row = asked.row
        return Consequence(
            sentences=(
                (
                    f"{row.customer.name} loses {row.plan_version.plan.name} at once;"
                    " the default plan takes over where there is one."
                ),
                (
                    "Usage is kept. A subscription that has ended never revives:"
                    " the customer would subscribe again."
                ),
            )
        )

    def run(self, asked: Asked[Subscription]) -> Done:
        """End it."""
        actions.cancel_now(subscription_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message="The subscription is canceled.")


class CancelAtPeriodEnd(Operation[Subscription]):
    """Let a subscription end with its period."""

    name = "cancel_at_period_end"
    title = "Cancel at the period's end"
    permission = "subscriptions.cancel_subscription"
    icon = "event_busy"

    def is_offered(self, row: Subscription) -> bool:
        """Offer it while it runs on."""
        return row.status in Subscription.SLOT_STATUSES and row.cancel_at is None

    def consequence(self, asked: Asked[Subscription]) -> Consequence:
        """Tell when it ends."""
        period = renewals.billing_period(asked.row, at=asked.clock.now())
        return Consequence(
            sentences=(
                (
                    f"It ends {instant(asked.row.trial_ends_at or period.ends_at)}; access lasts"
                    " until then."
                ),
                "It can be undone until that instant.",
            )
        )

    def run(self, asked: Asked[Subscription]) -> Done:
        """Let it end."""
        row = actions.cancel_at_period_end(
            subscription_id=asked.row.pk, actor=asked.actor, clock=asked.clock
        )
        return Done(message=f"It ends {instant(row.cancel_at)}.")


class UndoCancel(Operation[Subscription]):
    """Take a cancellation back."""

    name = "undo_cancel"
    title = "Undo cancellation"
    permission = "subscriptions.cancel_subscription"
    icon = "undo"

    def is_offered(self, row: Subscription) -> bool:
        """Offer it while one is ahead."""
        return row.cancel_at is not None and row.status not in Subscription.FINAL_STATUSES

    def consequence(self, asked: Asked[Subscription]) -> Consequence:
        """Tell that it goes on."""
        return Consequence(
            sentences=(f"It does not end {instant(asked.row.cancel_at)}, and renews as before.",)
        )

    def run(self, asked: Asked[Subscription]) -> Done:
        """Take it back."""
        actions.undo_cancel(subscription_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message="The subscription goes on.")


class PauseForm(ReasonForm):
    """Ask how long."""

    resume_at = forms.SplitDateTimeField(
        required=False,
        label="Resumes at",
        help_text="Empty means until somebody resumes it.",
        widget=UnfoldAdminSplitDateTimeWidget,
    )
    field_order = ("resume_at", "reason")


class Pause(Operation[Subscription]):
    """Take access away for a while."""

    name = "pause"
    title = "Pause"
    permission = "subscriptions.pause_subscription"
    icon = "pause"
    form = PauseForm
    previews = True

    def is_offered(self, row: Subscription) -> bool:
        """Offer it for what is active."""
        return row.status == Status.ACTIVE

    def consequence(self, asked: Asked[Subscription]) -> Consequence:
        """Tell what stops and what runs on."""
        until = instant(asked.values["resume_at"], none="somebody resumes it")
        return Consequence(
            sentences=(
                f"{asked.row.customer.name} has no access from now until {until}.",
                "Period, anchor and usage run on unchanged.",
            )
        )

    def run(self, asked: Asked[Subscription]) -> Done:
        """Pause it."""
        actions.pause(
            subscription_id=asked.row.pk,
            resume_at=asked.values["resume_at"],
            actor=asked.actor,
            clock=asked.clock,
        )
        return Done(message="The subscription is paused.")


class Resume(Operation[Subscription]):
    """Give access back."""

    name = "resume"
    title = "Resume"
    permission = "subscriptions.pause_subscription"
    icon = "play_arrow"

    def is_offered(self, row: Subscription) -> bool:
        """Offer it for what is paused."""
        return row.status == Status.PAUSED

    def consequence(self, asked: Asked[Subscription]) -> Consequence:
        """Tell what comes back."""
        return Consequence(
            sentences=(f"{asked.row.customer.name} has access at once, in the period that runs.",)
        )

    def run(self, asked: Asked[Subscription]) -> Done:
        """Resume it."""
        actions.resume(subscription_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message="The subscription is active.")


class ExtendTrialForm(ReasonForm):
    """Ask until when."""

    ends_at = forms.SplitDateTimeField(label="Ends at", widget=UnfoldAdminSplitDateTimeWidget)
    field_order = ("ends_at", "reason")

    def adapt(self, row: object) -> None:
        """Begin with the end that it has."""
        if isinstance(row, Subscription):
            self.fields["ends_at"].initial = row.trial_ends_at


class ExtendTrial(Operation[Subscription]):
    """Let a trial last longer."""

    name = "extend_trial"
    title = "Extend trial"
    permission = "subscriptions.change_subscription"
    icon = "more_time"
    form = ExtendTrialForm
    previews = True

    def is_offered(self, row: Subscription) -> bool:
        """Offer it while the trial lasts."""
        return row.status == Status.TRIALING

    def consequence(self, asked: Asked[Subscription]) -> Consequence:
        """Tell until when, and what moves along."""
        former, ends_at = asked.row.trial_ends_at, asked.values["ends_at"]
        scheduled = (asked.row.cancel_at, asked.row.change_at)
        moved = ("What is scheduled for the trial's end moves along.",)
        return Consequence(
            sentences=(
                f"The trial ends {instant(ends_at)} instead of {instant(former)}.",
                *(moved if former in scheduled else ()),
            )
        )

    def run(self, asked: Asked[Subscription]) -> Done:
        """Extend it."""
        row = actions.extend_trial(
            subscription_id=asked.row.pk,
            ends_at=asked.values["ends_at"],
            actor=asked.actor,
            clock=asked.clock,
        )
        return Done(message=f"The trial ends {instant(row.trial_ends_at)}.")


class ChangeForm(ReasonForm):
    """Ask for the plan, and how it is to be changed to."""

    plan = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    quantity = forms.IntegerField(
        min_value=1, max_value=planning.QUANTITY_MAX, widget=UnfoldAdminIntegerFieldWidget
    )
    when = forms.ChoiceField(
        choices=list(WHEN.items()),
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="The rule: an upgrade now, a downgrade at the period's end.",
    )
    usage_policy = forms.ChoiceField(
        choices=list(POLICIES.items()), label="Usage", widget=UnfoldAdminSelectWidget
    )
    field_order = ("plan", "quantity", "when", "usage_policy", "reason")

    def adapt(self, row: object) -> None:
        """Offer the plans of the subscription's group."""
        if isinstance(row, Subscription):
            self.offer(
                "plan",
                [
                    (each.plan.key, f"{each.plan.name} v{each.number}")
                    for each in selectors.list_offered_versions()
                    if each.plan.plan_group_id == row.plan_group_id
                ],
            )
            self.fields["plan"].initial = row.plan_version.plan.key
            self.fields["quantity"].initial = row.quantity


class ChangePlanOperation(Operation[Subscription]):
    """Move a subscription to another plan or quantity."""

    name = "change_plan"
    title = "Change plan"
    permission = "subscriptions.change_subscription"
    icon = "swap_horiz"
    form = ChangeForm
    previews = True

    def is_offered(self, row: Subscription) -> bool:
        """Offer it for what is live."""
        return row.status in (Status.ACTIVE, Status.TRIALING)

    def consequence(self, asked: Asked[Subscription]) -> Consequence:
        """Tell what changes and when, by the plan that the change itself would follow."""
        plan = changes.preview_of(
            subscription_id=asked.row.pk, order=_order(asked), clock=asked.clock
        )
        return Consequence(
            sentences=_sentences(plan),
            tables=(comparison.table(before=plan.from_version, after=plan.to_version),),
        )

    def run(self, asked: Asked[Subscription]) -> Done:
        """Change it."""
        changes.change(
            subscription_id=asked.row.pk,
            order=_order(asked),
            actor=asked.actor,
            clock=asked.clock,
        )
        return Done(message="The change is made or scheduled; the timeline shows it.")


def _order(asked: Asked[Any]) -> changes.ChangeOrder:
    return changes.ChangeOrder(
        plan_key=asked.values["plan"],
        quantity=asked.values["quantity"],
        usage_policy=asked.values["usage_policy"],
        when=asked.values["when"] or None,
    )


def _sentences(plan: ChangePlan) -> tuple[str, ...]:
    was = comparison.price_text(plan.from_price) if plan.from_price else "free"
    now = comparison.price_text(plan.to_price) if plan.to_price else "free"
    when = "now" if plan.is_immediate else instant(plan.effective_at)
    return (
        f"{plan.kind.capitalize()}: {plan.from_version} becomes {plan.to_version}, {when}.",
        f"Price: {plan.from_quantity} × {was} becomes {plan.to_quantity} × {now}.",
        f"Usage: {POLICIES[plan.usage_policy]}.",
    )


OPERATIONS = (
    CancelNow,
    CancelAtPeriodEnd,
    UndoCancel,
    Pause,
    Resume,
    ExtendTrial,
    ChangePlanOperation,
)
