"""Let a plan version say what follows where every retry of a payment failed.

The column is added in plain SQL: SQLite cannot rebuild a table that other tables' triggers read.
SQLite's own trigger learns the column; PostgreSQL's compares whole rows.
"""

from django.db import migrations, models

from core.triggers import vendor_sql

COLUMNS = (
    "plan_id",
    "number",
    "trial_days",
    "trial_end_policy",
    "grace_seconds",
    "created_at",
    "published_at",
)
FORMER = " AND ".join(f"NEW.{column} IS OLD.{column}" for column in COLUMNS)
UNCHANGED = f"{FORMER} AND NEW.past_due_policy IS OLD.past_due_policy"


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0009_plural_names")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AddField(
                    model_name="planversion",
                    name="past_due_policy",
                    field=models.CharField(
                        choices=[("unpaid", "Unpaid"), ("cancel", "Cancel")],
                        db_default="unpaid",
                        default="unpaid",
                        help_text="What follows where every retry of a payment failed.",
                        max_length=16,
                    ),
                )
            ],
            database_operations=[
                migrations.RunSQL(
                    "ALTER TABLE subscriptions_planversion"
                    " ADD COLUMN past_due_policy varchar(16) NOT NULL DEFAULT 'unpaid'",
                    "ALTER TABLE subscriptions_planversion DROP COLUMN past_due_policy",
                )
            ],
        ),
        vendor_sql(
            postgresql=[],
            undo_postgresql=[],
            sqlite=[
                "DROP TRIGGER IF EXISTS plan_version_immutable",
                f"""
                CREATE TRIGGER plan_version_immutable BEFORE UPDATE ON subscriptions_planversion
                WHEN OLD.status <> 'draft' AND NOT (
                    OLD.status = 'published' AND NEW.status = 'archived' AND {UNCHANGED}
                )
                BEGIN SELECT RAISE(ABORT, 'plan_version_immutable'); END
                """,
            ],
            undo_sqlite=[
                "DROP TRIGGER plan_version_immutable",
                f"""
                CREATE TRIGGER plan_version_immutable BEFORE UPDATE ON subscriptions_planversion
                WHEN OLD.status <> 'draft' AND NOT (
                    OLD.status = 'published' AND NEW.status = 'archived' AND {FORMER}
                )
                BEGIN SELECT RAISE(ABORT, 'plan_version_immutable'); END
                """,
            ],
        ),
    ]
