"""Write rows of the catalog as JSON documents, and read documents as rows, strictly.

A document has the row's columns by their names, what it refers to by key, and nothing of its
life: ids, instants and status stay behind.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from core import errors

Document = dict[str, Any]
Fault = dict[str, str]
LIFE = frozenset(
    {"id", "created_at", "published_at", "archived_at", "status", "number", "revision"}
)
JSON_TYPES: "tuple[tuple[type[models.Field[Any, Any]], type], ...]" = (
    (models.BooleanField, bool),
    (models.IntegerField, int),
    (models.CharField, str),
    (models.TextField, str),
)


class Faulty(Exception):
    """Report what keeps a document from being read, value by value."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        super().__init__()
        self.faults = list(faults)

    def as_invalid(self) -> errors.Invalid:
        """Return the refusal of the whole document."""
        return errors.Invalid(self.faults[0]["detail"], facts={"errors": self.faults})


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How rows of one model stand in a document; `owner` is the relation that nesting replaces."""

    model: type[models.Model]
    owner: str = ""
    frozen: frozenset[str] = field(default_factory=frozenset)

    @property
    def columns(self) -> list["models.Field[Any, Any]"]:
        """Return the columns that stand in a document, in the model's order."""
        return [
            each
            for each in self.model._meta.concrete_fields
            if each.name not in LIFE and each.name != self.owner
        ]

    def write(self, row: models.Model) -> Document:
        """Return the document of a row; what it refers to is loaded already."""
        return {column.name: _written(row, column) for column in self.columns}

    def read(self, raw: object, *, pointer: str, known: "Known") -> Any:  # noqa: ANN401 - a row of the model
        """Return the unsaved row of a document; what is left out has the model's default.

        :raises Faulty: naming each unknown member, and each value that breaks a rule.
        """
        if not isinstance(raw, Mapping):
            raise Faulty([fault(pointer, detail="It must be an object.")])
        columns = {column.name: column for column in self.columns}
        faults = [
            fault(f"{pointer}/{name}", detail=f"Unknown member; known are {', '.join(columns)}.")
            for name in raw
            if name not in columns
        ]
        row = self.model()
        for name, column in columns.items():
            if name in raw:
                try:
                    setattr(row, name, _read(raw[name], column, known))
                except ValueError as error:
                    faults.append(fault(f"{pointer}/{name}", detail=str(error)))
        faults = faults or list(_broken_rules(row, columns, pointer))
        if faults:
            raise Faulty(faults)
        return row

    def differences(self, row: models.Model, wanted: models.Model) -> list[str]:
        """Return the names of the columns in which two rows differ."""
        here, there = self.write(row), self.write(wanted)
        return [name for name in here if here[name] != there[name]]

    def take_over(self, row: models.Model, wanted: models.Model) -> None:
        """Save the row with the columns of another."""
        for column in self.columns:
            setattr(row, column.name, getattr(wanted, column.name))
        row.save()


@dataclass(frozen=True, kw_only=True)
class Known:
    """The rows to which documents may refer, by model and key."""

    rows: dict[type[models.Model], dict[str, models.Model]] = field(default_factory=dict)

    def of(self, model: type[models.Model]) -> dict[str, models.Model]:
        """Return the model's rows by key, read once."""
        if model not in self.rows:
            relations = [each.name for each in model._meta.concrete_fields if each.is_relation]
            found: Any = model._default_manager.select_related(*relations)
            self.rows[model] = {row.key: row for row in found}
        return self.rows[model]

    def add(self, row: Any) -> None:  # noqa: ANN401 - a row with a key
        """Let documents refer to a row that was just made."""
        self.of(type(row))[row.key] = row


def fault(pointer: str, *, detail: str) -> Fault:
    """Return one fault of a document."""
    return {"pointer": pointer, "code": "invalid", "detail": detail}


def _written(row: models.Model, column: "models.Field[Any, Any]") -> object:
    value = getattr(row, column.name)
    return value.key if column.is_relation and value is not None else value


def _read(given: object, column: "models.Field[Any, Any]", known: Known) -> object:
    """Return the column's value of a member.

    :raises ValueError: where it is of another JSON type, or refers to nothing.
    """
    if given is None and column.null:
        return None
    if column.is_relation and column.related_model is not None:
        row = known.of(column.related_model).get(given) if isinstance(given, str) else None
        if row is None:
            msg = f"There is no {column.related_model._meta.verbose_name} {given!r}."
            raise ValueError(msg)
        return row
    for kind, json_type in JSON_TYPES:
        if isinstance(column, kind):
            if type(given) is not json_type:
                msg = f"It must be a {json_type.__name__}."
                raise ValueError(msg)
            break
    return given


def _broken_rules(
    row: models.Model, columns: Mapping[str, object], pointer: str
) -> Iterable[Fault]:
    others = [each.name for each in row._meta.concrete_fields if each.name not in columns]
    try:
        row.clean_fields(exclude=others)
        row.validate_constraints(exclude=others)
    except ValidationError as error:
        for name, details in error.message_dict.items():
            place = pointer if name == "__all__" else f"{pointer}/{name}"
            yield from (fault(place, detail=detail) for detail in details)
