"""Bring the catalog to a document: all or nothing, and never what is published."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import Model

from core import db
from core.actors import SYSTEM, Actor
from core.services import audit
from subscriptions import locks
from subscriptions.models import Plan, PlanVersion
from subscriptions.services import catalog, catalog_documents
from subscriptions.services.catalog_documents import (
    CONTENT,
    FEATURES,
    GROUPS,
    PLANS,
    VERSIONS,
    WantedPlan,
)
from subscriptions.services.documents import Known, Shape

Status = PlanVersion.Status


class Action(StrEnum):
    """What became of one object of the document."""

    CREATED = "created"
    UPDATED = "updated"
    PUBLISHED = "published"
    DRAFTED = "drafted"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    NOT_NAMED = "not_named"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of one object, and why or in which members."""

    kind: str
    key: str
    action: Action
    detail: str = ""


@dataclass(kw_only=True)
class Applying:
    """The state of one application of a document."""

    at: datetime
    new_versions: bool
    actor: Actor = SYSTEM
    known: Known = field(default_factory=Known)
    changes: list[Change] = field(default_factory=list)

    def record_step(
        self, row: Model, *, what: str, after: audit.State, before: audit.State | None = None
    ) -> None:
        """Write into the audit log what became of a row; it is undone with the application."""
        audit.record_change_step(
            actor=self.actor, what=what, row=row, at=self.at, before=before or {}, after=after
        )

    def note(self, kind: str, key: str, action: Action, detail: str = "") -> None:
        """Add to the report."""
        self.changes.append(Change(kind=kind, key=key, action=action, detail=detail))


def apply_step(document: Mapping[str, Any], *, applying: Applying) -> None:
    """Bring groups, features and plans to the document; what it does not name stays.

    What is published never changes: another content becomes the plan's draft where `new_versions`
    says so, and is refused where it does not. The report stands in `applying`; the caller rolls
    back where anything is refused.

    :raises Faulty: for a document that cannot be read.
    """
    db.transaction_required()
    for kind, shape in (("plan_groups", GROUPS), ("features", FEATURES)):
        for pointer, raw in catalog_documents.entries(document, kind=kind):
            row = shape.read(raw, pointer=pointer, known=applying.known)
            bring_step(row, shape=shape, kind=kind, applying=applying)
    plans = [
        catalog_documents.read_plan(raw, pointer=pointer, known=applying.known)
        for pointer, raw in catalog_documents.entries(document, kind="plans")
    ]
    _bring_plans(plans, applying)
    for kind, shape in (("plan_groups", GROUPS), ("features", FEATURES), ("plans", PLANS)):
        note_others(kind, shape=shape, applying=applying)


def bring_step(wanted: Any, *, shape: Shape, kind: str, applying: Applying) -> Any:  # noqa: ANN401 - a row of the shape's model
    """Make the row, or bring the one of its key to it, and return what stands."""
    row: Any = applying.known.of(shape.model).get(wanted.key)
    if row is None:
        if hasattr(wanted, "created_at"):
            wanted.created_at = applying.at
        wanted.save(force_insert=True)
        applying.known.add(wanted)
        applying.note(kind, wanted.key, Action.CREATED)
        applying.record_step(wanted, what="created", after=audit.snapshot(wanted))
        return wanted
    changed = shape.differences(row, wanted)
    frozen = [name for name in changed if name in shape.frozen]
    if getattr(row, "archived_at", None) is not None:
        applying.note(kind, row.key, Action.REFUSED, "It is archived.")
    elif frozen:
        applying.note(kind, row.key, Action.REFUSED, f"It never changes its {', '.join(frozen)}.")
    elif changed:
        before = audit.snapshot(row)
        shape.take_over(row, wanted)
        applying.record_step(row, what="changed", before=before, after=audit.snapshot(row))
        applying.note(kind, row.key, Action.UPDATED, ", ".join(changed))
    else:
        applying.note(kind, row.key, Action.UNCHANGED)
    return row


