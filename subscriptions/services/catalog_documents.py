"""Write the catalog as one document, and read such a document, strictly."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.db.models import QuerySet

from subscriptions.models import (
    Entitlement,
    Feature,
    MeteredPrice,
    Plan,
    PlanGroup,
    PlanVersion,
    Price,
)
from subscriptions.services.documents import Document, Faulty, Known, Shape, fault

Status = PlanVersion.Status
GROUPS = Shape(model=PlanGroup)
FEATURES = Shape(
    model=Feature,
    frozen=frozenset({"type", "plan_group", "scope", "is_allocated", "pool", "pool_rate_units"}),
)
PLANS = Shape(model=Plan, frozen=frozenset({"plan_group"}))
VERSIONS = Shape(model=PlanVersion, owner="plan")
CONTENT: Mapping[str, Shape] = {
    "prices": Shape(model=Price, owner="plan_version"),
    "metered_prices": Shape(model=MeteredPrice, owner="plan_version"),
    "entitlements": Shape(model=Entitlement, owner="plan_version"),
}
VERSION_MEMBERS = ("version", "is_published")
OBJECTS_MAX = 10_000


def export() -> Document:
    """Return all that is not archived, in a stable order; of a plan the version on offer.

    A plan without a published version stands with its draft and `is_published` false.
    """
    return {
        "plan_groups": [GROUPS.write(row) for row in PlanGroup.objects.order_by("key")],
        "features": [
            FEATURES.write(row)
            for row in Feature.objects.filter(archived_at=None)
            .select_related("plan_group", "pool")
            .order_by("key")
        ],
        "plans": [_plan_document(row) for row in list_plans().order_by("key")],
    }


def list_plans() -> QuerySet[Plan]:
    """Return the plans with their versions that are not archived, and all their content."""
    versions = PlanVersion.objects.exclude(status=Status.ARCHIVED)
    nested = [
        models.Prefetch(
            f"versions__{name}",
            shape.model._default_manager.select_related(
                *(each.name for each in shape.columns if each.is_relation)
            ).order_by("id"),
        )
        for name, shape in CONTENT.items()
    ]
    return (
        Plan.objects.filter(archived_at=None)
        .select_related("plan_group")
        .prefetch_related(models.Prefetch("versions", versions), *nested)
    )


def _plan_document(plan: Plan) -> Document:
    versions = {version.status: version for version in plan.versions.all()}
    version = versions.get(Status.PUBLISHED) or versions.get(Status.DRAFT)
    return PLANS.write(plan) | {
        "version": version_document(version) if version else None,
        "is_published": Status.PUBLISHED in versions,
    }


def version_document(version: PlanVersion) -> Document:
    """Return the version with its content, which is loaded already."""
    content = {
        name: _sorted([shape.write(row) for row in getattr(version, name).all()])
        for name, shape in CONTENT.items()
    }
    return VERSIONS.write(version) | content


def _sorted(documents: Sequence[Document]) -> list[Document]:
    """Return the documents by what tells them apart: key, feature, currency."""
    return sorted(
        documents, key=lambda each: [str(each.get(n, "")) for n in ("key", "feature", "currency")]
    )


def entries(document: Mapping[str, Any], *, kind: str) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a kind with their pointers; features without a pool come first.

    :raises Faulty: for what is no list, or has a key twice.
    """
    listed = document.get(kind, [])
    if not isinstance(listed, list) or len(listed) > OBJECTS_MAX:
        detail = f"It must be a list of at most {OBJECTS_MAX} objects."
        raise Faulty([fault(f"/{kind}", detail=detail)])
    seen: set[object] = set()
    for index, raw in sorted(enumerate(listed), key=lambda each: _has_pool(each[1])):
        key = raw.get("key") if isinstance(raw, Mapping) else None
        if not isinstance(key, str) or key in seen:
            raise Faulty(
                [fault(f"/{kind}/{index}", detail="Each object has a key, and each key once.")]
            )
        seen.add(key)
        yield f"/{kind}/{index}", raw


def _has_pool(raw: object) -> bool:
    return isinstance(raw, Mapping) and raw.get("pool") is not None


@dataclass(frozen=True, kw_only=True)
class WantedPlan:
    """A plan of the document: its row, its version's row with content, and whether on offer."""

    plan: Plan
    version: PlanVersion | None
    content: Mapping[str, Sequence[models.Model]]
    is_published: bool

    def document(self) -> Document:
        """Return the version as `export` would write it."""
        if self.version is None:
            return {}
        return VERSIONS.write(self.version) | {
            name: _sorted([shape.write(row) for row in self.content[name]])
            for name, shape in CONTENT.items()
        }


def read_plan(raw: Mapping[str, Any], *, pointer: str, known: Known) -> WantedPlan:
    """Return the plan of a document.

    :raises Faulty: for one that cannot be read.
    """
    own = {name: value for name, value in raw.items() if name not in VERSION_MEMBERS}
    plan = PLANS.read(own, pointer=pointer, known=known)
    is_published = raw.get("is_published", False)
    version, content = raw.get("version"), {}
    if not isinstance(is_published, bool) or not isinstance(version, Mapping | None):
        raise Faulty(
            [fault(pointer, detail="version is an object or null, is_published a boolean.")]
        )
    row = None
    if version is not None:
        flat = {name: value for name, value in version.items() if name not in CONTENT}
        row = VERSIONS.read(flat, pointer=f"{pointer}/version", known=known)
        content = {
            name: [
                shape.read(each, pointer=f"{pointer}/version/{name}/{index}", known=known)
                for index, each in enumerate(version.get(name, []))
            ]
            for name, shape in CONTENT.items()
        }
    return WantedPlan(plan=plan, version=row, content=content, is_published=is_published)
