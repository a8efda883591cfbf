"""Show the catalog, and the subscriptions of customers with their timeline."""

from subscriptions.admin import catalog, subscriptions, versions

__all__ = ["catalog", "subscriptions", "versions"]
