"""Show the catalog, and the subscriptions of customers with their timeline."""

from subscriptions.admin import catalog, subscriptions, switches, versions

__all__ = ["catalog", "subscriptions", "switches", "versions"]
