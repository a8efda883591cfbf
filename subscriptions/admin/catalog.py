"""Edit features, plan groups and plans: what they are called, not what versions grant."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.urls import reverse

from core import clock as clocks
from core.admin import base
from core.admin.operations import Asked, Consequence, Done, Operation, Table
from core.admin.text import instant
from subscriptions.admin.switches import SwitchFeature
from subscriptions.models import Feature, Plan, PlanGroup, PlanVersion, Subscription
from subscriptions.services import catalog

Status = PlanVersion.Status
COLORS = {"on offer": "success", "hidden": "warning", "draft only": "info", "archived": "danger"}


class ArchiveFeature(Operation[Feature]):
    """Keep a feature out of what is published from now on."""

    name = "archive_feature"
    title = "Archive"
    permission = "subscriptions.archive_feature"
    icon = "archive"
    is_dangerous = True

    def is_offered(self, row: Feature) -> bool:
        """Offer it until it is done."""
        return row.archived_at is None

    def consequence(self, asked: Asked[Feature]) -> Consequence:
        """Tell which plans keep granting it."""
        plans = sorted(
            asked.row.entitlements.filter(
                plan_version__status=Status.PUBLISHED, enabled=True
            ).values_list("plan_version__plan__key", flat=True)
        )
        keeping = f"Published versions keep granting it: {', '.join(plans)}." if plans else ""
        sentences = (
            f"{asked.row.name} cannot be in a version that is published from now on.",
            keeping or "No published version grants it.",
            "Customers keep what they have. It cannot be undone.",
        )
        return Consequence(sentences=sentences)

    def run(self, asked: Asked[Feature]) -> Done:
        """Archive it."""
        catalog.archive_feature(feature_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message=f"The feature {asked.row.key} is archived.")


class ArchivePlan(Operation[Plan]):
    """Take a plan off the offer."""

    name = "archive_plan"
    title = "Archive"
    permission = "subscriptions.archive_plan"
    icon = "archive"
    is_dangerous = True

    def is_offered(self, row: Plan) -> bool:
        """Offer it until it is done."""
        return row.archived_at is None

    def consequence(self, asked: Asked[Plan]) -> Consequence:
        """Tell who keeps it."""
        live = Subscription.objects.filter(
            plan_version__plan=asked.row, status__in=Subscription.SLOT_STATUSES
        ).count()
        return Consequence(
            sentences=(
                f"Nobody can subscribe to {asked.row.name} any more.",
                f"Its {live} live subscriptions go on unchanged.",
                "It cannot be undone.",
            )
        )

    def run(self, asked: Asked[Plan]) -> Done:
        """Archive it."""
        catalog.archive_plan(plan_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message=f"The plan {asked.row.key} is archived.")


class DraftVersion(Operation[Plan]):
    """Open the plan's draft."""

    name = "draft_version"
    title = "New version"
    permission = "subscriptions.add_planversion"
    icon = "note_add"

    def is_offered(self, row: Plan) -> bool:
        """Offer it for plans that may be published."""
        return row.archived_at is None

    def consequence(self, asked: Asked[Plan]) -> Consequence:
        """Tell what the draft starts from."""
        newest = asked.row.versions.order_by("-number").first()
        if newest is None:
            return Consequence(sentences=("An empty draft, version 1, is made.",))
        if newest.status == Status.DRAFT:
            return Consequence(sentences=(f"Version {newest.number} is a draft already: edit it.",))
        sentences = (
            f"A draft, version {newest.number + 1}, is made; it equals version {newest.number}.",
            "Nothing is on offer before you publish it; subscribers keep their version.",
        )
        return Consequence(sentences=sentences)

    def run(self, asked: Asked[Plan]) -> Done:
        """Make it, or find it."""
        draft = catalog.draft(plan_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(
            message=f"Version {draft.number} of {asked.row.key} is a draft: edit it here.",
            url=reverse("admin:subscriptions_planversion_change", args=(draft.pk,)),
        )


class CatalogAdmin(base.EngineAdmin[base.M]):
    """A screen of the public catalog: saving lets its caches miss."""

    fixed_fields: ClassVar[tuple[str, ...]] = ()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:  # noqa: ANN401, ARG002 - Django's signature
        """Keep what names a row, once it is there: clients and ledgers hold on to it."""
        return self.fixed_fields if obj else ()

    def save_model(
        self,
        request: HttpRequest,
        obj: Any,  # noqa: ANN401 - Django's signature
        form: "ModelForm[Any]",
        change: bool,  # noqa: FBT001 - Django's signature
    ) -> None:
        """Save the row, and raise the catalog's revision with it."""
        if not change and hasattr(obj, "created_at"):
            obj.created_at = clocks.process_clock().now()
        super().save_model(request, obj, form, change)
        catalog.raise_revision_step()


@admin.register(PlanGroup)
class PlanGroupAdmin(CatalogAdmin[PlanGroup]):
    """Plan groups: of the plans of one, a customer has one at a time."""

    empty_text = "Add the group of your main plans first, with the key main."
    list_display = ("key", "name", "plans_in_it")
    search_fields = ("key", "name")
    ordering = ("key",)
    fields = ("key", "name")
    fixed_fields = ("key",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[PlanGroup]:
        """Return the groups with the number of their plans."""
        return super().get_queryset(request).annotate(plan_count=Count("plans"))

    @admin.display(description="Plans", ordering="plan_count")
    def plans_in_it(self, group: Any) -> int:  # noqa: ANN401 - annotated
        """Return how many plans the group has."""
        return int(group.plan_count)


@admin.register(Feature)
class FeatureAdmin(CatalogAdmin[Feature]):
    """Features; key, type and group are fixed once made, since ledgers count under them."""

    operations = (SwitchFeature, ArchiveFeature)
    empty_text = "Add what your plans grant: switches, values, and units that are counted."
    list_display = ("key", "name", "type", "unit", "plan_group", "used_by", "is_archived")
    list_filter = ("type", ("archived_at", admin.EmptyFieldListFilter), "plan_group")
    list_select_related = ("plan_group",)
    search_fields = ("key", "name")
    ordering = ("key",)
    fields = (
        "key",
        "name",
        "description",
        ("type", "unit", "plan_group"),
        ("scope", "is_allocated"),
        ("pool", "pool_rate_units"),
    )
    fixed_fields = ("key", "type", "plan_group", "scope", "is_allocated", "pool", "pool_rate_units")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Feature]:
        """Return the features with the number of published versions that grant them."""
        granting = Q(
            entitlements__plan_version__status=Status.PUBLISHED, entitlements__enabled=True
        )
        published = Count("entitlements", filter=granting)
        return super().get_queryset(request).annotate(published_count=published)

    @admin.display(description="Plans using it", ordering="published_count")
    def used_by(self, feature: Any) -> int:  # noqa: ANN401 - annotated
        """Return how many plans grant it in their published version."""
        return int(feature.published_count)

    @admin.display(description="Archived", boolean=True)
    def is_archived(self, feature: Feature) -> bool:
        """Return whether it is archived."""
        return feature.archived_at is not None


@admin.register(Plan)
class PlanAdmin(CatalogAdmin[Plan]):
    """Plans; what they grant and cost stands in their versions."""

    operations = (DraftVersion, ArchivePlan)
    empty_text = "Add what customers choose; then draft and publish a version of it."
    list_display = ("key", "name", "plan_group", "rank", "published", "state")
    list_filter = ("plan_group", "is_public", ("archived_at", admin.EmptyFieldListFilter))
    list_select_related = ("plan_group",)
    search_fields = ("key", "name")
    ordering = ("plan_group__key", "rank", "key")
    fields = ("key", "name", "description", "plan_group", "rank", "is_public", "its_versions")
    fixed_fields = ("key", "plan_group")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:  # noqa: ANN401 - Django's signature
        """Show the versions below the plan."""
        return (*super().get_readonly_fields(request, obj), "its_versions")

    def prepare_page(self, rows: Sequence[Plan]) -> None:
        """Find the published version of every plan."""
        published = PlanVersion.objects.filter(plan__in=rows, status=Status.PUBLISHED)
        numbers = dict(published.values_list("plan_id", "number"))
        for plan in rows:
            plan.published_number = numbers.get(plan.pk)  # type: ignore[attr-defined] # for the page

    @admin.display(description="Versions")
    def its_versions(self, plan: Plan) -> str:
        """Return every version with a way to it."""
        rows = [
            (base.link(to=each, text=f"v{each.number}"), each.status, instant(each.published_at))
            for each in plan.versions.order_by("-number")
        ]
        headers = ("Version", "Status", "Published")
        return base.table(Table(title="", headers=headers, rows=rows))

    @admin.display(description="Published")
    def published(self, plan: Any) -> str:  # noqa: ANN401 - prepared
        """Return the version on offer."""
        return f"v{plan.published_number}" if plan.published_number else ""

    @base.label(description="State", colors=COLORS)
    def state(self, plan: Any) -> str:  # noqa: ANN401 - prepared
        """Return whether customers see it."""
        if plan.archived_at is not None:
            return "archived"
        if not plan.published_number:
            return "draft only"
        return "on offer" if plan.is_public else "hidden"
