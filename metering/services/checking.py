"""Answer whether usage would be allowed now, by the one decision, changing nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core import clock as clocks
from core.models import Customer
from metering import decision, errors, selectors
from metering.decision import Denied, Item
from metering.models import Balance
from metering.selectors import Standing
from metering.services import consumption
from metering.services.consumption import Wanted
from subscriptions import selectors as subscription_selectors
from subscriptions.selectors import Upgrade


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The answer about one item; `code` is empty where it is allowed."""

    item: Item
    code: str
    standing: Standing
    upgrades: Sequence[Upgrade]


def check(*, customer: Customer, wanted: Sequence[Wanted], clock: clocks.Clock) -> list[Checked]:
    """Return for each item whether it would be allowed now, after those before it.

    The answer is a hint: only consuming decides, under the lock.

    :raises FeatureUnknown, FeatureNotMetered: as consuming does.
    """
    features = consumption.get_metered_features(keys=[each.feature_key for each in wanted])
    overview = selectors.get_overview(customer=customer, clock=clock)
    standings = {
        feature.id: selectors.standing_of(overview, feature=feature)
        for feature in features.values()
    }
    rows = {feature_id: standing.as_balance() for feature_id, standing in standings.items()}
    items = [
        Item(
            feature_id=features[each.feature_key].id,
            feature_key=each.feature_key,
            units=each.units,
        )
        for each in wanted
    ]
    return [
        _checked(items[: index + 1], rows, standings[item.feature_id])
        for index, item in enumerate(items)
    ]


def _checked(items: Sequence[Item], rows: Mapping[int, Balance], standing: Standing) -> Checked:
    outcome = decision.decide(items, balances=rows, codes={})
    item = items[-1]
    code = outcome.code if isinstance(outcome, Denied) and outcome.item is item else ""
    upgrades: list[Upgrade] = []
    if code == errors.UsageLimitReached.code:
        upgrades = subscription_selectors.list_upgrades(
            feature_id=item.feature_id, above_units=standing.derived.limit_units
        )
    return Checked(item=item, code=code, standing=standing, upgrades=upgrades)
