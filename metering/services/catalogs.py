"""Keep the whole catalog, meters included, as one document: export it, compare it, apply it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from core import clock as clocks
from core import db, errors
from core.actors import SYSTEM, Actor
from metering.models import Meter
from metering.services import meters
from metering.services.meters import Definition
from subscriptions.services import add_on_documents, catalog, catalog_applying, catalog_documents
from subscriptions.services.catalog_applying import Action, Applying, Change
from subscriptions.services.documents import Document, Faulty, Shape, fault

FORMAT = 1
METERS = Shape(
    model=Meter,
    frozen=frozenset(
        {
            "event_type",
            "aggregation",
            "value_path",
            "is_decimal",
            "group_by",
            "filters",
            "late_horizon_seconds",
            "feature",
        }
    ),
)
MEMBERS = ("format", "plan_groups", "features", "plans", "add_ons", "meters")
DEFINED = {each.name for each in fields(Definition)}
SAME = {Action.UNCHANGED, Action.NOT_NAMED}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became, or would become, of each object, and whether it was committed."""

    changes: Sequence[Change]
    is_applied: bool

    @property
    def is_refused(self) -> bool:
        """Tell whether any object was refused, and so nothing changed."""
        return any(each.action is Action.REFUSED for each in self.changes)

    @property
    def is_different(self) -> bool:
        """Tell whether the catalog differs from the document, objects not named included."""
        return any(each.action is not Action.UNCHANGED for each in self.changes)


def export() -> Document:
    """Return the catalog as a document, in a stable order."""
    rows = Meter.objects.filter(archived_at=None).select_related("feature").order_by("key")
    return {
        "format": FORMAT,
        **catalog_documents.export(),
        "add_ons": add_on_documents.export(),
        "meters": [METERS.write(row) for row in rows],
    }


class _RolledBack(Exception):
    """Leave the transaction without a trace."""


@db.operation
def apply(
    document: Mapping[str, Any],
    *,
    new_versions: bool,
    dry_run: bool,
    clock: clocks.Clock,
    actor: Actor = SYSTEM,
) -> Report:
    """Bring the catalog to the document in one transaction, or say what that would do.

    Nothing changes where any object is refused, or on a dry run. Applying the same document
    again changes nothing. What the document does not name stays.

    :raises Invalid: for a document that cannot be read, with a pointer to every fault.
    """
    try:
        with db.transaction():
            applying = Applying(at=clock.now(), new_versions=new_versions, actor=actor)
            _apply_step(document, applying)
            report = Report(changes=applying.changes, is_applied=not dry_run)
            if dry_run or report.is_refused:
                raise _RolledBack  # noqa: TRY301 - leaving the block is what rolls it back
            if any(each.action not in SAME for each in report.changes):
                catalog.raise_revision_step()
            return report
    except _RolledBack:
        return Report(changes=applying.changes, is_applied=False)
    except Faulty as faulty:
        raise faulty.as_invalid() from faulty


def _apply_step(document: Mapping[str, Any], applying: Applying) -> None:
    unknown = sorted(set(document) - set(MEMBERS))
    if unknown or document.get("format") != FORMAT:
        detail = f"A catalog has format {FORMAT} and the members {', '.join(MEMBERS)}."
        raise Faulty([fault(f"/{unknown[0] if unknown else 'format'}", detail=detail)])
    catalog_applying.apply_step(document, applying=applying)
    add_on_documents.apply_step(document, applying=applying)
    for pointer, raw in catalog_documents.entries(document, kind="meters"):
        wanted: Meter = METERS.read(raw, pointer=pointer, known=applying.known)
        if wanted.key in applying.known.of(Meter):
            catalog_applying.bring_step(wanted, shape=METERS, kind="meters", applying=applying)
        else:
            _define(wanted, applying)
    catalog_applying.note_others("meters", shape=METERS, applying=applying)


def _define(wanted: Meter, applying: Applying) -> None:
    given = {name: value for name, value in vars(wanted).items() if name in DEFINED}
    feature_key = wanted.feature.key if wanted.feature else ""
    try:
        definition = Definition(**given, feature_key=feature_key)
        meters.define_step(definition, actor=applying.actor, at=applying.at)
    except errors.Invalid as refusal:
        applying.note("meters", wanted.key, Action.REFUSED, refusal.detail)
        return
    applying.note("meters", wanted.key, Action.CREATED)
