from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0004_adjust_balance"),
        ("metering", "0010_usage_after_the_end"),
    ]

    operations = [
        migrations.AddField(
            model_name="usagemark",
            name="late_due_at",
            field=models.DateTimeField(
                help_text="When usage that came after the end is to be billed.", null=True
            ),
        ),
        migrations.AddIndex(
            model_name="usagemark",
            index=models.Index(
                condition=models.Q(("late_due_at__isnull", False)),
                fields=["late_due_at"],
                name="usage_mark_late",
            ),
        ),
    ]