def note_others(kind: str, *, shape: Shape, applying: Applying) -> None:
    """Report the objects that the document does not name; they stay as they are."""
    named = {each.key for each in applying.changes if each.kind == kind}
    for key, row in sorted(applying.known.of(shape.model).items()):
        if key not in named and getattr(row, "archived_at", None) is None:
            applying.note(kind, key, Action.NOT_NAMED)


def _bring_plans(wanted: Sequence[WantedPlan], applying: Applying) -> None:
    """Bring the plans first, then lock them in order, then their versions."""
    rows = {}
    for each in wanted:
        row = bring_step(each.plan, shape=PLANS, kind="plans", applying=applying)
        rows[row.pk] = (row, each)
    refused = {change.key for change in applying.changes if change.action is Action.REFUSED}
    plans = [locks.lock_plan(plan_id=pk) for pk in sorted(rows)]
    for group_id in sorted({plan.plan_group_id for plan in plans}):
        locks.lock_plan_group(plan_group_id=group_id)
    drafts = [
        (plan, draft, rows[plan.pk][1])
        for plan in plans
        if plan.key not in refused
        for draft in _bring_draft(plan, rows[plan.pk][1], applying)
    ]
    for plan, draft, own in sorted(drafts, key=lambda each: each[1].pk):
        version = locks.lock_plan_version(plan_version_id=draft.pk)
        if own.is_published and not plan.versions.filter(status=Status.PUBLISHED).exists():
            _publish(plan, version, applying)


def _bring_draft(plan: Plan, wanted: WantedPlan, applying: Applying) -> Iterator[PlanVersion]:
    """Bring the plan's draft to the document where its version on offer differs; yield it."""
    if wanted.version is None:
        return
    stored = {
        version.status: version
        for version in catalog_documents.list_plans().get(pk=plan.pk).versions.all()
        if version.status != Status.ARCHIVED
    }
    published, draft = stored.get(Status.PUBLISHED), stored.get(Status.DRAFT)
    document = wanted.document()
    key = f"{plan.key} version"
    if published is not None and catalog_documents.version_document(published) == document:
        applying.note("versions", key, Action.UNCHANGED)
    elif draft is not None and catalog_documents.version_document(draft) == document:
        detail = f"Draft {draft.number} awaits being published." if published else ""
        applying.note("versions", key, Action.UNCHANGED, detail)
        yield draft
    elif published is not None and not applying.new_versions:
        detail = f"Version {published.number} is published and never changes: ask for new versions."
        applying.note("versions", key, Action.REFUSED, detail)
    else:
        draft = draft or catalog.draft_step(plan=plan, at=applying.at, actor=applying.actor)
        before = catalog_documents.version_document(draft)
        _replace(draft, wanted)
        applying.record_step(draft, what="changed", before=before, after=document)
        applying.note("versions", key, Action.DRAFTED, f"Draft {draft.number}.")
        yield draft


def _replace(draft: PlanVersion, wanted: WantedPlan) -> None:
    """Write the draft anew; the caller holds its plan's lock."""
    if wanted.version is None:
        raise AssertionError
    VERSIONS.take_over(draft, wanted.version)
    for name, shape in CONTENT.items():
        getattr(draft, name).all().delete()
        for row in wanted.content[name]:
            row.plan_version = draft  # type: ignore[attr-defined] # the shape's owner
        shape.model._default_manager.bulk_create(wanted.content[name])


def _publish(plan: Plan, version: PlanVersion, applying: Applying) -> None:
    faults = catalog.faults_of(plan=plan, version=version)
    if faults:
        detail = "; ".join(f"{each['pointer']}: {each['detail']}" for each in faults)
        applying.note("versions", f"{plan.key} version", Action.REFUSED, detail)
        return
    catalog.publish_step(plan=plan, version=version, at=applying.at, actor=applying.actor)
    applying.note("versions", f"{plan.key} version", Action.PUBLISHED, f"Version {version.number}.")
