"""Tell subscriptions that began before renewals were walked what is open, and when they are due.

What was billed up to now stays so: the period that runs counts as open.
"""

from django.db import migrations

from core import clock
from subscriptions import renewals

FINAL = ("canceled", "expired")


def open_running_periods(apps, editor):
    at = clock.process_clock().now()
    rows = apps.get_model("subscriptions", "Subscription").objects
    for row in rows.exclude(status__in=FINAL).select_related("price").iterator():
        if row.price is not None and row.status not in ("scheduled", "incomplete", "trialing"):
            row.renewed_until = renewals.billing_period(row, at=at).ends_at
        due = renewals.next_due(row)
        row.due_at = due.at if due else None
        row.save(update_fields=["renewed_until", "due_at"])


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0007_feature_switches")]

    operations = [migrations.RunPython(open_running_periods, migrations.RunPython.noop)]
