from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0011_former_zones")]

    operations = [
        migrations.AddField(
            model_name="subscription",
            name="collection_paused_at",
            field=models.DateTimeField(
                blank=True, help_text="Since when its invoices are kept as drafts.", null=True
            ),
        ),
    ]
