"""Lock plans and subscriptions, in the order of `core.db.LockRank`."""

from uuid import UUID

from django.db.models import QuerySet

from core import db, statements
from subscriptions.models import Feature, Plan, PlanGroup, PlanVersion, Subscription


def lock_subscriptions(*, customer_id: UUID) -> list[Subscription]:
    """Lock the customer's subscriptions that are not final, by id; the caller holds his lock."""
    db.note_lock(rank=db.LockRank.SUBSCRIPTION, key="")
    return _locked_subscriptions(customer_id=customer_id)


@statements.compiled
def _locked_subscriptions(*, customer_id: UUID) -> "QuerySet[Subscription]":
    return (
        Subscription.objects.filter(customer_id=customer_id)
        .exclude(status__in=Subscription.FINAL_STATUSES)
        .order_by("id")
        .select_for_update(no_key=True, of=("self",))
    )


def lock_plan_group(*, plan_group_id: int) -> PlanGroup:
    """Lock one plan group, and with it the publishing of its plans.

    :raises PlanGroup.DoesNotExist: where there is none.
    """
    db.note_lock(rank=db.LockRank.ROW, key=f"plan group {plan_group_id:020}")
    return PlanGroup.objects.select_for_update(no_key=True, of=("self",)).get(pk=plan_group_id)


def lock_plan(*, plan_id: int) -> Plan:
    """Lock one plan, and with it the editing of its versions.

    :raises Plan.DoesNotExist: where there is none.
    """
    db.note_lock(rank=db.LockRank.ROW, key=f"plan {plan_id:020}")
    return Plan.objects.select_for_update(no_key=True, of=("self",)).get(pk=plan_id)


def lock_plan_version(*, plan_version_id: int) -> PlanVersion:
    """Lock one plan version.

    :raises PlanVersion.DoesNotExist: where there is none.
    """
    db.note_lock(rank=db.LockRank.ROW, key=f"plan version {plan_version_id:020}")
    return PlanVersion.objects.select_for_update(no_key=True, of=("self",)).get(pk=plan_version_id)


def lock_feature(*, key: str) -> Feature:
    """Lock one feature, and with it its emergency switch.

    :raises Feature.DoesNotExist: where there is none.
    """
    db.note_lock(rank=db.LockRank.ROW, key=f"feature {key}")
    return Feature.objects.select_for_update(no_key=True, of=("self",)).get(key=key)
