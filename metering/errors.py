"""Define what metering may refuse, and the codes of recorded denials."""

from collections.abc import Mapping
from typing import ClassVar, Self

from core.errors import Category, DomainError


class UsageDenied(DomainError):
    """Refuse usage; the decision is recorded and replayed under its key."""

    category = Category.DENIED


class UsageLimitReached(UsageDenied):
    """Refuse units that would exceed the limit of the usage period."""

    code = "usage_limit_reached"
    title = "The usage limit is reached"
    example_detail = "1 api_calls requested, 0 of 100 left."
    example_facts: ClassVar[Mapping[str, object]] = {
        "feature": "api_calls",
        "requested": 1,
        "limit": 100,
        "used": 100,
        "held": 0,
        "remaining": 0,
        "resets_at": "2026-12-01T00:00:00Z",
        "upgrade": [{"plan": "basic", "limit": 500}, {"plan": "pro", "limit": 1000}],
    }


class FeatureNotInPlan(UsageDenied):
    """Refuse a feature that the plan in force does not grant."""

    code = "feature_not_in_plan"
    title = "The plan does not include the feature"


class NoActiveSubscription(UsageDenied):
    """Refuse a customer on whom neither a subscription nor a default plan is in force."""

    code = "no_active_subscription"
    title = "There is no active subscription"


class SubscriptionPaused(UsageDenied):
    """Refuse usage while the subscription is paused."""

    code = "subscription_paused"
    title = "The subscription is paused"


class PastDueBlocked(UsageDenied):
    """Refuse usage because payment failed and the grace is over."""

    code = "past_due_blocked"
    title = "The subscription is unpaid and its grace is over"


class PaymentRequired(DomainError):
    """Refuse usage until the first payment; not recorded, since a payment mends it."""

    code = "payment_required"
    title = "The subscription awaits its first payment"
    category = Category.PAYMENT_REQUIRED


class FeatureNotMetered(DomainError):
    """Refuse to count a feature that is a switch or a value."""

    code = "feature_not_metered"
    title = "The feature is not metered"
    category = Category.UNPROCESSABLE


class MeterUnknown(DomainError):
    """Refuse a meter's key, or an event's type, that no meter has: a typo is never silence."""

    code = "meter_unknown"
    title = "There is no such meter"
    category = Category.NOT_FOUND

    @classmethod
    def named(cls, key: str) -> Self:
        """Return the refusal of the key."""
        return cls(f"There is no meter {key!r}.")

    @classmethod
    def counting(cls, event_type: str) -> Self:
        """Return the refusal of the event type."""
        return cls(f"No meter counts events of the type {event_type!r}.")


class EventTooOld(DomainError):
    """Refuse an event whose own time lies before the late horizon of its meter."""

    code = "event_too_old"
    title = "The event is too old"
    category = Category.UNPROCESSABLE


class EventInFuture(DomainError):
    """Refuse an event whose own time lies ahead of the clock by more than the skew."""

    code = "event_in_future"
    title = "The event lies in the future"
    category = Category.UNPROCESSABLE


DENIALS: dict[str, type[UsageDenied]] = {
    denial.code: denial
    for denial in (
        UsageLimitReached,
        FeatureNotInPlan,
        NoActiveSubscription,
        SubscriptionPaused,
        PastDueBlocked,
    )
}


class HoldExpired(DomainError):
    """Refuse to capture or extend a hold whose time is over; its units are free again."""

    code = "hold_expired"
    title = "The hold has expired"
    category = Category.CONFLICT


class HoldAlreadyCaptured(DomainError):
    """Refuse to end a hold that was captured, or captured with other units."""

    code = "hold_already_captured"
    title = "The hold was captured already"
    category = Category.CONFLICT


class HoldAlreadyReleased(DomainError):
    """Refuse to capture or extend a hold that was released."""

    code = "hold_already_released"
    title = "The hold was released already"
    category = Category.CONFLICT


class ExceedsHold(DomainError):
    """Refuse to capture more units than are held and fit under the limit."""

    code = "exceeds_hold"
    title = "More units than the hold has"
    category = Category.UNPROCESSABLE
    example_detail = "51 units captured, 50 held."
    example_facts: ClassVar[Mapping[str, object]] = {"held": 50}


class EntryAlreadyReversed(DomainError):
    """Refuse to reverse a line of the ledger twice."""

    code = "entry_already_reversed"
    title = "The entry was reversed already"
    category = Category.CONFLICT


class AllocatedUsageExceedsLimit(DomainError):
    """Refuse a change that would leave fewer allocated units than are taken."""

    code = "allocated_usage_exceeds_limit"
    title = "More units are taken than the change leaves"
    category = Category.CONFLICT
    example_detail = "12 seats are taken, the change leaves 10."
    example_facts: ClassVar[Mapping[str, object]] = {"feature": "seats", "used": 12, "limit": 10}


class NotAllocated(DomainError):
    """Refuse to give back units of a feature that uses them up."""

    code = "feature_not_allocated"
    title = "The feature's units are not given back"
    category = Category.UNPROCESSABLE


class ExceedsUsage(DomainError):
    """Refuse to give back more units than are taken."""

    code = "exceeds_usage"
    title = "More units than are taken"
    category = Category.UNPROCESSABLE
    example_detail = "3 seats given back, 2 taken."
    example_facts: ClassVar[Mapping[str, object]] = {"feature": "seats", "used": 2}
