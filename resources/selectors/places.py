"""Read what can be booked, and when it is open."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from django.db.models import Q, QuerySet

from core import statements
from resources.models import (
    OpeningRule,
    Resource,
)
from resources.opening import WeeklyRule
from resources.timetable import FeatureName, Place, Terms


def list_resources(*, type_key: str | None = None, venue_key: str | None = None) -> list[Resource]:
    """Return the resources on offer with their types and venues, by venue, type and name."""
    rows = _offered()
    if type_key is not None:
        rows = rows.filter(type__key=type_key)
    if venue_key is not None:
        rows = rows.filter(venue__key=venue_key)
    return list(rows.order_by("venue__key", "type__key", "name", "id"))


def find_places(
    *,
    resource_ids: Collection[int] = (),
    resource_keys: Collection[str] = (),
    type_keys: Collection[str] = (),
) -> dict[int, Place]:
    """Return the resources on offer that are named by id, by key or by type, in two statements."""
    return _places(
        _list_named(
            resource_ids=resource_ids or None,
            resource_keys=resource_keys or None,
            type_keys=type_keys or None,
        )
    )


@statements.compiled
def _list_named(
    *,
    resource_ids: Collection[int] | None,
    resource_keys: Collection[str] | None,
    type_keys: Collection[str] | None,
) -> "QuerySet[Resource]":
    is_named = Q(pk__in=[])
    if resource_ids is not None:
        is_named |= Q(pk__in=resource_ids)
    if resource_keys is not None:
        is_named |= Q(key__in=resource_keys)
    if type_keys is not None:
        is_named |= Q(type__key__in=type_keys)
    return _offered().filter(is_named).order_by("name", "id")


def _offered() -> "QuerySet[Resource]":
    return Resource.objects.filter(is_active=True).select_related("venue", "type__feature")


def places_of(rows: Sequence[Resource]) -> dict[int, Place]:
    """Return the resources with their opening hours, in one statement."""
    return _places(rows)


def _places(rows: Sequence[Resource]) -> dict[int, Place]:
    hours = _list_hours(rows)
    return {row.pk: _place(row, hours) for row in rows}


@dataclass(frozen=True, kw_only=True)
class _Hours:
    """Opening rules by venue, and those of resources that have their own."""

    by_venue: Mapping[int, Sequence[WeeklyRule]]
    by_resource: Mapping[int, Sequence[WeeklyRule]]


def _list_hours(rows: Sequence[Resource]) -> _Hours:
    by_venue: dict[int, list[WeeklyRule]] = defaultdict(list)
    by_resource: dict[int, list[WeeklyRule]] = defaultdict(list)
    found = _list_rules(
        resource_ids=[row.pk for row in rows], venue_ids={row.venue_id for row in rows}
    )
    for each in found:
        rule = WeeklyRule(
            weekday=each.weekday,
            opens_at=each.opens_at,
            closes_at=each.closes_at,
            starts_on=each.starts_on,
            ends_on=each.ends_on,
        )
        if each.resource_id is None:
            by_venue[each.venue_id].append(rule)
        else:
            by_resource[each.resource_id].append(rule)
    return _Hours(by_venue=by_venue, by_resource=by_resource)


@statements.compiled
def _list_rules(
    *, resource_ids: Collection[int], venue_ids: Collection[int]
) -> "QuerySet[OpeningRule]":
    is_theirs = Q(resource__isnull=True) | Q(resource_id__in=resource_ids)
    return OpeningRule.objects.filter(is_theirs, venue_id__in=venue_ids).order_by("id")


def _place(row: Resource, hours: _Hours) -> Place:
    own = hours.by_resource.get(row.pk)
    return Place(
        id=row.pk,
        key=row.key,
        name=row.name,
        kind=row.kind,
        capacity=row.capacity,
        gap_minutes=max(row.buffer_before_minutes, row.buffer_after_minutes),
        venue_id=row.venue_id,
        venue_key=row.venue.key,
        time_zone=row.venue.time_zone,
        currency=row.venue.currency,
        terms=Terms(
            id=row.type_id,
            key=row.type.key,
            unit=row.type.unit,
            minutes_min=row.type.minutes_min,
            minutes_max=row.type.minutes_max,
            grid_minutes=row.type.grid_minutes,
            feature=FeatureName(
                id=row.type.feature_id,
                key=row.type.feature.key,
                plan_group_id=row.type.feature.plan_group_id,
            ),
        ),
        hours=tuple(own or hours.by_venue.get(row.venue_id, ())),
    )
