"""Draft, publish and archive plan versions; what is published never changes."""

from collections.abc import Iterator
from datetime import datetime

from django.db.models import F

from core import clock as clocks
from core import db, errors, money
from core.actors import SYSTEM, Actor
from core.services import audit
from subscriptions import errors as own_errors
from subscriptions import locks as own_locks
from subscriptions.models import (
    CatalogRevision,
    Entitlement,
    Feature,
    MeteredPrice,
    Plan,
    PlanVersion,
    Price,
    PriceModel,
)
from subscriptions.terms import TermsInvalid

Status = PlanVersion.Status
Fault = dict[str, str]


@db.operation
def draft(*, plan_id: int, clock: clocks.Clock, actor: Actor = SYSTEM) -> PlanVersion:
    """Return the plan's draft; where there is none, make one that equals its newest version.

    :raises Plan.DoesNotExist: where there is no such plan.
    """
    with db.transaction():
        plan = own_locks.lock_plan(plan_id=plan_id)
        return draft_step(plan=plan, actor=actor, at=clock.now())


def draft_step(*, plan: Plan, at: datetime, actor: Actor = SYSTEM) -> PlanVersion:
    """Return the plan's draft, made from its newest version; the caller holds the plan's lock."""
    db.transaction_required()
    newest = plan.versions.order_by("-number").first()
    if newest is not None and newest.status == Status.DRAFT:
        return newest
    version = PlanVersion(plan=plan, number=1, created_at=at)
    if newest is not None:
        version.number = newest.number + 1
        version.trial_days = newest.trial_days
        version.trial_end_policy = newest.trial_end_policy
        version.grace_seconds = newest.grace_seconds
        version.past_due_policy = newest.past_due_policy
    version.save(force_insert=True)
    if newest is not None:
        _copy_content(newest, version)
    audit.record_step(
        actor=actor,
        action="plan_version.drafted",
        row=version,
        at=at,
        after=audit.snapshot(version),
    )
    return version


def _copy_content(source: PlanVersion, target: PlanVersion) -> None:
    prices = list(source.prices.order_by("id"))
    metered_prices = list(source.metered_prices.order_by("id"))
    entitlements = list(source.entitlements.order_by("id"))
    for price in prices:
        price.pk, price.plan_version = None, target
    for metered_price in metered_prices:
        metered_price.pk, metered_price.plan_version = None, target
    for entitlement in entitlements:
        entitlement.pk, entitlement.plan_version = None, target
    Price.objects.bulk_create(prices)
    MeteredPrice.objects.bulk_create(metered_prices)
    Entitlement.objects.bulk_create(entitlements)


def lock_draft_step(*, plan_version_id: int) -> PlanVersion:
    """Lock a draft until the caller's transaction ends, so that it is edited whole.

    :raises NotFound: where there is no such version.
    :raises InvalidTransition: for a version that is no draft.
    """
    db.transaction_required()
    own_locks.lock_plan(plan_id=_plan_of(plan_version_id))
    version = own_locks.lock_plan_version(plan_version_id=plan_version_id)
    _require_draft(version, detail="only a draft is edited.")
    return version


@db.operation
def publish(*, plan_version_id: int, clock: clocks.Clock, actor: Actor = SYSTEM) -> PlanVersion:
    """Publish a draft: from now on it is immutable, on offer, and the one before archived.

    :raises NotFound: where there is no such version.
    :raises InvalidTransition: for a version that is no draft.
    :raises Invalid: with everything that is wrong with it.
    """
    plan_id = _plan_of(plan_version_id)
    with db.transaction():
        plan = own_locks.lock_plan(plan_id=plan_id)
        own_locks.lock_plan_group(plan_group_id=plan.plan_group_id)
        version = own_locks.lock_plan_version(plan_version_id=plan_version_id)
        _require_draft(version, detail="only a draft is published.")
        faults = faults_of(plan=plan, version=version)
        if faults:
            raise errors.Invalid(faults[0]["detail"], facts={"errors": faults})
        publish_step(plan=plan, version=version, actor=actor, at=clock.now())
        return version


def publish_step(*, plan: Plan, version: PlanVersion, at: datetime, actor: Actor = SYSTEM) -> None:
    """Put a draft without faults on offer, and archive the version before.

    The caller holds the locks of the plan, its group and the version.
    """
    db.transaction_required()
    plan.versions.filter(status=Status.PUBLISHED).update(status=Status.ARCHIVED, archived_at=at)
    version.status, version.published_at = Status.PUBLISHED, at
    version.save(update_fields=["status", "published_at"])
    _record_step(version, before=Status.DRAFT, actor=actor, at=at)
    raise_revision_step()


@db.operation
def archive_version(
    *, plan_version_id: int, clock: clocks.Clock, actor: Actor = SYSTEM
) -> PlanVersion:
    """Take a published version off the offer; its subscribers keep it.

    :raises NotFound: where there is no such version.
    :raises InvalidTransition: for a version that is not published.
    """
    plan_id = _plan_of(plan_version_id)
    with db.transaction():
        own_locks.lock_plan(plan_id=plan_id)
        version = own_locks.lock_plan_version(plan_version_id=plan_version_id)
        if version.status != Status.PUBLISHED:
            detail = f"Version {version.number} is {version.status}; only a published is archived."
            raise own_errors.InvalidTransition(detail)
        at = clock.now()
        version.status, version.archived_at = Status.ARCHIVED, at
        version.save(update_fields=["status", "archived_at"])
        _record_step(version, before=Status.PUBLISHED, actor=actor, at=at)
        raise_revision_step()
        return version


