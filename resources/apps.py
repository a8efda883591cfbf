"""Name the app of what is booked."""

from django.apps import AppConfig


class ResourcesConfig(AppConfig):
    """Configure the app."""

    name = "resources"
    verbose_name = "Resources"
