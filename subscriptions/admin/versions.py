"""Edit plan versions while they are drafts; publish, compare and archive them."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Prefetch, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from core.admin import base
from core.admin.operations import Asked, Consequence, Done, Inspection, Operation, Table
from subscriptions import errors
from subscriptions.admin import comparison
from subscriptions.admin.content import (
    EntitlementInline,
    MeteredPriceInline,
    PriceInline,
    is_draft,
)
from subscriptions.models import PlanVersion, Price, Subscription
from subscriptions.services import catalog, migration

MIGRATED_AT_ONCE = 200
Status = PlanVersion.Status
COLORS = {Status.DRAFT: "info", Status.PUBLISHED: "success", Status.ARCHIVED: "default"}


class PublishVersion(Operation[PlanVersion]):
    """Put a draft on offer."""

    name = "publish_version"
    title = "Publish"
    permission = "subscriptions.publish_planversion"
    icon = "publish"

    def is_offered(self, row: PlanVersion) -> bool:
        """Offer it for drafts."""
        return row.status == Status.DRAFT

    def consequence(self, asked: Asked[PlanVersion]) -> Consequence:
        """Tell what becomes of the version before, and what differs."""
        draft = asked.row
        before = comparison.find_before(draft)
        sentences = [
            (
                f"Version {draft.number} of {draft.plan.name} is on offer at once,"
                " and can never be changed again."
            ),
        ]
        published = draft.plan.versions.filter(status=Status.PUBLISHED).first()
        if published is not None:
            live = _count_live(published)
            sentences.append(
                f"Version {published.number} is archived; its {live} live subscriptions keep it."
            )
        return Consequence(
            sentences=sentences, tables=(comparison.table(before=before, after=draft),)
        )

    def run(self, asked: Asked[PlanVersion]) -> Done:
        """Publish it."""
        version = catalog.publish(
            plan_version_id=asked.row.pk, actor=asked.actor, clock=asked.clock
        )
        return Done(message=f"Version {version.number} is published.")


class ArchiveVersion(Operation[PlanVersion]):
    """Take a version off the offer."""

    name = "archive_version"
    title = "Archive"
    permission = "subscriptions.archive_planversion"
    icon = "archive"
    is_dangerous = True

    def is_offered(self, row: PlanVersion) -> bool:
        """Offer it for what is published."""
        return row.status == Status.PUBLISHED

    def consequence(self, asked: Asked[PlanVersion]) -> Consequence:
        """Tell who keeps it."""
        return Consequence(
            sentences=(
                f"{asked.row.plan.name} is off the offer until another version is published.",
                f"The {_count_live(asked.row)} live subscriptions of this version go on unchanged.",
                "It cannot be undone; a new version can be drafted from it.",
            )
        )

    def run(self, asked: Asked[PlanVersion]) -> Done:
        """Archive it."""
        version = catalog.archive_version(
            plan_version_id=asked.row.pk, actor=asked.actor, clock=asked.clock
        )
        return Done(message=f"Version {version.number} is archived.")


class NextVersion(Operation[PlanVersion]):
    """Open the plan's draft from one of its versions."""

    name = "next_version"
    title = "New version"
    permission = "subscriptions.add_planversion"
    icon = "note_add"

    def is_offered(self, row: PlanVersion) -> bool:
        """Offer it beside what can no longer be edited."""
        return row.status != Status.DRAFT

    def consequence(self, asked: Asked[PlanVersion]) -> Consequence:
        """Tell what the draft starts from."""
        newest = asked.row.plan.versions.order_by("-number")[0]
        if newest.status == Status.DRAFT:
            return Consequence(sentences=(f"Version {newest.number} is a draft already: edit it.",))
        sentences = (
            f"A draft, version {newest.number + 1}, is made; it equals version {newest.number}.",
            "Nothing is on offer before you publish it; subscribers keep their version.",
        )
        return Consequence(sentences=sentences)

    def run(self, asked: Asked[PlanVersion]) -> Done:
        """Make it, or find it."""
        draft = catalog.draft(plan_id=asked.row.plan_id, actor=asked.actor, clock=asked.clock)
        url = reverse("admin:subscriptions_planversion_change", args=(draft.pk,))
        return Done(message=f"Version {draft.number} is a draft: edit it here.", url=url)


class MigrateSubscribers(Operation[PlanVersion]):
    """Move the subscribers of a version to the one on offer."""

    name = "migrate_subscribers"
    title = "Migrate subscribers"
    permission = "subscriptions.migrate_planversion"
    icon = "move_up"
    is_dangerous = True

    def is_offered(self, row: PlanVersion) -> bool:
        """Offer it for what is off the offer."""
        return row.status == Status.ARCHIVED

    def consequence(self, asked: Asked[PlanVersion]) -> Consequence:
        """Tell who moves and who stays, by a dry run.

        :raises PlanNotAvailable: where no version of the plan is on offer.
        """
        target, report = _migrate(asked, is_dry_run=True)
        sentences = (
            (
                f"{len(report.migrated)} subscribers move to {target}, {len(report.skipped)} stay;"
                f" at most {MIGRATED_AT_ONCE} at once, so repeat it for more."
            ),
            "Their limits change at once, the price from the next period on; usage is kept.",
        )
        rows = [(each.subscription_id, each.reason) for each in report.skipped]
        stay = Table(title="Who stays", headers=("Subscription", "Why"), rows=rows)
        changed = comparison.table(before=asked.row, after=target)
        return Consequence(sentences=sentences, tables=(changed, stay))

    def run(self, asked: Asked[PlanVersion]) -> Done:
        """Move one batch."""
        target, report = _migrate(asked, is_dry_run=False)
        moved, stay = len(report.migrated), len(report.skipped)
        return Done(message=f"{moved} subscribers moved to {target}, {stay} stayed.")


