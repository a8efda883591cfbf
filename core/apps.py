"""Name the app of users, customers and the ground that every app stands on."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Configure the app."""

    name = "core"
    verbose_name = "Core"

    def ready(self) -> None:
        """Refuse to start with weak settings, whatever starts."""
        from core import checks  # noqa: PLC0415 - models load before

        checks.refuse_weak_settings()
