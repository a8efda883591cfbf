from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("core", "0005_former_zones"),
        ("subscriptions", "0010_past_due_policy"),
    ]

    operations = [
        migrations.AddField(
            model_name="subscription",
            name="former_zones",
            field=models.JSONField(
                blank=True, help_text="Zones before it; empty where it never changed.", null=True
            ),
        ),
    ]
