"""Move the subscribers of one plan version to another: limits now, the price from next period."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core import db, errors
from core.errors import DomainError
from subscriptions import errors as own_errors
from subscriptions import planning, renewals, transitions
from subscriptions.models import PlanVersion, Price, Subscription
from subscriptions.services import moves, settling, timeline
from subscriptions.services.moves import Locked
from subscriptions.services.timeline import Actor
from subscriptions.states import Change, Given

BATCH_MAX = 1_000
EVENT = "migrate_version"


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A subscriber who stays where he is, and why."""

    subscription_id: UUID
    reason: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one batch did, or would do; `last_id` is where the next batch goes on."""

    migrated: tuple[UUID, ...]
    skipped: tuple[Skipped, ...]
    last_id: UUID | None

    @property
    def is_done(self) -> bool:
        """Tell whether no subscriber was left to look at."""
        return self.last_id is None


@dataclass(frozen=True, kw_only=True)
class Migration:
    """From which published version of a plan to which; `is_dry_run` looks and changes nothing."""

    from_version_id: int
    to_version_id: int
    is_dry_run: bool = False


def migrate_subscribers(
    migration: Migration,
    *,
    actor: Actor,
    clock: clocks.Clock,
    batch: int = 100,
    after_id: UUID | None = None,
) -> Report:
    """Move one batch of subscribers, each in a transaction of his own; usage is kept.

    A migrated subscriber no longer has the old version, so a run that was cut off is simply
    repeated; `after_id` passes over those who were skipped. Limits change at once. The price
    follows at the end of the billing period, where no other change is scheduled by then.

    :raises NotFound: for a version that is not there.
    :raises PlanNotAvailable: where the target is not a published version of the same plan.
    """
    source, target = _versions(migration)
    rows = Subscription.objects.filter(plan_version=source).exclude(
        status__in=Subscription.FINAL_STATUSES
    )
    if after_id is not None:
        rows = rows.filter(pk__gt=after_id)
    ids = list(rows.order_by("id").values_list("pk", flat=True)[: min(batch, BATCH_MAX)])
    migrated: list[UUID] = []
    skipped: list[Skipped] = []
    for subscription_id in ids:
        try:
            _migrate_one(subscription_id, migration, target, actor=actor, clock=clock)
        except DomainError as refusal:
            skipped.append(Skipped(subscription_id=subscription_id, reason=refusal.detail))
        else:
            migrated.append(subscription_id)
    return Report(
        migrated=tuple(migrated),
        skipped=tuple(skipped),
        last_id=ids[-1] if ids else None,
    )


def _versions(migration: Migration) -> tuple[PlanVersion, PlanVersion]:
    found = PlanVersion.objects.select_related("plan").in_bulk(
        [migration.from_version_id, migration.to_version_id]
    )
    if len(found) < 2:
        raise errors.NotFound("There are no two such plan versions.")
    source, target = found[migration.from_version_id], found[migration.to_version_id]
    if source.plan_id != target.plan_id or target.status != PlanVersion.Status.PUBLISHED:
        detail = "Subscribers move to a published version of their own plan."
        raise own_errors.PlanNotAvailable(detail)
    return source, target


class _DryRun(Exception):
    """Roll a dry run back: everything was tried, nothing shall stay."""


def _migrate_one(
    subscription_id: UUID,
    migration: Migration,
    target: PlanVersion,
    *,
    actor: Actor,
    clock: clocks.Clock,
) -> None:
    @db.operation
    def run() -> None:
        with db.transaction():
            locked = moves.lock_step(customer_id=moves.customer_of(subscription_id), clock=clock)
            row = locked.get(subscription_id)
            if row.plan_version_id == migration.from_version_id:
                migrate_step(locked, row=row, target=target, actor=actor)
            if migration.is_dry_run:
                raise _DryRun

    try:
        run()
    except _DryRun:
        return


def migrate_step(locked: Locked, *, row: Subscription, target: PlanVersion, actor: Actor) -> None:
    """Move one subscription to the version; the caller took `moves.lock_step`.

    :raises PlanNotAvailable: where the version has no price like the subscriber's.
    :raises SubscriptionEnded, InvalidTransition: where its state does not allow it.
    """
    before = timeline.content_of(row)
    change = Change(
        plan_version_id=target.pk,
        price_id=_price_like(row, target),
        quantity=row.quantity,
        kind=planning.MIGRATION,
        resets_anchor=False,
        effective_at=_next_period(locked, row),
    )
    transitions.take(row, event=EVENT, at=locked.at, given=Given(change=change))
    settling.save_step(row)
    timeline.record_step(
        row,
        before=row.status,
        event=EVENT,
        actor=actor,
        at=locked.at,
        beside={"plan_version_id": (before.plan_version_id, target.pk)},
    )
    timeline.plan_changed_step(
        row, before=before, kind=planning.MIGRATION, effective_at=locked.at, at=locked.at
    )
    timeline.changed_step(row, at=locked.at)


def _next_period(locked: Locked, row: Subscription) -> datetime:
    ends_at = renewals.billing_period(row, at=locked.at).ends_at
    if ends_at is None:
        raise AssertionError  # no price is for a lifetime
    return ends_at


def _price_like(row: Subscription, target: PlanVersion) -> int | None:
    """Return the price of the target of the same key, else of the same currency and interval."""
    if row.price is None:
        return None
    prices = list(target.prices.order_by("id"))
    named = [each for each in prices if each.key == row.price.key]
    alike = [each for each in prices if _is_alike(each, row.price)]
    found = next(iter([*named, *alike]), None)
    if found is None or not _is_alike(found, row.price):
        detail = f"The version has no price like {row.price.key}."
        raise own_errors.PlanNotAvailable(detail)
    return found.pk


def _is_alike(price: Price, other: Price) -> bool:
    return (price.currency, price.interval, price.interval_count) == (
        other.currency,
        other.interval,
        other.interval_count,
    )
