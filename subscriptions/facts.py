"""Hold what decides a customer's entitlements, as read from the database once."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core.models import Customer
from subscriptions.models import Feature, Subscription


@dataclass(frozen=True, kw_only=True)
class FeatureFacts:
    """What never changes about a feature once a published version grants it.

    `pool_id` is the feature from whose units each unit draws `pool_rate_units` as well.
    `reset_interval` and `reset_count` are those of its plan group.
    """

    id: int
    key: str
    type: str
    plan_group_id: int | None
    scope: str = Feature.Scope.CUSTOMER
    is_allocated: bool = False
    pool_id: int | None = None
    pool_key: str = ""
    pool_rate_units: int = 1
    reset_interval: str = "month"
    reset_count: int = 1
    is_published: bool = False


@dataclass(frozen=True, kw_only=True)
class EntitlementFacts:
    """What one plan version grants of one feature; `limit_units` None means unlimited."""

    feature_id: int
    feature_key: str
    feature_type: str
    enabled: bool
    value: object
    limit_units: int | None
    per_quantity: bool
    mode: str
    overage_cap_units: int | None
    reset_interval: str
    reset_count: int
    scope_limit_units: int | None
    priority: int
    rollover_min_units: int
    rollover_max_units: int | None
    preserves_overage: bool
    alert_percents: list[int]


@dataclass(frozen=True, kw_only=True)
class VersionFacts:
    """One plan version with its plan and all that it grants, by feature key."""

    id: int
    number: int
    published_at: datetime | None
    plan_key: str
    plan_name: str
    plan_group_id: int
    plan_group_key: str
    entitlements: dict[str, EntitlementFacts]


@dataclass(frozen=True, kw_only=True)
class AdditionFacts:
    """What an add-on or an override adds of one feature on `[starts_at, ends_at)`.

    `key` is the add-on's key or the override's id; `subscription_id` is the add-on's
    subscription. `units` are per one of the quantity.
    """

    kind: str
    key: str
    feature_id: int
    feature_key: str
    feature_type: str
    units: int | None
    is_unlimited: bool
    value: object
    priority: int
    quantity: int
    subscription_id: UUID | None
    starts_at: datetime
    ends_at: datetime | None

    def is_active(self, *, at: datetime) -> bool:
        """Tell whether it counts at the instant."""
        return self.starts_at <= at and (self.ends_at is None or at < self.ends_at)

    def next_change_at(self, *, at: datetime) -> datetime | None:
        """Return its next beginning or end after the instant; None where there is none."""
        if at < self.starts_at:
            return self.starts_at
        return self.ends_at if self.ends_at is not None and at < self.ends_at else None


@dataclass(frozen=True, kw_only=True)
class CustomerFacts:
    """All that decides a customer's entitlements: subscriptions not final, and their versions.

    `default_versions` are the published and archived versions of the default plan, newest
    first; `additions` are the add-ons and overrides that count now or later. `ended` are, where
    they were asked for, subscriptions that gave access and have ended.
    """

    customer: Customer
    subscriptions: tuple[Subscription, ...]
    versions: dict[int, VersionFacts]
    default_versions: tuple[VersionFacts, ...]
    additions: tuple[AdditionFacts, ...]
    ended: tuple[Subscription, ...] = ()
