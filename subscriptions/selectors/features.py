"""Read features; one that a published version grants never changes and is read once a process."""

from collections.abc import Collection
from typing import Any

from django.db.models import (
    OuterRef,
    Q,
    Subquery,
)

from subscriptions import errors
from subscriptions.facts import (
    FeatureFacts,
)
from subscriptions.models import (
    Entitlement,
    Feature,
)

_features_by_key: dict[str, FeatureFacts] = {}
_features_by_id: dict[int, FeatureFacts] = {}


def find_features(*, keys: Collection[str]) -> dict[str, FeatureFacts]:
    """Return the features that exist among the keys.

    One that a published version grants is immutable, so it is read once a process.
    """
    found = {key: _features_by_key[key] for key in keys if key in _features_by_key}
    unknown = set(keys) - found.keys()
    if unknown:
        found |= {each.key: each for each in _read_features(Q(key__in=unknown))}
    return found


def features_by_id(*, ids: Collection[int]) -> dict[int, FeatureFacts]:
    """Return the features of the ids."""
    found = {each: _features_by_id[each] for each in ids if each in _features_by_id}
    unknown = set(ids) - found.keys()
    if unknown:
        found |= {each.id: each for each in _read_features(Q(pk__in=unknown))}
    return found


def _read_features(condition: Q) -> list[FeatureFacts]:
    """Return the features with their reset interval, in one statement."""
    granted = Entitlement.objects.filter(
        feature=OuterRef("pk"), plan_version__published_at__isnull=False
    ).order_by("id")
    rows = Feature.objects.filter(condition).values_list(
        "id",
        "key",
        "type",
        "plan_group_id",
        "scope",
        "is_allocated",
        "pool_id",
        "pool__key",
        "pool_rate_units",
        Subquery(granted.values("reset_interval")[:1]),
        Subquery(granted.values("reset_count")[:1]),
    )
    found = [_feature_facts(*row) for row in rows]
    published = [each for each in found if each.is_published]
    _features_by_key.update({each.key: each for each in published})
    _features_by_id.update({each.id: each for each in published})
    return found


def _feature_facts(*row: Any) -> FeatureFacts:  # noqa: ANN401 - one row of the statement
    *own, pool_id, pool_key, rate, interval, count = row
    names = ("id", "key", "type", "plan_group_id", "scope", "is_allocated")
    return FeatureFacts(
        **dict(zip(names, own, strict=True)),
        pool_id=pool_id,
        pool_key=pool_key or "",
        pool_rate_units=rate or 1,
        reset_interval=interval or "month",
        reset_count=count or 1,
        is_published=interval is not None,
    )


def get_feature(*, key: str) -> FeatureFacts:
    """Return the feature of the key.

    :raises FeatureUnknown: where there is none.
    """
    found = find_features(keys=[key]) if key.isprintable() else {}
    if key not in found:
        raise errors.FeatureUnknown.named(key)
    return found[key]


def forget_features() -> None:
    """Empty this process's copy of the features."""
    _features_by_key.clear()
    _features_by_id.clear()
