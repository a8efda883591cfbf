"""Read the terms on which a customer's plans let him book."""

from collections.abc import Collection, Iterable
from dataclasses import fields, replace
from datetime import datetime

from django.db.models import QuerySet

from core import statements
from core.models import Customer
from metering import derivation
from resources.models import (
    BookingPolicy,
    PeakWindow,
)
from resources.rules import Peak, Policy
from resources.timetable import Place
from subscriptions import selectors as subscription_selectors

POLICY_FIELDS = [each.name for each in fields(Policy) if each.name != "peaks"]


def get_policies(
    *, customer: Customer, places: Collection[Place], at: datetime
) -> dict[int, Policy]:
    """Return the terms of each type under the customer's plans at the instant, by type id.

    A plan without terms of its own has those of the rest; a type without any has the defaults.
    The customer's plans are read only where terms differ by plan.
    """
    terms = {place.terms.id: place.terms for place in places}
    rows = _list_policies(type_ids=terms)
    windows = _list_peaks(policy_ids=[row.pk for row in rows]) if rows else []
    plan_keys: dict[int, str | None] = {}
    if any(row.plan_id is not None for row in rows):
        facts = subscription_selectors.get_customer_facts(customer=customer)
        for type_id, each in terms.items():
            group_id = each.feature.plan_group_id
            version = derivation.in_force(facts, plan_group_id=group_id, at=at).version
            plan_keys[type_id] = version.plan_key if version else None
    found = {(row.type_id, row.plan.key if row.plan else None): row for row in rows}
    policies: dict[int, Policy] = {}
    for type_id in terms:
        row = found.get((type_id, plan_keys.get(type_id))) or found.get((type_id, None))
        policies[type_id] = _policy(row, windows) if row else Policy()
    return policies


@statements.compiled
def _list_policies(*, type_ids: Collection[int]) -> "QuerySet[BookingPolicy]":
    return BookingPolicy.objects.filter(type_id__in=type_ids).select_related("plan")


@statements.compiled
def _list_peaks(*, policy_ids: Collection[int]) -> "QuerySet[PeakWindow]":
    return PeakWindow.objects.filter(policy_id__in=policy_ids).order_by("starts_at", "id")


def _policy(row: BookingPolicy, windows: Iterable[PeakWindow]) -> Policy:
    peaks = tuple(
        Peak(
            weekday=each.weekday,
            starts_at=each.starts_at,
            ends_at=each.ends_at,
            rate_percent=each.rate_percent,
            active_max=each.active_max,
        )
        for each in windows
        if each.policy_id == row.pk
    )
    return replace(Policy(**{name: getattr(row, name) for name in POLICY_FIELDS}), peaks=peaks)
