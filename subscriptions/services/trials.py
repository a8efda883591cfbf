"""Remember who took a trial, without his name, so that there is one per plan group for ever."""

import hashlib
from datetime import datetime

from core import db
from core.models import Customer, Member
from subscriptions.models import PlanVersion, TrialMemory


def identity_hashes(*, customer: Customer) -> set[str]:
    """Return the hashes that stand for the customer: his external key and his members' e-mails.

    They outlive his deletion, and find him again under a new id.
    """
    emails = Member.objects.filter(customer=customer).values_list("user__email", flat=True)
    named = {customer.external_key, *(each.lower() for each in emails if each)}
    return {hashlib.sha256(f"trial of {name}".encode()).hexdigest() for name in named}


def is_open(*, customer: Customer, plan_version: PlanVersion) -> bool:
    """Tell whether the version offers a trial that the customer may take."""
    return plan_version.trial_days > 0 and not has_taken(
        customer=customer, plan_group_id=plan_version.plan.plan_group_id
    )


def has_taken(*, customer: Customer, plan_group_id: int) -> bool:
    """Tell whether the customer, under whatever id, took a trial in the plan group."""
    return TrialMemory.objects.filter(
        plan_group=plan_group_id, identity_hash__in=identity_hashes(customer=customer)
    ).exists()


def remember_step(*, customer: Customer, plan_group_id: int, at: datetime) -> None:
    """Note the trial for good; the caller holds the customer's lock."""
    db.transaction_required()
    TrialMemory.objects.bulk_create(
        [
            TrialMemory(plan_group_id=plan_group_id, identity_hash=identity, taken_at=at)
            for identity in sorted(identity_hashes(customer=customer))
        ],
        ignore_conflicts=True,
    )
