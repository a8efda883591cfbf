"""Price by terms, and usage by metered prices; published ones are immutable as before."""

import django.db.models.deletion
from django.db import migrations, models

from core.triggers import vendor_sql

TABLE = "subscriptions_meteredprice"


class Migration(migrations.Migration):
    dependencies = [
        ("subscriptions", "0004_immutable_features_add_ons"),
    ]

    operations = [
        migrations.AddField(
            model_name="price",
            name="terms",
            field=models.JSONField(
                blank=True, help_text="Unit prices, packages and tiers, in major units.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="price",
            name="model",
            field=models.CharField(
                choices=[
                    ("flat", "Flat"),
                    ("per_unit", "Per Unit"),
                    ("package", "Package"),
                    ("volume", "Volume"),
                    ("graduated", "Graduated"),
                    ("percentage", "Percentage"),
                ],
                default="flat",
                max_length=16,
            ),
        ),
        migrations.CreateModel(
            name="MeteredPrice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("currency", models.CharField(max_length=3)),
                (
                    "model",
                    models.CharField(
                        choices=[
                            ("flat", "Flat"),
                            ("per_unit", "Per Unit"),
                            ("package", "Package"),
                            ("volume", "Volume"),
                            ("graduated", "Graduated"),
                            ("percentage", "Percentage"),
                        ],
                        default="per_unit",
                        max_length=16,
                    ),
                ),
                (
                    "terms",
                    models.JSONField(help_text="Unit prices, packages and tiers, in major units."),
                ),
                (
                    "feature",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="subscriptions.feature",
                    ),
                ),
                (
                    "plan_version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="metered_prices",
                        to="subscriptions.planversion",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("plan_version", "feature", "currency"), name="metered_price_unique"
                    )
                ],
            },
        ),
        vendor_sql(
            postgresql=[
                f"""
                CREATE TRIGGER {TABLE}_immutable
                BEFORE INSERT OR UPDATE OR DELETE ON {TABLE} FOR EACH ROW
                EXECUTE FUNCTION subscriptions_refuse_content()
                """
            ],
            undo_postgresql=[f"DROP TRIGGER {TABLE}_immutable ON {TABLE}"],
            sqlite=[
                f"""
                CREATE TRIGGER {TABLE}_immutable_{event.lower()} BEFORE {event} ON {TABLE}
                WHEN (SELECT status FROM subscriptions_planversion
                      WHERE id = NEW.plan_version_id) <> 'draft'
                BEGIN SELECT RAISE(ABORT, 'plan_version_immutable'); END
                """
                for event in ("INSERT", "UPDATE")
            ],
            undo_sqlite=[
                f"DROP TRIGGER {TABLE}_immutable_{event}" for event in ("insert", "update")
            ],
        ),
    ]
