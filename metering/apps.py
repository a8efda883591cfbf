"""Name the app of balances, usage and decisions."""

from django.apps import AppConfig


class MeteringConfig(AppConfig):
    """Configure the app."""

    name = "metering"
    verbose_name = "Metering"
