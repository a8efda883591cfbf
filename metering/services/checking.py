"""Answer whether usage would be allowed now, by the one decision, changing nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core import clock as clocks
from core.models import Customer
from metering import decision, errors, selectors
from metering.decision import Denied, Item, Place
from metering.models import Balance
from metering.selectors import Overview, Standing
from metering.services import denials, drawing
from metering.services.drawing import For, Wanted
from subscriptions import selectors as subscription_selectors
from subscriptions import switches
from subscriptions.facts import FeatureFacts
from subscriptions.models import Feature
from subscriptions.selectors import Upgrade


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The answer about one item; `code` is empty where it is allowed."""

    item: Item
    code: str
    standing: Standing
    upgrades: Sequence[Upgrade]


def check(
    *,
    customer: Customer,
    wanted: Sequence[Wanted],
    used_by: For | None = None,
    clock: clocks.Clock,
) -> list[Checked]:
    """Return for each item whether it would be allowed now, after those before it.

    The answer is a hint: only consuming decides, under the lock.

    :raises FeatureUnknown, FeatureNotMetered, FeatureSuspended, Invalid: as consuming does.
    """
    features = drawing.get_metered_features(keys=[each.feature_key for each in wanted])
    items = drawing.items_of(wanted, features=features, used_by=used_by or For())
    overview = selectors.get_overview(customer=customer, clock=clock)
    by_id = {each.id: each for each in features.values()}
    standings = standings_of(overview=overview, items=items, features=by_id)
    rows, codes = decided_from(standings)
    return [
        _checked(items[: index + 1], rows, codes, standings[item.draws[0].place])
        for index, item in enumerate(items)
    ]


def require(
    *, customer: Customer, feature_key: str, used_by: For | None = None, clock: clocks.Clock
) -> None:
    """Return where the feature may be used now: one unit of it, where it is metered.

    Nothing is counted or recorded. Where it is metered, only consuming decides.

    :raises UsageDenied, PaymentRequired: where it may not be used.
    :raises FeatureUnknown, FeatureSuspended, Invalid: as consuming does.
    """
    feature = subscription_selectors.get_feature(key=feature_key)
    switches.refuse_suspended(feature_id=feature.id, feature_key=feature_key)
    if switches.is_open_to_all(feature.id):
        return
    overview = selectors.get_overview(customer=customer, clock=clock)
    denied = denial_of(overview, feature=feature, units=1, used_by=used_by or For())
    if isinstance(denied, Denied):
        raise denials.refusal(denied)
    if denied:
        raise denials.switched_off(code=denied, feature_key=feature_key)


def denial_of(
    overview: Overview, *, feature: FeatureFacts, units: int, used_by: For
) -> Denied | str:
    """Return the denial of metered units, or the code that denies a switch or value; or empty."""
    if feature.type != Feature.Type.METERED:
        return switch_code(selectors.standing_of(overview, feature=feature))
    features = drawing.get_metered_features(keys=[feature.key])
    wanted = [Wanted(feature_key=feature.key, units=units)]
    items = drawing.items_of(wanted, features=features, used_by=used_by)
    by_id = {each.id: each for each in features.values()}
    rows, codes = decided_from(standings_of(overview=overview, items=items, features=by_id))
    outcome = decision.decide(items, balances=rows, codes=codes)
    return outcome if isinstance(outcome, Denied) else ""


def switch_code(standing: Standing) -> str:
    """Return why a switch or value is denied; empty where what is in force grants it."""
    group = standing.derived.in_force
    is_granted = standing.derived.effective.is_granted
    return group.denial_code or ("" if is_granted else errors.FeatureNotInPlan.code)


def standings_of(
    *, overview: Overview, items: Sequence[Item], features: Mapping[int, FeatureFacts]
) -> dict[Place, Standing]:
    """Return the standing of every place that counts the items."""
    places = sorted(drawing.places_of(items))
    scoped = {place.scope for place in places if place.scope}
    rows = list(
        Balance.objects.filter(customer=overview.customer, scope__in=scoped).open_after(overview.at)
        if scoped
        else ()
    )
    return {
        place: selectors.standing_of(
            overview, feature=features[place.feature_id], scope=place.scope, rows=rows
        )
        for place in places
    }


def decided_from(
    standings: Mapping[Place, Standing],
) -> tuple[dict[Place, Balance], dict[Place, str]]:
    """Return the balances and the denials that consuming would decide from."""
    rows: dict[Place, Balance] = {}
    codes: dict[Place, str] = {}
    for place, standing in standings.items():
        row = selectors.would_be(standing)
        codes[place] = standing.denial_code
        if row is not None and standing.derived.period is not None:
            rows[place] = row
    return rows, codes


def _checked(
    items: Sequence[Item],
    rows: Mapping[Place, Balance],
    codes: Mapping[Place, str],
    standing: Standing,
) -> Checked:
    outcome = decision.decide(items, balances=rows, codes=codes)
    item = items[-1]
    code = outcome.code if isinstance(outcome, Denied) and outcome.item is item else ""
    upgrades: list[Upgrade] = []
    if code == errors.UsageLimitReached.code:
        upgrades = subscription_selectors.list_upgrades(
            feature_id=item.feature_id, above_units=standing.limit_units
        )
    return Checked(item=item, code=code, standing=standing, upgrades=upgrades)
