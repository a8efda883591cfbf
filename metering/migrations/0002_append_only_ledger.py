"""Let the database refuse to rewrite the usage ledger; denials alone may be deleted."""

from django.db import migrations

from core.triggers import vendor_sql


class Migration(migrations.Migration):
    dependencies = [("metering", "0001_initial")]

    operations = [
        vendor_sql(
            postgresql=[
                """
                CREATE FUNCTION metering_refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    RAISE EXCEPTION 'the usage ledger is append-only'
                        USING ERRCODE = 'integrity_constraint_violation',
                              CONSTRAINT = 'usage_entry_append_only';
                END $$
                """,
                """
                CREATE TRIGGER usage_entry_no_update BEFORE UPDATE ON metering_usageentry
                FOR EACH ROW EXECUTE FUNCTION metering_refuse_rewrite()
                """,
                """
                CREATE TRIGGER usage_entry_no_delete BEFORE DELETE ON metering_usageentry
                FOR EACH ROW WHEN (OLD.kind <> 'denied')
                EXECUTE FUNCTION metering_refuse_rewrite()
                """,
            ],
            undo_postgresql=[
                "DROP TRIGGER usage_entry_no_delete ON metering_usageentry",
                "DROP TRIGGER usage_entry_no_update ON metering_usageentry",
                "DROP FUNCTION metering_refuse_rewrite()",
            ],
            sqlite=[
                """
                CREATE TRIGGER usage_entry_no_update BEFORE UPDATE ON metering_usageentry
                BEGIN SELECT RAISE(ABORT, 'usage_entry_append_only'); END
                """,
            ],
            undo_sqlite=["DROP TRIGGER usage_entry_no_update"],
        )
    ]
