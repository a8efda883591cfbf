"""Turn what a caller wants into items, each with every balance that counts it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from core import errors as core_errors
from metering import errors
from metering.decision import Draw, Item, Place
from subscriptions import errors as subscription_errors
from subscriptions import selectors as subscription_selectors
from subscriptions import switches
from subscriptions.facts import FeatureFacts
from subscriptions.models import Feature

ITEMS_MAX = 20


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """So many units of one feature, by its key; 1 … 10^12."""

    feature_key: str
    units: int


@dataclass(frozen=True, kw_only=True)
class For:
    """Whose usage it is, where a feature has limits per member or entity.

    `entity` is the external id that the caller names; `member` the calling user, who acts for
    himself alone.
    """

    entity: str = ""
    member: str = ""


def get_metered_features(*, keys: Collection[str]) -> dict[str, FeatureFacts]:
    """Return the features by key, their pools with them.

    :raises FeatureUnknown: where a key names none: a typo is never a silent denial.
    :raises FeatureNotMetered: where a feature is a switch or a value.
    :raises FeatureSuspended: where an operator has switched a feature off.
    """
    features = subscription_selectors.find_features(keys=set(keys))
    for key in keys:
        if key not in features:
            raise subscription_errors.FeatureUnknown.named(key)
        if features[key].type != Feature.Type.METERED:
            detail = f"{key} is a {features[key].type} feature; it is not counted."
            raise errors.FeatureNotMetered(detail, facts={"feature": key})
        switches.refuse_suspended(feature_id=features[key].id, feature_key=key)
    pools = {each.pool_key for each in features.values() if each.pool_key} - features.keys()
    return features | subscription_selectors.find_features(keys=pools)


def items_of(
    wanted: Sequence[Wanted], *, features: Mapping[str, FeatureFacts], used_by: For
) -> list[Item]:
    """Return the items in their order.

    :raises Invalid: where a member or entity must be named, or must not.
    :raises PermissionDenied: where a user names another member.
    """
    return [_item(each, features[each.feature_key], used_by) for each in wanted]


def places_of(items: Sequence[Item]) -> set[Place]:
    """Return every place that counts any of the items."""
    return {draw.place for item in items for draw in item.draws}


def _item(wanted: Wanted, feature: FeatureFacts, used_by: For) -> Item:
    scope = scope_of(feature=feature, used_by=used_by)
    draws = [_draw(feature.id, feature.key, scope, wanted.units)]
    if scope:
        draws.append(_draw(feature.id, feature.key, "", wanted.units))
    if feature.pool_id is not None:
        units = wanted.units * feature.pool_rate_units
        draws.append(_draw(feature.pool_id, feature.pool_key, "", units))
    return Item(
        feature_id=feature.id,
        feature_key=feature.key,
        units=wanted.units,
        draws=tuple(draws),
    )


def _draw(feature_id: int, feature_key: str, scope: str, units: int) -> Draw:
    return Draw(place=Place(feature_id, scope), feature_key=feature_key, units=units)


def scope_of(*, feature: FeatureFacts, used_by: For) -> str:
    """Return the scope of the feature's balance for this usage; empty for the customer's own."""
    if feature.scope == Feature.Scope.CUSTOMER:
        if used_by.entity:
            detail = f"{feature.key} is counted for the customer as a whole; leave entity out."
            raise core_errors.Invalid.at("/entity", code="not_scoped", detail=detail)
        return ""
    name = used_by.entity
    if feature.scope == Feature.Scope.MEMBER and used_by.member:
        if name not in {"", used_by.member}:
            raise core_errors.PermissionDenied("A user acts for himself, not for another member.")
        name = used_by.member
    if not name:
        detail = f"{feature.key} is counted per {feature.scope}: name it as entity."
        raise core_errors.Invalid.at("/entity", code="required", detail=detail)
    return f"{feature.scope}:{name}"
