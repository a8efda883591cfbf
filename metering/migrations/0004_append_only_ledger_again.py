"""Give SQLite its ledger's trigger back, which the rebuilt table lost."""

from django.db import migrations

from core.triggers import vendor_sql


class Migration(migrations.Migration):
    dependencies = [("metering", "0003_grants_holds_burns")]

    operations = [
        vendor_sql(
            postgresql=[],
            undo_postgresql=[],
            sqlite=[
                "DROP TRIGGER IF EXISTS usage_entry_no_update",
                """
                CREATE TRIGGER usage_entry_no_update BEFORE UPDATE ON metering_usageentry
                BEGIN SELECT RAISE(ABORT, 'usage_entry_append_only'); END
                """,
            ],
            undo_sqlite=[],
        )
    ]
