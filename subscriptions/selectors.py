"""Read the catalog and subscriptions; nothing here writes or locks."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import (
    CharField,
    F,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    UUIDField,
    Value,
)
from django.db.models.functions import Cast

from core.models import Customer
from subscriptions import errors, status
from subscriptions.facts import (
    AdditionFacts,
    CustomerFacts,
    EntitlementFacts,
    FeatureFacts,
    VersionFacts,
)
from subscriptions.models import (
    CatalogRevision,
    Entitlement,
    Feature,
    MeteredPrice,
    Override,
    Plan,
    PlanVersion,
    Price,
    Subscription,
    SubscriptionAddOn,
    TimelineEntry,
)

ENTITLEMENT_PATHS = {
    each.name: each.name.replace("feature_key", "feature__key").replace(
        "feature_type", "feature__type"
    )
    for each in fields(EntitlementFacts)
}


def get_customer_facts(*, customer: Customer) -> CustomerFacts:
    """Return what decides the customer's entitlements, in three statements.

    Where the caller decides, it holds the customer's lock, took `customer` from it, and calls
    this afterwards; where it only shows, a read without locks is enough.
    """
    subscriptions = tuple(
        Subscription.objects.filter(customer=customer)
        .exclude(status__in=Subscription.FINAL_STATUSES)
        .select_related("price", "change_price")
        .order_by("id")
    )
    wanted = {row.plan_version_id for row in subscriptions}
    wanted |= {row.change_to_id for row in subscriptions if row.change_to_id is not None}
    default_plan_key = settings.ENGINE.default_plan_key
    versions = _list_versions(wanted=wanted, default_plan_key=default_plan_key)
    defaults = [
        version
        for version in versions.values()
        if version.plan_key == default_plan_key and version.published_at is not None
    ]
    return CustomerFacts(
        customer=customer,
        subscriptions=subscriptions,
        versions=versions,
        default_versions=tuple(sorted(defaults, key=lambda each: each.number, reverse=True)),
        additions=_list_additions(customer=customer),
    )


def _list_additions(*, customer: Customer) -> tuple[AdditionFacts, ...]:
    """Return the customer's add-ons and overrides, in one statement."""
    add_ons = SubscriptionAddOn.objects.filter(customer=customer).values_list(
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
    overrides = Override.objects.filter(customer=customer).values_list(
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
    names = [each.name for each in fields(AdditionFacts)]
    found = [dict(zip(names, row, strict=True)) for row in add_ons.union(overrides, all=True)]
    return tuple(
        AdditionFacts(
            **row | {"key": str(UUID(row["key"])) if row["kind"] == "override" else row["key"]}
        )
        for row in found
        if row["feature_id"] is not None
    )


def _list_versions(*, wanted: set[int], default_plan_key: str) -> dict[int, VersionFacts]:
    """Return the versions with all that they grant, in one statement."""
    rows = (
        PlanVersion.objects.filter(
            Q(pk__in=wanted) | Q(plan__key=default_plan_key, published_at__isnull=False)
        )
        .order_by("id")
        .values(
            "id",
            "number",
            "status",
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


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """A plan on offer that grants more of a feature; `limit_units` None means unlimited."""

    plan_key: str
    limit_units: int | None


def list_upgrades(*, feature_id: int, above_units: int | None) -> list[Upgrade]:
    """Return the plans on offer whose limit lies above, lowest rank first; none above unlimited."""
    if above_units is None:
        return []
    offered = Entitlement.objects.filter(
        Q(limit_units__gt=above_units) | Q(limit_units__isnull=True),
        feature_id=feature_id,
        enabled=True,
        plan_version__status=PlanVersion.Status.PUBLISHED,
        plan_version__plan__archived_at__isnull=True,
        plan_version__plan__is_public=True,
    ).order_by("plan_version__plan__rank", "plan_version__plan__key")
    return [
        Upgrade(plan_key=plan_key, limit_units=limit_units)
        for plan_key, limit_units in offered.values_list("plan_version__plan__key", "limit_units")
    ]


_features_by_key: dict[str, FeatureFacts] = {}
_features_by_id: dict[int, FeatureFacts] = {}


def find_features(*, keys: Collection[str]) -> dict[str, FeatureFacts]:
    """Return the features that exist among the keys.

    One that a published version grants is immutable, so it is read once a process.
    """
    found = {key: _features_by_key[key] for key in keys if key in _features_by_key}
    unknown = set(keys) - found.keys()
    if unknown:
        found |= {each.key: each for each in _read_features(Q(key__in=unknown))}
    return found


def features_by_id(*, ids: Collection[int]) -> dict[int, FeatureFacts]:
    """Return the features of the ids."""
    found = {each: _features_by_id[each] for each in ids if each in _features_by_id}
    unknown = set(ids) - found.keys()
    if unknown:
        found |= {each.id: each for each in _read_features(Q(pk__in=unknown))}
    return found


def _read_features(condition: Q) -> list[FeatureFacts]:
    """Return the features with their reset interval, in one statement."""
    granted = Entitlement.objects.filter(
        feature=OuterRef("pk"), plan_version__published_at__isnull=False
    ).order_by("id")
    rows = Feature.objects.filter(condition).values_list(
        "id",
        "key",
        "type",
        "plan_group_id",
        "scope",
        "is_allocated",
        "pool_id",
        "pool__key",
        "pool_rate_units",
        Subquery(granted.values("reset_interval")[:1]),
        Subquery(granted.values("reset_count")[:1]),
    )
    found = [_feature_facts(*row) for row in rows]
    published = [each for each in found if each.is_published]
    _features_by_key.update({each.key: each for each in published})
    _features_by_id.update({each.id: each for each in published})
    return found


def _feature_facts(*row: Any) -> FeatureFacts:  # noqa: ANN401 - one row of the statement
    *own, pool_id, pool_key, rate, interval, count = row
    names = ("id", "key", "type", "plan_group_id", "scope", "is_allocated")
    return FeatureFacts(
        **dict(zip(names, own, strict=True)),
        pool_id=pool_id,
        pool_key=pool_key or "",
        pool_rate_units=rate or 1,
        reset_interval=interval or "month",
        reset_count=count or 1,
        is_published=interval is not None,
    )


def get_feature(*, key: str) -> FeatureFacts:
    """Return the feature of the key.

    :raises FeatureUnknown: where there is none.
    """
    found = find_features(keys=[key]) if key.isprintable() else {}
    if key not in found:
        raise errors.FeatureUnknown.named(key)
    return found[key]


def forget_features() -> None:
    """Empty this process's copy of the features; for tests that undo what they created."""
    _features_by_key.clear()
    _features_by_id.clear()


def find_offered_version(*, plan_key: str) -> PlanVersion | None:
    """Return the published version of a plan on offer; None where there is none."""
    return (
        PlanVersion.objects.filter(
            plan__key=plan_key,
            plan__archived_at__isnull=True,
            plan__is_public=True,
            status=PlanVersion.Status.PUBLISHED,
        )
        .select_related("plan__plan_group")
        .first()
    )


def get_offered_version(*, plan_key: str) -> PlanVersion:
    """Return the published version of a plan on offer.

    :raises PlanUnknown, PlanNotAvailable: for a plan that is not there or not on offer.
    """
    version = find_offered_version(plan_key=plan_key)
    if version is not None:
        return version
    if has_plan(key=plan_key):
        detail = f"The plan {plan_key!r} is not on offer."
        raise errors.PlanNotAvailable(detail, facts={"plan": plan_key})
    raise errors.PlanUnknown.named(plan_key)


def has_plan(*, key: str) -> bool:
    """Tell whether a plan has the key."""
    return Plan.objects.filter(key=key).exists()


def get_catalog_revision() -> int:
    """Return the number that every publication raises."""
    return CatalogRevision.objects.filter(pk=1).values_list("number", flat=True).first() or 0


def list_offered_versions() -> list[PlanVersion]:
    """Return the published versions of the plans on offer, with all content, by rank."""
    return list(
        PlanVersion.objects.filter(
            status=PlanVersion.Status.PUBLISHED,
            plan__archived_at__isnull=True,
            plan__is_public=True,
        )
        .select_related("plan__plan_group")
        .prefetch_related(
            Prefetch("prices", Price.objects.order_by("id")),
            Prefetch(
                "metered_prices",
                MeteredPrice.objects.select_related("feature").order_by("feature__key", "currency"),
            ),
            Prefetch(
                "entitlements",
                Entitlement.objects.select_related("feature").order_by("feature__key"),
            ),
        )
        .order_by("plan__plan_group__key", "plan__rank", "plan__key")
    )


def list_features() -> QuerySet[Feature]:
    """Return the features that are not archived, by key."""
    return Feature.objects.filter(archived_at__isnull=True).order_by("key")


def list_subscriptions(*, customer: Customer) -> QuerySet[Subscription]:
    """Return all subscriptions of the customer."""
    return Subscription.objects.filter(customer=customer).select_related(
        "plan_version__plan", "price"
    )


def list_timeline(*, customer: Customer) -> QuerySet[TimelineEntry]:
    """Return every transition of the customer's subscriptions."""
    return TimelineEntry.objects.filter(customer=customer)


@dataclass(frozen=True, kw_only=True)
class Eligibility:
    """What a customer may do with a plan on offer, when it takes effect, and whether on trial."""

    action: str
    effective: str
    trial: bool


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """What a customer holds that decides his eligibility, by plan group key."""

    live: dict[str, Plan]
    tried: frozenset[str]

    def eligibility(
        self, *, plan_key: str, group_key: str, rank: int, trial_days: int
    ) -> Eligibility:
        """Return what the customer may do with a plan on offer."""
        current = self.live.get(group_key)
        if current is None:
            is_default = plan_key == settings.ENGINE.default_plan_key
            return Eligibility(
                action="current" if is_default else "subscribe",
                effective="now",
                trial=trial_days > 0 and group_key not in self.tried,
            )
        if plan_key == current.key:
            return Eligibility(action="current", effective="now", trial=False)
        if rank > current.rank:
            return Eligibility(action="upgrade", effective="now", trial=False)
        return Eligibility(action="downgrade", effective="period_end", trial=False)


def get_holdings(*, customer: Customer, at: datetime) -> Holdings:
    """Return what the customer holds at the instant, in one statement."""
    rows = list(
        Subscription.objects.filter(customer=customer).select_related(
            "plan_group", "plan_version__plan"
        )
    )
    return Holdings(
        live={
            row.plan_group.key: row.plan_version.plan
            for row in rows
            if status.standing(row, at=at).status in Subscription.SLOT_STATUSES
        },
        tried=frozenset(row.plan_group.key for row in rows if row.trial_ends_at is not None),
    )
