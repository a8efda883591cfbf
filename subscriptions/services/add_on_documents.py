"""Write add-ons as documents, and bring them to documents; what is published never changes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.db import models

from core import clock as clocks
from core import money
from subscriptions.models import AddOn, Feature
from subscriptions.models.additions import AddOnEntitlement, AddOnPrice
from subscriptions.services import catalog_applying, catalog_documents
from subscriptions.services.catalog_applying import Action, Applying
from subscriptions.services.documents import Document, Faulty, Known, Shape, fault

ADD_ONS = Shape(model=AddOn, frozen=frozenset({"plan_group"}))
CONTENT: Mapping[str, Shape] = {
    "prices": Shape(model=AddOnPrice, owner="add_on"),
    "entitlements": Shape(model=AddOnEntitlement, owner="add_on"),
}
Content = Mapping[str, Sequence[Any]]


def export() -> list[Document]:
    """Return the add-ons that are not archived, by key."""
    rows = (
        AddOn.objects.filter(archived_at=None)
        .select_related("plan_group")
        .prefetch_related(
            "prices",
            models.Prefetch("entitlements", AddOnEntitlement.objects.select_related("feature")),
        )
    )
    return [
        ADD_ONS.write(row)
        | _written({name: list(getattr(row, name).all()) for name in CONTENT})
        | {"is_published": row.published_at is not None}
        for row in rows.order_by("key")
    ]


def apply_step(document: Mapping[str, Any], *, applying: Applying) -> None:
    """Bring the add-ons to the document, after features and groups.

    :raises Faulty: for a document that cannot be read.
    """
    for pointer, raw in catalog_documents.entries(document, kind="add_ons"):
        is_published = raw.get("is_published", False)
        if not isinstance(is_published, bool):
            raise Faulty([fault(f"{pointer}/is_published", detail="It must be a boolean.")])
        own = {
            name: value
            for name, value in raw.items()
            if name not in CONTENT and name != "is_published"
        }
        wanted = ADD_ONS.read(own, pointer=pointer, known=applying.known)
        content = _read(raw, pointer=pointer, known=applying.known)
        row = catalog_applying.bring_step(wanted, shape=ADD_ONS, kind="add_ons", applying=applying)
        _bring_content(row, content, is_published=is_published, applying=applying)
    catalog_applying.note_others("add_ons", shape=ADD_ONS, applying=applying)


def _read(raw: Mapping[str, Any], *, pointer: str, known: Known) -> Content:
    return {
        name: [
            shape.read(each, pointer=f"{pointer}/{name}/{index}", known=known)
            for index, each in enumerate(raw.get(name, []))
        ]
        for name, shape in CONTENT.items()
    }


def _written(content: Content) -> Document:
    return {
        name: sorted(
            (shape.write(row) for row in content[name]),
            key=lambda each: str(each.get("key") or each.get("feature")),
        )
        for name, shape in CONTENT.items()
    }


def _bring_content(row: AddOn, content: Content, *, is_published: bool, applying: Applying) -> None:
    """Replace a draft's content, and publish it where the document does."""
    key = f"{row.key} content"
    stored = {
        name: list(getattr(row, name).select_related(*_relations(shape)))
        for name, shape in CONTENT.items()
    }
    differs = _written(stored) != _written(content)
    if row.published_at is not None:
        if differs:
            detail = "It is published and never changes; take a new key."
            applying.note("add_ons", key, Action.REFUSED, detail)
        return
    if differs:
        for name, shape in CONTENT.items():
            getattr(row, name).all().delete()
            for each in content[name]:
                each.add_on = row
            shape.model._default_manager.bulk_create(content[name])
        applying.note("add_ons", key, Action.DRAFTED)
        applying.record_step(row, what="changed", before=_written(stored), after=_written(content))
    if is_published:
        _publish(row, content, applying=applying)


def _relations(shape: Shape) -> list[str]:
    return [each.name for each in shape.columns if each.is_relation]


def _publish(row: AddOn, content: Content, *, applying: Applying) -> None:
    faults = list(_faults(row, content))
    if faults:
        applying.note("add_ons", f"{row.key} content", Action.REFUSED, "; ".join(faults))
        return
    row.published_at = applying.at
    row.save(update_fields=["published_at"])
    applying.record_step(
        row,
        what="published",
        before={"published_at": None},
        after={"published_at": clocks.rfc3339(applying.at)},
    )
    applying.note("add_ons", f"{row.key} content", Action.PUBLISHED)


def _faults(row: AddOn, content: Content) -> Iterator[str]:
    """Yield what keeps an add-on from being published."""
    for price in content["prices"]:
        if not money.is_currency(price.currency) or price.interval == "lifetime":
            yield f"The price {price.key} needs a currency of ISO 4217 and an interval."
    for each in content["entitlements"]:
        feature = each.feature
        is_metered = feature.type == Feature.Type.METERED
        if is_metered and feature.plan_group_id != row.plan_group_id:
            yield f"{feature.key} belongs to another plan group."
        if is_metered and each.units is None and not each.is_unlimited:
            yield f"{feature.key} is metered: say how many units, or unlimited."
        if feature.type == Feature.Type.STATIC and each.value is None:
            yield f"{feature.key} is a value: say which."
