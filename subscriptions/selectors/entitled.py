"""Read what decides a customer's entitlements: his subscriptions, what stands beside them, and
versions, which never change once published and are read once a process.
"""

from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import (
    BigIntegerField,
    CharField,
    DateTimeField,
    F,
    JSONField,
    Q,
    QuerySet,
    UUIDField,
    Value,
)
from django.db.models.functions import Cast

from core import statements
from core.models import Customer
from subscriptions.facts import (
    AdditionFacts,
    CustomerFacts,
    EntitlementFacts,
    VersionFacts,
)
from subscriptions.models import (
    Override,
    PlanVersion,
    Subscription,
    SubscriptionAddOn,
)

DEFAULT = "default"
GAVE_ACCESS = (
    Q(requires_payment=False) | Q(has_payment_method=True) | Q(trial_ends_at__isnull=False)
)
ENTITLEMENT_PATHS = {
    each.name: each.name.replace("feature_key", "feature__key").replace(
        "feature_type", "feature__type"
    )
    for each in fields(EntitlementFacts)
}


def get_customer_facts(*, customer: Customer, ended_after: datetime | None = None) -> CustomerFacts:
    """Return what decides the customer's entitlements, in two statements.

    One more reads versions that are new to this process: published ones never change. Where the
    caller decides, it holds the customer's lock, took `customer` from it, and calls this
    afterwards; where it only shows, a read without locks is enough. Subscriptions that gave
    access and ended after an instant come along where one is given.
    """
    rows = _list_subscriptions(customer_id=customer.pk, ended_after=ended_after)
    return facts_of(customer=customer, rows=rows)


@statements.compiled
def _list_subscriptions(
    *, customer_id: UUID, ended_after: datetime | None
) -> QuerySet[Subscription]:
    wanted = ~Q(status__in=Subscription.FINAL_STATUSES)
    if ended_after is not None:
        wanted |= GAVE_ACCESS & Q(ended_at__gt=ended_after)
    return (
        Subscription.objects.filter(wanted, customer_id=customer_id)
        .select_related("price", "change_price", "plan_version__plan", "change_to__plan")
        .order_by("id")
    )


def facts_of(
    *, customer: Customer, rows: Sequence[Subscription], version_ids: Collection[int] = ()
) -> CustomerFacts:
    """Return the facts of the subscriptions, and what stands beside them, in a statement or two.

    The subscriptions come with their plans; of further versions the plans are read as well.
    """
    beside = _list_beside(customer=customer)
    names = {row.plan_version_id: row.plan_version.plan.name for row in rows}
    names |= {row.change_to.pk: row.change_to.plan.name for row in rows if row.change_to}
    if version_ids:
        further = PlanVersion.objects.filter(pk__in=version_ids)
        names |= dict(further.values_list("pk", "plan__name"))
    default_ids = [each.feature_id for each in beside if each.kind == DEFAULT]
    names |= {each.feature_id: each.key for each in beside if each.kind == DEFAULT}
    found = _find_versions(ids=names.keys())
    versions = {each.id: replace(each, plan_name=names[each.id]) for each in found.values()}
    defaults = sorted((versions[each] for each in default_ids), key=lambda each: -each.number)
    return CustomerFacts(
        customer=customer,
        subscriptions=tuple(row for row in rows if row.ended_at is None),
        versions=versions,
        default_versions=tuple(defaults),
        additions=tuple(each for each in beside if each.kind != DEFAULT),
        ended=tuple(row for row in rows if row.ended_at is not None),
    )


def _list_beside(*, customer: Customer) -> list[AdditionFacts]:
    """Return the customer's add-ons and overrides, and the default plan's versions, at once.

    A version stands in `feature_id`, its plan's name in `key`.
    """
    names = [each.name for each in fields(AdditionFacts)]
    found = []
    for values in _beside(
        customer_id=customer.pk, default_plan_key=settings.ENGINE.default_plan_key
    ):
        row = dict(zip(names, values, strict=True))
        if row["kind"] == "override":
            row["key"] = str(UUID(row["key"]))
        found.append(AdditionFacts(**row))
    return found


@statements.compiled
def _beside(*, customer_id: UUID, default_plan_key: str) -> QuerySet[SubscriptionAddOn, Any]:
    default = _default_versions(default_plan_key)
    return _add_ons(customer_id).union(_overrides(customer_id), default, all=True)


def _add_ons(customer_id: UUID) -> QuerySet[SubscriptionAddOn, Any]:
    return SubscriptionAddOn.objects.filter(
        customer_id=customer_id, add_on__entitlements__isnull=False
    ).values_list(
        Value("add_on"),
        "add_on__key",
        "add_on__entitlements__feature_id",
        "add_on__entitlements__feature__key",
        "add_on__entitlements__feature__type",
        "add_on__entitlements__units",
        "add_on__entitlements__is_unlimited",
        "add_on__entitlements__value",
        "add_on__entitlements__priority",
        "quantity",
        "subscription_id",
        "starts_at",
        "ends_at",
    )


def _overrides(customer_id: UUID) -> QuerySet[Override, Any]:
    return Override.objects.filter(customer_id=customer_id).values_list(
        Value("override"),
        Cast("id", CharField()),
        "feature_id",
        "feature__key",
        "feature__type",
        "units",
        "is_unlimited",
        "value",
        "priority",
        Value(1),
        Cast(Value(None), UUIDField()),
        "starts_at",
        "ends_at",
    )


def _default_versions(plan_key: str) -> QuerySet[PlanVersion, Any]:
    return PlanVersion.objects.filter(plan__key=plan_key, published_at__isnull=False).values_list(
        Value(DEFAULT),
        "plan__name",
        "id",
        "plan__key",
        Value(""),
        Cast(Value(None), BigIntegerField()),
        Value(value=False),
        Cast(Value(None), JSONField()),
        Value(0),
        Value(1),
        Cast(Value(None), UUIDField()),
        "published_at",
        Cast(Value(None), DateTimeField()),
    )


_versions_by_id: dict[int, VersionFacts] = {}


def _find_versions(*, ids: Collection[int]) -> dict[int, VersionFacts]:
    """Return the versions with all that they grant; each published one is read once a process."""
    found = {each: _versions_by_id[each] for each in ids if each in _versions_by_id}
    unknown = set(ids) - found.keys()
    if unknown:
        read = _list_versions(wanted=unknown)
        _versions_by_id.update(
            {each.id: each for each in read.values() if each.published_at is not None}
        )
        found |= read
    return found


def _list_versions(*, wanted: set[int]) -> dict[int, VersionFacts]:
    """Return the versions with all that they grant, in one statement."""
    rows = (
        PlanVersion.objects.filter(pk__in=wanted)
        .order_by("id")
        .values(
            "id",
            "number",
            "published_at",
            plan_key=F("plan__key"),
            plan_name=F("plan__name"),
            plan_group_id=F("plan__plan_group_id"),
            plan_group_key=F("plan__plan_group__key"),
            **{name: F(f"entitlements__{path}") for name, path in ENTITLEMENT_PATHS.items()},
        )
    )
    versions: dict[int, VersionFacts] = {}
    for found in rows:
        row: dict[str, Any] = dict(found)
        granted = {name: row.pop(name) for name in ENTITLEMENT_PATHS}
        version = versions.setdefault(row["id"], VersionFacts(**row, entitlements={}))
        if granted["feature_id"] is not None:
            version.entitlements[granted["feature_key"]] = EntitlementFacts(**granted)
    return versions


def forget_versions() -> None:
    """Empty this process's copy of the versions."""
    _versions_by_id.clear()
