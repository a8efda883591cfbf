"""Reads whose text the ORM writes once, and which run with other values from then on.

Writing a SELECT takes the ORM several times the processor time of running it. What operations read
again and again is therefore built from slots in place of values, once a process, and kept:

    @statements.compiled
    def _open(*, customer_id: UUID, feature_ids: Collection[int]) -> QuerySet[Balance]:
        return Balance.objects.filter(customer_id=customer_id, feature_id__in=feature_ids)

    rows = _open(customer_id=..., feature_ids=[1, 2])

The function may do with its arguments what a filter does with an expression, and no more: what is
to be reckoned from a value is reckoned before. Nor does it look at what else may change, such as
settings. Source: docs/adr/0026-compiled-reads.md.
"""

import functools
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple, ParamSpec, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Expression, Model, QuerySet
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from core import db

P = ParamSpec("P")
M = TypeVar("M", bound=Model)
R = TypeVar("R")

ITEMS_MAX = 8
Values = dict[str, Any]
AnyQuerySet = QuerySet[Any, Any]


def compiled(build: Callable[P, QuerySet[M, R]]) -> Callable[P, list[R]]:
    """Return a function that reads all rows of the queryset, and writes its text once.

    It takes its arguments by name. A text is kept for each shape of the arguments: which of them
    are None, True or False, and how many items collections have. Where one has none or more than
    eight, and on SQLite, the ORM writes the text each time, as it does elsewhere.

    :raises ValueError: where the statement leaves an argument out.
    """
    texts: dict[object, _Compiler] = {}

    @functools.wraps(build)
    def run(*args: P.args, **kwargs: P.kwargs) -> list[R]:
        values = {name: _listed(value) for name, value in kwargs.items()}
        if not db.is_postgres() or not all(map(_has_a_text, values.values())):
            return list(build(*args, **kwargs))
        shape = tuple((name, _shape(value)) for name, value in values.items())
        compiler = texts.get(shape)
        if compiler is None:
            slots: Any = {name: _slot(name, value) for name, value in values.items()}
            compiler = texts[shape] = _compiler(build(*args, **slots), slots=slots.values())
        return compiler.rows(values)

    return run


class _Mark(NamedTuple):
    """A place among a statement's parameters: for an argument, or for one of its items."""

    name: str
    item: int | None

    def value(self, values: Values) -> object:
        """Return what belongs there."""
        return values[self.name] if self.item is None else values[self.name][self.item]


class _Slot(Expression):
    """Stand for an argument while the text is written: for one value, or some in brackets."""

    def __init__(self, name: str, count: int | None) -> None:
        super().__init__()
        self.name, self.count = name, count

    def as_sql(self, *_: object, **__: object) -> tuple[str, tuple[Any, ...]]:
        """Write a placeholder for each value."""
        if self.count is None:
            return "%s", (_Mark(self.name, None),)
        marks = tuple(_Mark(self.name, item) for item in range(self.count))
        return f"({', '.join(['%s'] * self.count)})", marks


class _Query(Query):
    """A query that keeps its compiler."""

    once: "_Compiler"

    def get_compiler(self, *_: object, **__: object) -> "_Compiler":
        """Return the one compiler."""
        return self.once


class _Running(threading.local):
    """What a thread runs a statement with."""

    values: Values


class _Compiler(SQLCompiler):
    """Give the text that was written once, with a thread's values in their places."""

    text: str
    places: tuple[object, ...]
    converters: dict[int, Any] | None = None
    execute: Callable[[], Iterable[Any]]

    def __init__(self, query: Query) -> None:
        super().__init__(query, self.connection, DEFAULT_DB_ALIAS)
        self.running = _Running()

    @property
    def connection(self) -> Any:  # noqa: ANN401 - Django's wrapper
        """Return the connection of the thread that asks."""
        return connections[DEFAULT_DB_ALIAS]

    @connection.setter
    def connection(self, _: object) -> None:
        """Let Django set it: every thread has its own."""

    def as_sql(self, *_: object, **__: object) -> tuple[str, tuple[Any, ...]]:
        """Return the text, and the values in their places."""
        values = self.running.values
        bound = [
            place.value(values) if isinstance(place, _Mark) else place for place in self.places
        ]
        return self.text, tuple(bound)

    def get_converters(self, expressions: list[Any]) -> dict[int, Any]:
        """Return how columns become values, which is found once."""
        if self.converters is None:
            self.converters = super().get_converters(expressions)
        return self.converters

    def rows(self, values: Values) -> list[Any]:
        """Run the statement as Django does for its queryset, which does not keep the rows."""
        if self.query.select_for_update:
            db.transaction_required()
        self.running.values = values
        return list(self.execute())


def _compiler(queryset: AnyQuerySet, *, slots: Iterable[object]) -> _Compiler:
    """Write the text of a queryset of slots."""
    query: Any = queryset.query.chain(klass=_Query)
    compiler = query.once = _Compiler(query)
    compiler.text, places = super(_Compiler, compiler).as_sql()
    compiler.places = tuple(places)
    wanted = {slot.name for slot in slots if isinstance(slot, _Slot)}
    if wanted != {place.name for place in compiler.places if isinstance(place, _Mark)}:
        msg = f"one of {sorted(wanted)} is left out: {compiler.text}"
        raise ValueError(msg)
    kind: Any = queryset._iterable_class  # noqa: SLF001 - the next line lets it be forgotten
    queryset.query = query
    compiler.execute = lambda: kind(queryset)
    return compiler


def _listed(value: object) -> object:
    if isinstance(value, Collection) and not isinstance(value, str):
        return list(value)
    return value


def _has_a_text(value: object) -> bool:
    return not isinstance(value, list) or 0 < len(value) <= ITEMS_MAX


def _shape(value: object) -> object:
    if isinstance(value, list):
        return len(value)
    return value if value is None or isinstance(value, bool) else "value"


def _slot(name: str, value: object) -> object:
    if isinstance(value, list):
        return _Slot(name, len(value))
    return value if value is None or isinstance(value, bool) else _Slot(name, None)
