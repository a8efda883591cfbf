"""Connect the apps once all of them are loaded."""

from django.apps import AppConfig


class EngineConfig(AppConfig):
    """The wiring, as an app of its own."""

    name = "subscriptionEngine"

    def ready(self) -> None:
        """Let the lower apps speak upward."""
        from subscriptionEngine import wiring  # noqa: PLC0415 - models load before

        wiring.connect()
