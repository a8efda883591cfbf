"""Declare the app."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    """Prices, invoices and payments."""

    name = "billing"
