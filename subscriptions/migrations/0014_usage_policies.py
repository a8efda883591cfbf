"""Keep what a change made of the usage so far; SQLite rebuilds the table, so its trigger again."""

from django.db import migrations, models

from core.triggers import vendor_sql


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0013_timeline_states")]

    operations = [
        migrations.AddField(
            model_name="timelineentry",
            name="usage_policy",
            field=models.CharField(
                default="keep", help_text="What became of the usage so far.", max_length=16
            ),
        ),
        vendor_sql(
            postgresql=[],
            undo_postgresql=[],
            sqlite=[
                """
                CREATE TRIGGER timeline_append_only BEFORE UPDATE ON subscriptions_timelineentry
                BEGIN SELECT RAISE(ABORT, 'timeline_append_only'); END
                """,
            ],
            undo_sqlite=["DROP TRIGGER timeline_append_only"],
        ),
    ]
