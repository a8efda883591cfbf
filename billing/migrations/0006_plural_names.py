from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0005_usage_after_the_end"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="balanceentry",
            options={
                "permissions": [
                    ("adjust_balanceentry", "Can adjust what a customer has in balance")
                ],
                "verbose_name_plural": "balance entries",
            },
        ),
        migrations.AlterModelOptions(
            name="mrrmovement",
            options={"verbose_name": "MRR movement"},
        ),
    ]
