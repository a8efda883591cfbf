"""Let the database refuse two bookings of one exclusive resource at one time."""

from django.db import migrations

from core.triggers import vendor_sql

OVERLAP = """
    BEGIN SELECT RAISE(ABORT, 'allocation_no_overlap') WHERE EXISTS (
        SELECT 1 FROM resources_allocation AS other
         WHERE other.id IS NOT NEW.id AND other.resource_id = NEW.resource_id
           AND other.is_live AND other.is_exclusive
           AND other.starts_at < NEW.occupied_until AND NEW.starts_at < other.occupied_until
    ); END
"""


def trigger(event: str) -> str:
    """Return SQLite's guard of one kind of write."""
    return f"""
        CREATE TRIGGER allocation_no_overlap_{event} BEFORE {event} ON resources_allocation
        WHEN NEW.is_live AND NEW.is_exclusive {OVERLAP}
    """


class Migration(migrations.Migration):
    dependencies = [("resources", "0001_initial")]

    operations = [
        vendor_sql(
            postgresql=[
                "CREATE EXTENSION IF NOT EXISTS btree_gist",
                """
                ALTER TABLE resources_allocation ADD CONSTRAINT allocation_no_overlap
                EXCLUDE USING gist (
                    resource_id WITH =, tstzrange(starts_at, occupied_until) WITH &&
                ) WHERE (is_live AND is_exclusive)
                """,
            ],
            undo_postgresql=[
                "ALTER TABLE resources_allocation DROP CONSTRAINT allocation_no_overlap",
            ],
            sqlite=[trigger("insert"), trigger("update")],
            undo_sqlite=[
                "DROP TRIGGER allocation_no_overlap_insert",
                "DROP TRIGGER allocation_no_overlap_update",
            ],
        )
    ]
