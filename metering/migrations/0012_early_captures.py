from django.db import migrations, models


def settle_captured(apps, schema_editor):
    """Let what was captured before its period, and not burnt as it opened, wait no more."""
    holds = apps.get_model("metering", "Hold").objects.filter(is_provisional=True)
    holds.exclude(state="live").update(is_provisional=False)


class Migration(migrations.Migration):
    dependencies = [("metering", "0011_burnt_at")]

    operations = [
        migrations.AddIndex(
            model_name="hold",
            index=models.Index(
                condition=models.Q(is_provisional=True),
                fields=["customer", "feature"],
                name="hold_waiting_by_customer",
            ),
        ),
        migrations.RunPython(settle_captured, migrations.RunPython.noop, elidable=True),
    ]
