from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0004_accounts_and_audit")]

    operations = [
        migrations.AddField(
            model_name="customer",
            name="former_zones",
            field=models.JSONField(
                blank=True, help_text="Zones before it; empty where it never changed.", null=True
            ),
        ),
    ]
