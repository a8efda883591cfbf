"""Tell whether a customer may still take units for a time: a hint, never a decision.

Only the hold decides, under its locks; this asks the same functions over what is read without
them. What is derived holds until it changes, so that a month of slots derives once per period.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime

from core.models import Customer
from metering import decision, derivation, grants, position
from metering import selectors as metering_selectors
from metering.decision import Denied, Place
from metering.derivation import Derived
from metering.models import Balance, Grant, Hold
from metering.promises import Outlook, promises_of
from metering.selectors import Overview
from metering.services import consumption, drawing
from metering.services.drawing import For, Wanted
from subscriptions import selectors as subscription_selectors
from subscriptions.facts import FeatureFacts


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What is derived for an instant of another period, and so until nothing of it has changed.

    `row` is None where nothing can be used then, and `denial_code` tells why.
    """

    since: datetime
    until: datetime | None
    denial_code: str
    row: Balance | None

    def holds(self, instant: datetime) -> bool:
        """Tell whether it is so at the instant."""
        return self.since <= instant and (self.until is None or instant < self.until)


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """What the customer has of one feature, and of the pool that it draws from, read once."""

    feature: FeatureFacts
    features: Mapping[int, FeatureFacts]
    overview: Overview
    rows: Sequence[Balance]
    given: Sequence[Grant]
    held: Sequence[Hold]
    _known: dict[Place, list[_Known]] = field(default_factory=dict)

    def refuse(self, *, units: int, starts_at: datetime) -> str:
        """Return the code of what refuses the units at the start of play; empty for nothing."""
        wanted = [Wanted(feature_key=self.feature.key, units=units)]
        items = drawing.items_of(wanted, features={self.feature.key: self.feature}, used_by=For())
        rows: dict[Place, Balance] = {}
        codes: dict[Place, str] = {}
        for place in drawing.places_of(items):
            row = self._current(place, starts_at)
            if row is None:
                known = self._other(place, starts_at)
                row, codes[place] = known.row, known.denial_code
            if row is not None:
                rows[place] = row
        outcome = decision.decide(items, balances=rows, codes=codes)
        return outcome.code if isinstance(outcome, Denied) else ""

    def remaining_units(self) -> int | None:
        """Return what is left of the feature now; None where it is unlimited."""
        return metering_selectors.standing_of(self.overview, feature=self.feature).remaining_units

    def _current(self, place: Place, instant: datetime) -> Balance | None:
        """Return the balance that decides now, where its period holds the instant."""
        standing = metering_selectors.standing_of(
            self.overview, feature=self.features[place.feature_id]
        )
        row = metering_selectors.would_be(standing)
        return row if row is not None and _holds(row, at=instant) else None

    def _other(self, place: Place, instant: datetime) -> _Known:
        found = self._known.setdefault(place, [])
        for known in found:
            if known.holds(instant):
                return known
        found.append(self._derive(place, instant))
        return found[-1]

    def _derive(self, place: Place, instant: datetime) -> _Known:
        feature = self.features[place.feature_id]
        own = [each for each in self.given if each.feature_id == feature.id]
        derived = derivation.derive(
            self.overview.facts,
            feature=feature,
            at=instant,
            has_grants=any(not grants.is_over(each, at=instant) for each in own),
        )
        changes = [derived.next_change_at]
        changes += [grants.next_change_at(each, at=instant) for each in own]
        return _Known(
            since=instant,
            until=min((each for each in changes if each is not None), default=None),
            denial_code=derived.denial_code,
            row=self._row_of(derived, own, place=place, instant=instant),
        )

    def _row_of(
        self, derived: Derived, own: Sequence[Grant], *, place: Place, instant: datetime
    ) -> Balance | None:
        """Return the balance of the derived period; one that is not stored stays unsaved."""
        if derived.period is None:
            return None
        starts_at = derived.period.starts_at
        stored = [
            copy(row)
            for row in self.rows
            if (row.feature_id, row.period_starts_at) == (place.feature_id, starts_at)
        ]
        row = max(stored, key=lambda row: row.generation, default=None)
        outlook = Outlook(
            facts=self.overview.facts,
            feature=self.features[place.feature_id],
            grants=own,
            promises=promises_of(each for each in self.held if each.feature_id == place.feature_id),
        )
        granted_units = outlook.granted_units(
            {},
            at=self.overview.at,
            usage_at=instant,
            own_units=(derived.allowance_units or 0) - (row.counted_units if row else 0),
        )
        return position.other_row(
            row,
            derived=derived,
            granted_units=granted_units,
            facts=self.overview.facts,
            feature=self.features[place.feature_id],
            scope=place.scope,
        )


def read(*, customer: Customer, feature_key: str, at: datetime) -> Headroom:
    """Return what decides about the feature, in a constant number of statements."""
    facts = subscription_selectors.get_customer_facts(customer=customer)
    by_key = drawing.get_metered_features(keys=[feature_key])
    features = dict(consumption.by_id(by_key))
    rows = list(Balance.objects.filter(customer=customer, feature__in=features, scope=""))
    given = list(Grant.objects.filter(customer=customer, feature__in=features).order_by("id"))
    held = Hold.objects.moving(customer_id=customer.pk, feature_ids=features, at=at)
    return Headroom(
        feature=by_key[feature_key],
        features=features,
        overview=metering_selectors.overview_of(facts, rows=rows, at=at),
        rows=rows,
        given=given,
        held=list(held) if given else (),
    )


def _holds(row: Balance, *, at: datetime) -> bool:
    ends_at = row.period_ends_at
    return row.period_starts_at <= at and (ends_at is None or at < ends_at)
