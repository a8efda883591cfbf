"""Number rows by the window of time that holds them, in the database, on PostgreSQL and SQLite."""

import functools
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from django.db import connection
from django.db.models import F, Func, IntegerField
from django.db.models.sql.compiler import SQLCompiler


class WindowNumber(Func):
    """The number, from 1, of the last of the ascending instants that is not after the column's.

    The boundaries come from `core.periods`: they are computed in Python alone. Call
    `prepare_connection` before a query that uses it.
    """

    def __init__(self, column: str, *, starts: Sequence[datetime]) -> None:
        super().__init__(F(column), output_field=IntegerField())
        self.starts = tuple(starts)

    def as_postgresql(
        self,
        compiler: SQLCompiler,
        connection: Any,  # noqa: ANN401, ARG002 - Django's signature
        **_: Any,  # noqa: ANN401 - as above
    ) -> tuple[str, tuple[Any, ...]]:
        """Return PostgreSQL's binary search in an array."""
        column, params = compiler.compile(self.source_expressions[0])
        return f"width_bucket({column}, %s::timestamptz[])", (*params, list(self.starts))

    def as_sqlite(
        self,
        compiler: SQLCompiler,
        connection: Any,  # noqa: ANN401 - Django's signature
        **_: Any,  # noqa: ANN401 - as above
    ) -> tuple[str, tuple[Any, ...]]:
        """Return a call of the function that `prepare_connection` gives to SQLite."""
        column, params = compiler.compile(self.source_expressions[0])
        starts = [connection.ops.adapt_datetimefield_value(each) for each in self.starts]
        return f"engine_window_number({column}, %s)", (*params, orjson.dumps(starts).decode())


def prepare_connection() -> None:
    """Give SQLite the function; PostgreSQL has its own."""
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        connection.connection.create_function(
            "engine_window_number", 2, _window_number, deterministic=True
        )


def _window_number(instant: str, starts: str) -> int:
    return bisect_right(_starts(starts), instant)


@functools.lru_cache(maxsize=8)
def _starts(starts: str) -> list[str]:
    texts: list[str] = orjson.loads(starts)
    return texts
