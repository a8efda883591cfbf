from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("metering", "0009_hold_by_owner")]

    operations = [
        migrations.AddField(
            model_name="usageentry",
            name="usage_at",
            field=models.DateTimeField(
                help_text="Whose billing period counts it, where the subscription had ended.",
                null=True,
            ),
        ),
    ]
