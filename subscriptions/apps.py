"""Name the app of the catalog and the subscriptions."""

from django.apps import AppConfig


class SubscriptionsConfig(AppConfig):
    """Configure the app."""

    name = "subscriptions"
    verbose_name = "Subscriptions"