class CompareVersions(Inspection[PlanVersion]):
    """Show what a version changes."""

    name = "compare_versions"
    permission = "subscriptions.view_planversion"
    title = "Compare with the version before"
    icon = "difference"

    def is_offered(self, row: PlanVersion) -> bool:
        """Offer it where there is one before."""
        return row.number > 1

    def consequence(self, asked: Asked[PlanVersion]) -> Consequence:
        """Show every difference."""
        after = asked.row
        before = comparison.find_before(after)
        if before is None:
            return Consequence(sentences=(f"Version {after.number} is the plan's first.",))
        told = comparison.table(before=before, after=after)
        sentence = (
            f"Version {after.number} ({after.status}) against {before.number} ({before.status}): "
            f"{len(told.rows)} differences."
        )
        return Consequence(sentences=(sentence,), tables=(told,))


@admin.register(PlanVersion)
class PlanVersionAdmin(base.EngineAdmin[PlanVersion]):
    """Plan versions, a row each; what is published is shown, and never edited."""

    operations = (
        PublishVersion,
        NextVersion,
        CompareVersions,
        MigrateSubscribers,
        ArchiveVersion,
    )
    inlines = (PriceInline, MeteredPriceInline, EntitlementInline)
    empty_text = "Add a plan first; its first version is drafted on its page."
    list_display = ("plan_key", "version", "price", "state", "live_subscriptions", "published_at")
    list_filter = ("status", "plan__plan_group")
    search_fields = ("plan__key", "plan__name")
    ordering = ("plan__plan_group__key", "plan__rank", "plan__key", "-number")
    fields = (
        ("plan_link", "version", "state"),
        ("trial_days", "trial_end_policy"),
        ("grace_seconds", "past_due_policy"),
        ("published_at", "archived_at"),
        "grants",
    )
    readonly_fields = ("plan_link", "version", "state", "published_at", "archived_at", "grants")

    def get_queryset(self, request: HttpRequest) -> QuerySet[PlanVersion]:
        """Return the versions with their prices."""
        prices = Prefetch("prices", Price.objects.order_by("id"))
        return super().get_queryset(request).select_related("plan").prefetch_related(prices)

    def prepare_page(self, rows: Sequence[PlanVersion]) -> None:
        """Count the live subscriptions of every version of the page."""
        live = Subscription.objects.filter(
            plan_version__in=rows, status__in=Subscription.SLOT_STATUSES
        )
        counted = live.order_by().values_list("plan_version").annotate(n=Count("pk"))
        counts = dict(counted)
        for version in rows:
            version.live_count = counts.get(version.pk, 0)  # type: ignore[attr-defined] # for the page

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Refuse: a draft is opened from its plan."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        """Allow drafts alone to be edited."""
        allowed = super().has_change_permission(request, obj)
        return allowed and (obj is None or is_draft(obj))

    def save_model(
        self,
        request: HttpRequest,
        obj: PlanVersion,
        form: "ModelForm[PlanVersion]",
        change: bool,  # noqa: FBT001 - Django's signature
    ) -> None:
        """Save the draft under its lock, so that none is published half edited."""
        catalog.lock_draft_step(plan_version_id=obj.pk)
        super().save_model(request, obj, form, change)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show or edit; a draft that was published meanwhile keeps what was published."""
        try:
            return super().change_view(request, object_id, form_url, extra_context)
        except errors.InvalidTransition as error:
            messages.error(request, f"{error.detail} Nothing was saved.")
            return HttpResponseRedirect(request.path)

    @admin.display(description="Plan", ordering="plan__key")
    def plan_key(self, version: PlanVersion) -> str:
        """Return the plan's key."""
        return version.plan.key

    @admin.display(description="Plan")
    def plan_link(self, version: PlanVersion) -> str:
        """Return the plan with a way to it."""
        return base.link(to=version.plan, text=version.plan.name)

    @admin.display(description="Version", ordering="number")
    def version(self, version: PlanVersion) -> str:
        """Return the number."""
        return f"v{version.number}"

    @admin.display(description="Price")
    def price(self, version: PlanVersion) -> str:
        """Return every price in a line."""
        return ", ".join(comparison.price_text(price) for price in version.prices.all())

    @base.label(description="Status", colors=COLORS)
    def state(self, version: PlanVersion) -> str:
        """Return the status."""
        return version.status

    @admin.display(description="Grants")
    def grants(self, version: PlanVersion) -> str:
        """Return all that it grants, at a glance."""
        return base.table(comparison.grants(version))

    @admin.display(description="Live subscriptions")
    def live_subscriptions(self, version: Any) -> int:  # noqa: ANN401 - prepared
        """Return how many subscriptions have it."""
        return int(version.live_count)


def _migrate(
    asked: Asked[PlanVersion], *, is_dry_run: bool
) -> tuple[PlanVersion, migration.Report]:
    target = asked.row.plan.versions.filter(status=Status.PUBLISHED).first()
    if target is None:
        detail = f"No version of {asked.row.plan.key} is on offer."
        raise errors.PlanNotAvailable(detail, facts={"plan": asked.row.plan.key})
    report = migration.migrate_subscribers(
        migration.Migration(
            from_version_id=asked.row.pk, to_version_id=target.pk, is_dry_run=is_dry_run
        ),
        actor=asked.actor,
        clock=asked.clock,
        batch=MIGRATED_AT_ONCE,
    )
    return target, report


def _count_live(version: PlanVersion) -> int:
    return Subscription.objects.filter(
        plan_version=version, status__in=Subscription.SLOT_STATUSES
    ).count()
