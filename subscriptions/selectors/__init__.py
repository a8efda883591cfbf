"""Read the catalog and subscriptions; nothing here writes or locks."""

from subscriptions.selectors.catalog import (
    Eligibility,
    Holdings,
    Upgrade,
    find_offered_version,
    get_catalog_revision,
    get_holdings,
    get_offered_version,
    has_plan,
    list_features,
    list_offered_versions,
    list_subscriptions,
    list_timeline,
    list_upgrades,
)
from subscriptions.selectors.entitled import (
    GAVE_ACCESS,
    forget_versions,
    get_customer_facts,
)
from subscriptions.selectors.features import (
    features_by_id,
    find_features,
    forget_features,
    get_feature,
)
from subscriptions.selectors.history import History, UsageChange, get_history
from subscriptions.selectors.prices import (
    forget_prices,
    give_prices,
    list_metered_prices,
)
from subscriptions.selectors.trials import (
    identity_hashes,
    list_tried_groups,
)

__all__ = [
    "GAVE_ACCESS",
    "Eligibility",
    "History",
    "Holdings",
    "Upgrade",
    "UsageChange",
    "features_by_id",
    "find_features",
    "find_offered_version",
    "forget_all",
    "forget_features",
    "forget_prices",
    "forget_versions",
    "get_catalog_revision",
    "get_customer_facts",
    "get_feature",
    "get_history",
    "get_holdings",
    "get_offered_version",
    "give_prices",
    "has_plan",
    "identity_hashes",
    "list_features",
    "list_metered_prices",
    "list_offered_versions",
    "list_subscriptions",
    "list_timeline",
    "list_tried_groups",
    "list_upgrades",
]


def forget_all() -> None:
    """Empty this process's copies; for tests that undo what they created."""
    forget_features()
    forget_prices()
    forget_versions()
