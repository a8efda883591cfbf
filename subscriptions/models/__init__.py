"""Store the catalog, and the subscriptions of customers."""

from subscriptions.models.additions import (
    AddOn,
    AddOnEntitlement,
    AddOnPrice,
    Override,
    SubscriptionAddOn,
)
from subscriptions.models.catalog import (
    KEY_LENGTH_MAX,
    PRIORITY_DEFAULT,
    UNITS_MAX,
    CatalogRevision,
    Entitlement,
    Feature,
    MeteredPrice,
    Plan,
    PlanGroup,
    PlanVersion,
    Price,
    PriceModel,
)
from subscriptions.models.lifecycle import Subscription, TimelineEntry, TrialMemory
from subscriptions.models.switches import FeatureSwitch

__all__ = [
    "KEY_LENGTH_MAX",
    "PRIORITY_DEFAULT",
    "UNITS_MAX",
    "AddOn",
    "AddOnEntitlement",
    "AddOnPrice",
    "CatalogRevision",
    "Entitlement",
    "Feature",
    "FeatureSwitch",
    "MeteredPrice",
    "Override",
    "Plan",
    "PlanGroup",
    "PlanVersion",
    "Price",
    "PriceModel",
    "Subscription",
    "SubscriptionAddOn",
    "TimelineEntry",
    "TrialMemory",
]
