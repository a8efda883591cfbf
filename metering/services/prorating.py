"""Prorate what a change of plan moves of an allowance: by what is left of the usage period."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core import events
from core.periods import Period
from metering.decision import Place
from metering.models import Balance
from metering.services.books import Books
from subscriptions import selectors as subscription_selectors
from subscriptions.facts import EntitlementFacts
from subscriptions.models import Entitlement, Feature, Subscription


@dataclass(frozen=True, kw_only=True)
class Moved:
    """By how many units a change of plan moved the allowance of each feature, of a whole period."""

    units: Mapping[int, int]

    @property
    def places(self) -> set[Place]:
        """Return where the units are counted for the customer as a whole."""
        features = subscription_selectors.features_by_id(ids=self.units.keys())
        own = Feature.Scope.CUSTOMER
        return {Place(each.id, "") for each in features.values() if each.scope == own}


def moved_by(event: events.Event) -> Moved:
    """Return what the change moved that an event tells of; nothing where it tells of none."""
    payload = event.payload
    if "from_version" not in payload:
        return Moved(units={})
    row = Subscription.objects.get(pk=UUID(str(payload["subscription"])))
    before = (int(str(payload["from_version"])), int(str(payload["from_quantity"])), -1)
    units: dict[int, int] = defaultdict(int)
    for version_id, quantity, sign in (before, (row.plan_version_id, row.quantity, 1)):
        granted = Entitlement.objects.filter(
            plan_version=version_id, feature__type=Feature.Type.METERED
        )
        for each in granted:
            units[each.feature_id] += sign * units_of(each, quantity=quantity)
    return Moved(units=units)


def units_of(terms: Entitlement | EntitlementFacts, *, quantity: int) -> int:
    """Return what a plan grants of a feature for a whole period; 0 where it is unlimited."""
    if not terms.enabled:
        return 0
    return (terms.limit_units or 0) * (quantity if terms.per_quantity else 1)


def prorate(books: Books, *, row: Balance, units: int) -> None:
    """Withhold of units that were moved what `withheld_of` says."""
    if row.period_ends_at is not None and row.allowance_units is not None:
        period = Period(starts_at=row.period_starts_at, ends_at=row.period_ends_at)
        books.withhold(row, units=withheld_of(units, period=period, at=books.at))


def withheld_of(units: int, *, period: Period, at: datetime) -> int:
    """Return the share that the period had before the instant of moved units, rounded up.

    0 where the period never ends.
    """
    if period.ends_at is None:
        return 0
    return units - units * (period.ends_at - at) // (period.ends_at - period.starts_at)
