"""Store the catalog, and the subscriptions of customers."""

from subscriptions.models.catalog import (
    KEY_LENGTH_MAX,
    UNITS_MAX,
    CatalogRevision,
    Entitlement,
    Feature,
    Plan,
    PlanGroup,
    PlanVersion,
    Price,
)
from subscriptions.models.lifecycle import Subscription, TimelineEntry

__all__ = [
    "KEY_LENGTH_MAX",
    "UNITS_MAX",
    "CatalogRevision",
    "Entitlement",
    "Feature",
    "Plan",
    "PlanGroup",
    "PlanVersion",
    "Price",
    "Subscription",
    "TimelineEntry",
]
