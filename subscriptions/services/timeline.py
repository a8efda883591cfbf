"""Tell what happened to a subscription: a line of its timeline, and facts for other apps."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from core import actors, events
from core import clock as clocks
from core.periods import Period
from core.services import audit, customers
from subscriptions import states
from subscriptions.models import Subscription, TimelineEntry
from subscriptions.planning import KEEP

CHANGED = "subscription.changed"
TRANSITIONED = "subscription.transitioned"
RENEWED = "subscription.renewed"
PLAN_CHANGED = "subscription.plan_changed"
ADD_ONS_CHANGED = "subscription.add_ons_changed"
PAYMENT_LATE = "subscription.payment_late"
EVENT_TYPES = (CHANGED, TRANSITIONED, RENEWED, PLAN_CHANGED, ADD_ONS_CHANGED, PAYMENT_LATE)
Pair = tuple[object, object]
NOTHING_BESIDE: Mapping[str, Pair] = MappingProxyType({})


Actor = actors.Actor
CLOCK = Actor(name="clock")


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a subscription is to: plan version, price and quantity."""

    plan_version_id: int
    price_id: int | None
    quantity: int


def content_of(row: Subscription) -> Content:
    """Return what the subscription is to now."""
    return Content(
        plan_version_id=row.plan_version_id, price_id=row.price_id, quantity=row.quantity
    )


def record_step(
    row: Subscription,
    *,
    before: str,
    event: str,
    actor: Actor,
    at: datetime,
    beside: Mapping[str, Pair] = NOTHING_BESIDE,
    usage_policy: str = KEEP,
) -> None:
    """Append a line to the timeline and publish the transition, at its own instant.

    `beside` has what was and is of that which is no part of the state, for the audit log.
    `usage_policy` is what becomes of the usage so far.
    """
    if actor.is_operator:
        _audit(row, event=event, actor=actor, at=at, beside=beside)
    _append(row, before=before, event=event, actor=actor, at=at, usage_policy=usage_policy)
    publish_step(
        row,
        event_type=TRANSITIONED,
        at=at,
        facts={"from": before, "to": row.status, "event": event},
    )


def note_step(row: Subscription, *, event: str, actor: Actor, at: datetime) -> None:
    """Append a line of what is no transition, and that somebody else publishes and audits."""
    _append(row, before=row.status, event=event, actor=actor, at=at)


def _append(
    row: Subscription,
    *,
    before: str,
    event: str,
    actor: Actor,
    at: datetime,
    usage_policy: str = KEEP,
) -> None:
    TimelineEntry.objects.create(
        customer_id=row.customer_id,
        subscription=row,
        at=at,
        from_status=before,
        to_status=row.status,
        event=event,
        actor=actor.name,
        reason=actor.reason,
        request_id=actor.request_id,
        state=states.document_of(row),
        usage_policy=usage_policy,
    )


def _audit(
    row: Subscription, *, event: str, actor: Actor, at: datetime, beside: Mapping[str, Pair]
) -> None:
    """Keep in the audit log what staff, a backend or a command did to the subscription."""
    lines = TimelineEntry.objects.filter(subscription=row).order_by("-id")
    was = lines.values_list("state", flat=True).first() or {}
    audit.record_step(
        actor=actor,
        action=f"subscription.{event}",
        row=row,
        at=at,
        before={**was, **{name: pair[0] for name, pair in beside.items()}},
        after={**states.document_of(row), **{name: pair[1] for name, pair in beside.items()}},
    )


def publish_step(
    row: Subscription, *, event_type: str, at: datetime, facts: Mapping[str, object]
) -> None:
    """Publish a fact about the subscription; its id stands first in the payload."""
    payload: dict[str, object] = {"subscription": str(row.pk), **facts}
    events.publish(
        events.Event(
            event_type=event_type, customer_id=row.customer_id, occurred_at=at, payload=payload
        )
    )


def changed_step(
    row: Subscription,
    *,
    at: datetime,
    usage_policy: str = KEEP,
    before: Content | None = None,
) -> None:
    """Raise the customer's revision and tell all apps that what is in force has changed.

    `before` is what the subscription was to, where that has changed just now.
    """
    customers.revise_step(customer_id=row.customer_id, at=at)
    facts: dict[str, object] = {"status": row.status, "usage_policy": usage_policy}
    if before is not None:
        facts |= {"from_version": before.plan_version_id, "from_quantity": before.quantity}
    publish_step(row, event_type=CHANGED, at=at, facts=facts)


def renewed_step(row: Subscription, *, period: Period, at: datetime) -> None:
    """Tell that a billing period opened by itself; once for each period."""
    facts = {
        "period_starts_at": clocks.rfc3339(period.starts_at),
        "period_ends_at": None if period.ends_at is None else clocks.rfc3339(period.ends_at),
    }
    publish_step(row, event_type=RENEWED, at=at, facts=facts)


def plan_changed_step(
    row: Subscription, *, before: Content, kind: str, effective_at: datetime, at: datetime
) -> None:
    """Tell that the subscription is to something else from `effective_at` on."""
    facts = {
        "from_version": before.plan_version_id,
        "to_version": row.plan_version_id,
        "from_price": before.price_id,
        "to_price": row.price_id,
        "from_quantity": before.quantity,
        "to_quantity": row.quantity,
        "effective_at": clocks.rfc3339(effective_at),
        "kind": kind,
    }
    publish_step(row, event_type=PLAN_CHANGED, at=at, facts=facts)
