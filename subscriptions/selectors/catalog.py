"""Read the catalog and subscriptions; nothing here writes or locks."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import (
    Prefetch,
    Q,
    QuerySet,
)

from core.models import Customer
from subscriptions import errors, status
from subscriptions.models import (
    CatalogRevision,
    Entitlement,
    Feature,
    MeteredPrice,
    Plan,
    PlanVersion,
    Price,
    Subscription,
    TimelineEntry,
)
from subscriptions.selectors import trials


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
    """Return what the customer holds at the instant, and where he took a trial before."""
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
        tried=frozenset(trials.list_tried_groups(customer=customer)),
    )
