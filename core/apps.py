"""Name the app of users, customers and the ground that every app stands on."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Configure the app."""

    name = "core"
    verbose_name = "Core"
