"""Define what the catalog and subscriptions may refuse."""

from collections.abc import Mapping
from typing import ClassVar, Self

from core.errors import Category, DomainError


class PlanUnknown(DomainError):
    """Refuse a plan key that names nothing."""

    code = "plan_unknown"
    title = "There is no such plan"
    category = Category.NOT_FOUND
    example_facts: ClassVar[Mapping[str, object]] = {"plan": "poro"}

    @classmethod
    def named(cls, key: str) -> Self:
        """Return the refusal of the key."""
        return cls(f"There is no plan {key!r}.", facts={"plan": key})


class FeatureUnknown(DomainError):
    """Refuse a feature key that names nothing: a typo is never a silent denial."""

    code = "feature_unknown"
    title = "There is no such feature"
    category = Category.NOT_FOUND
    example_facts: ClassVar[Mapping[str, object]] = {"feature": "api_cals"}

    @classmethod
    def named(cls, key: str) -> Self:
        """Return the refusal of the key."""
        return cls(f"There is no feature {key!r}.", facts={"feature": key})


class SubscriptionExists(DomainError):
    """Refuse a second live subscription in one plan group."""

    code = "subscription_exists"
    title = "There is a live subscription already"
    category = Category.CONFLICT


class TrialAlreadyUsed(DomainError):
    """Refuse a second trial in one plan group."""

    code = "trial_already_used"
    title = "The trial was used already"
    category = Category.CONFLICT


class SubscriptionEnded(DomainError):
    """Refuse a change of a subscription in a final state."""

    code = "subscription_ended"
    title = "The subscription has ended"
    category = Category.CONFLICT


class InvalidTransition(DomainError):
    """Refuse an event that the state does not allow."""

    code = "invalid_transition"
    title = "The state does not allow this"
    category = Category.CONFLICT


class PlanNotAvailable(DomainError):
    """Refuse a plan that is archived, not public or not published."""

    code = "plan_not_available"
    title = "The plan is not on offer"
    category = Category.UNPROCESSABLE


class CurrencyMismatch(DomainError):
    """Refuse a price in a currency other than the customer's."""

    code = "currency_mismatch"
    title = "The price is in another currency"
    category = Category.UNPROCESSABLE


class PreviewStale(DomainError):
    """Refuse to execute a preview that no longer shows what would happen."""

    code = "preview_stale"
    title = "The preview is no longer true"
    category = Category.CONFLICT


class FeatureSuspended(DomainError):
    """Refuse a feature that an operator has switched off for everybody; not recorded."""

    code = "feature_suspended"
    title = "The feature is switched off for now"
    category = Category.DENIED
    example_facts: ClassVar[Mapping[str, object]] = {
        "feature": "api_calls",
        "until": "2026-11-23T10:30:00Z",
    }
