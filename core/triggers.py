"""Put rules of a table into the database itself, in the words of each vendor.

SQLite drops a table's triggers when a later migration rebuilds the table: such a migration
repeats them. Source: docs/adr/0009-sqlite-limits.md.
"""

from collections.abc import Sequence

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def vendor_sql(
    *,
    postgresql: Sequence[str],
    undo_postgresql: Sequence[str],
    sqlite: Sequence[str],
    undo_sqlite: Sequence[str],
) -> migrations.RunPython:
    """Return a migration operation that runs the statements of the vendor in use."""
    forward = {"postgresql": postgresql, "sqlite": sqlite}
    backward = {"postgresql": undo_postgresql, "sqlite": undo_sqlite}

    def apply(_: Apps, editor: BaseDatabaseSchemaEditor) -> None:
        for statement in forward[editor.connection.vendor]:
            editor.execute(statement, params=None)

    def undo(_: Apps, editor: BaseDatabaseSchemaEditor) -> None:
        for statement in backward[editor.connection.vendor]:
            editor.execute(statement, params=None)

    return migrations.RunPython(apply, undo)
