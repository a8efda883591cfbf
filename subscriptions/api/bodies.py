"""Write the catalog and subscriptions as the API shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from core import clock
from subscriptions.models import (
    Entitlement,
    Feature,
    MeteredPrice,
    PlanVersion,
    Price,
    Subscription,
    TimelineEntry,
)
from subscriptions.selectors import Holdings

Body = dict[str, object]


def catalog(versions: Sequence[PlanVersion]) -> Body:
    """Return the plans on offer, by key, with display-ready features."""
    return {version.plan.key: plan(version) for version in versions}


def plan(version: PlanVersion) -> Body:
    """Return one plan on offer."""
    return {
        "key": version.plan.key,
        "name": version.plan.name,
        "description": version.plan.description,
        "version": version.number,
        "group": version.plan.plan_group.key,
        "rank": version.plan.rank,
        "trial_days": version.trial_days,
        "prices": [_price(price) for price in version.prices.all()],
        "metered_prices": [_metered_price(price) for price in version.metered_prices.all()],
        "features": [_row(each) for each in version.entitlements.all() if each.enabled],
    }


def with_eligibility(body: Mapping[str, Any], holdings: Holdings) -> Body:
    """Return the plan with what a customer of these holdings may do with it."""
    eligibility = holdings.eligibility(
        plan_key=body["key"],
        group_key=body["group"],
        rank=body["rank"],
        trial_days=body["trial_days"],
    )
    return {**body, "eligibility": asdict(eligibility)}


def _price(price: Price) -> Body:
    return {
        "key": price.key,
        "currency": price.currency,
        "unit_amount_minor": price.unit_amount_minor,
        "interval": price.interval,
        "interval_count": price.interval_count,
        "model": price.model,
        "terms": price.terms,
    }


def _metered_price(price: MeteredPrice) -> Body:
    return {
        "feature": price.feature.key,
        "currency": price.currency,
        "model": price.model,
        "terms": price.terms,
    }


def _row(entitlement: Entitlement) -> Body:
    is_metered = entitlement.feature.type == Feature.Type.METERED
    return {
        "feature": entitlement.feature.key,
        "type": entitlement.feature.type,
        "display": display(entitlement),
        "limit": entitlement.limit_units if is_metered else None,
        "value": entitlement.value,
        "resets": _resets(entitlement) if is_metered else None,
    }


def _resets(entitlement: Entitlement) -> str:
    interval = entitlement.reset_interval.replace("_", " ")
    return interval if entitlement.reset_count == 1 else f"{entitlement.reset_count} {interval}s"


def display(entitlement: Entitlement) -> str:
    """Return one line for a pricing table: `1,000 calls per month`."""
    feature = entitlement.feature
    if feature.type == Feature.Type.BOOLEAN:
        return feature.name
    if feature.type == Feature.Type.STATIC:
        return f"{entitlement.value} {feature.unit}".strip() + f" {feature.name}"
    if entitlement.limit_units is None:
        return f"Unlimited {feature.name}"
    amount = f"{entitlement.limit_units:,} {feature.name}"
    if entitlement.reset_interval == "lifetime":
        return f"{amount} in all"
    return f"{amount} per {_resets(entitlement)}"


def feature(row: Feature) -> Body:
    """Return one feature."""
    return {
        "key": row.key,
        "name": row.name,
        "description": row.description,
        "type": row.type,
        "unit": row.unit,
    }


def subscription(row: Subscription) -> Body:
    """Return one subscription as it is stored; `me` shows what is in force."""
    return {
        "id": str(row.pk),
        "plan": row.plan_version.plan.key,
        "version": row.plan_version.number,
        "price": row.price.key if row.price else None,
        "quantity": row.quantity,
        "status": row.status,
        "collection_paused": row.collection_paused_at is not None,
        "created_at": clock.rfc3339(row.created_at),
        "trial_ends_at": clock.rfc3339(row.trial_ends_at) if row.trial_ends_at else None,
        "ended_at": clock.rfc3339(row.ended_at) if row.ended_at else None,
    }


def timeline_entry(row: TimelineEntry) -> Body:
    """Return one transition."""
    return {
        "subscription": str(row.subscription_id),
        "at": clock.rfc3339(row.at),
        "from": row.from_status or None,
        "to": row.to_status,
        "event": row.event,
        "actor": row.actor,
        "reason": row.reason,
        "usage_policy": row.usage_policy,
    }
