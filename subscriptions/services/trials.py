"""Remember who took a trial, without his name, so that there is one per plan group for ever."""

from datetime import datetime

from core import db
from core.models import Customer
from subscriptions import selectors
from subscriptions.models import PlanVersion, TrialMemory


def is_open(*, customer: Customer, plan_version: PlanVersion) -> bool:
    """Tell whether the version offers a trial, and the customer took none in its plan group."""
    if plan_version.trial_days == 0:
        return False
    return plan_version.plan.plan_group.key not in selectors.list_tried_groups(customer=customer)


def remember_step(*, customer: Customer, plan_group_id: int, at: datetime) -> None:
    """Note the trial for good; the caller holds the customer's lock."""
    db.transaction_required()
    TrialMemory.objects.bulk_create(
        [
            TrialMemory(plan_group_id=plan_group_id, identity_hash=identity, taken_at=at)
            for identity in sorted(selectors.identity_hashes(customer=customer))
        ],
        ignore_conflicts=True,
    )