@db.operation
def archive_plan(*, plan_id: int, clock: clocks.Clock, actor: Actor = SYSTEM) -> None:
    """Take a plan off the offer; its subscribers keep it. Archived once is archived."""
    with db.transaction():
        plan = own_locks.lock_plan(plan_id=plan_id)
        _archive_step(plan, actor=actor, at=clock.now())


@db.operation
def archive_feature(*, feature_id: int, clock: clocks.Clock, actor: Actor = SYSTEM) -> None:
    """Keep a feature out of versions published from now on. Archived once is archived."""
    with db.transaction():
        feature = Feature.objects.get(pk=feature_id)
        _archive_step(own_locks.lock_feature(key=feature.key), actor=actor, at=clock.now())


def _require_draft(version: PlanVersion, *, detail: str) -> None:
    if version.status != Status.DRAFT:
        detail = f"Version {version.number} is {version.status}; {detail}"
        raise own_errors.InvalidTransition(detail)


def _archive_step(row: Plan | Feature, *, actor: Actor, at: datetime) -> None:
    if row.archived_at is not None:
        return
    row.archived_at = at
    row.save(update_fields=["archived_at"])
    audit.record_step(
        actor=actor,
        action=f"{type(row).__name__.lower()}.archived",
        row=row,
        at=at,
        before={"archived_at": None},
        after={"archived_at": clocks.rfc3339(at)},
    )
    raise_revision_step()


def _record_step(version: PlanVersion, *, before: str, actor: Actor, at: datetime) -> None:
    """Write the version's move into the audit log."""
    audit.record_step(
        actor=actor,
        action=f"plan_version.{version.status}",
        row=version,
        at=at,
        before={"status": before},
        after={"status": version.status},
    )


def raise_revision_step() -> None:
    """Let every cache of the public catalog miss, once the caller's transaction commits."""
    db.transaction_required()
    CatalogRevision.objects.get_or_create(pk=1)
    CatalogRevision.objects.filter(pk=1).update(number=F("number") + 1)


def _plan_of(plan_version_id: int) -> int:
    version = PlanVersion.objects.filter(pk=plan_version_id).only("plan_id").first()
    if version is None:
        raise errors.NotFound("There is no such plan version.")
    return version.plan_id


def faults_of(*, plan: Plan, version: PlanVersion) -> list[Fault]:
    """Return everything that keeps a draft from being published."""
    return list(_faults(plan, version))


def _faults(plan: Plan, version: PlanVersion) -> Iterator[Fault]:
    for row in version.entitlements.select_related("feature").order_by("feature__key"):
        yield from _entitlement_faults(plan, row)
    for price in version.prices.order_by("key"):
        yield from _price_faults(price)
    granted = set(version.entitlements.filter(enabled=True).values_list("feature_id", flat=True))
    for metered in version.metered_prices.select_related("feature").order_by("feature__key"):
        key = metered.feature.key
        if metered.feature.type != Feature.Type.METERED or metered.feature_id not in granted:
            yield _fault("metered_prices", key, "The version grants no such metered feature.")
        yield from _terms_faults("metered_prices", key, metered)


def _price_faults(price: Price) -> Iterator[Fault]:
    if price.interval == "lifetime":
        yield _fault("prices", price.key, "A price recurs; lifetime is no billing interval.")
    if price.model == PriceModel.PERCENTAGE:
        yield _fault("prices", price.key, "A percentage prices usage; make a metered price.")
    yield from _terms_faults("prices", price.key, price)


def _terms_faults(part: str, key: str, price: Price | MeteredPrice) -> Iterator[Fault]:
    if not money.is_currency(price.currency):
        yield _fault(part, key, f"{price.currency!r} is no currency of ISO 4217.")
    try:
        price.read_terms()
    except TermsInvalid as error:
        yield _fault(part, key, str(error))


def _entitlement_faults(plan: Plan, row: Entitlement) -> Iterator[Fault]:
    if row.feature.archived_at is not None:
        yield _fault("entitlements", row.feature.key, "The feature is archived.")
    if row.feature.type == Feature.Type.METERED:
        yield from _metered_faults(plan, row)
        return
    if row.limit_units is not None or row.mode != Entitlement.Mode.HARD:
        yield _fault("entitlements", row.feature.key, "Only metered features have limits.")
    if row.feature.type == Feature.Type.STATIC and row.enabled and row.value is None:
        yield _fault("entitlements", row.feature.key, "A static feature needs a value.")


def _metered_faults(plan: Plan, row: Entitlement) -> Iterator[Fault]:
    feature = row.feature
    if row.value is not None:
        yield _fault("entitlements", feature.key, "A metered feature has no value.")
    if row.limit_units is None and row.mode != Entitlement.Mode.HARD:
        yield _fault("entitlements", feature.key, "What is unlimited has no overage.")
    if feature.plan_group_id != plan.plan_group_id:
        yield _fault("entitlements", feature.key, "The feature belongs to another plan group.")
    for other in _other_resets(plan, row):
        detail = f"In this plan group it resets every {other[1]} {other[0]}; that is fixed."
        yield _fault("entitlements", feature.key, detail)


def _other_resets(plan: Plan, row: Entitlement) -> list[tuple[str, int]]:
    """Return the reset intervals of the feature in the group's published past, but the row's."""
    published = Entitlement.objects.filter(
        feature_id=row.feature_id,
        plan_version__plan__plan_group_id=plan.plan_group_id,
        plan_version__published_at__isnull=False,
    ).exclude(reset_interval=row.reset_interval, reset_count=row.reset_count)
    return list(published.values_list("reset_interval", "reset_count").distinct()[:1])


def _fault(part: str, key: str, detail: str) -> Fault:
    return {"pointer": f"/{part}/{key}", "code": "not_publishable", "detail": detail}
