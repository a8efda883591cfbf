"""Give one customer something of a feature beside his plan, for a span, and end it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core import db, errors, events
from core import locks as core_locks
from core.models import Customer
from core.services import audit, customers, idempotency
from core.services.idempotency import KeyedRequest, Recorded
from subscriptions import locks, selectors
from subscriptions.facts import FeatureFacts
from subscriptions.models import Feature, Override
from subscriptions.services.lifecycle import Actor

CHANGED = "entitlements.changed"
CREATED, ENDED = "override.created", "override.ended"
Render = Callable[[Override], Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is given on `[starts_at, ends_at)`, from now on by default: units added to a metered
    feature or all of it, a value of a static one, or a switch turned on.
    """

    feature_key: str
    units: int | None = None
    is_unlimited: bool = False
    value: object = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    reason: str = ""


def create(
    *,
    customer_id: UUID,
    order: Order,
    actor: Actor,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Override the customer's entitlement, once under the key; balances have it on return.

    :raises NotFound: where there is no such customer.
    :raises FeatureUnknown: for a key that names no feature.
    :raises Invalid: for what the feature's type has not, or an end that is not ahead.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    feature = selectors.get_feature(key=order.feature_key)

    @db.operation
    def run() -> Recorded:
        with db.transaction():
            at = _lock_step(customer_id, clock)
            _refuse_misfit(order, feature, at=at)
            override = Override.objects.create(
                customer_id=customer_id,
                feature_id=feature.id,
                units=order.units,
                is_unlimited=order.is_unlimited,
                value=order.value,
                starts_at=order.starts_at or at,
                ends_at=order.ends_at,
                reason=order.reason,
                actor=actor.name,
                created_at=at,
            )
            _publish_step(override, at=at)
            why = replace(actor, reason=actor.reason or order.reason)
            after = audit.snapshot(override)
            audit.record_step(actor=why, action=CREATED, row=override, at=at, after=after)
            return idempotency.claim_step(
                customer_id=customer_id, keyed=keyed, status=201, body=render(override), at=at
            )

    return idempotency.once(customer_id=customer_id, keyed=keyed, run=run)


def end(
    *,
    customer_id: UUID,
    override_id: UUID,
    actor: Actor,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """End an override now; one that has ended stays as it is.

    :raises NotFound: for an override that is not this customer's.
    :raises AllocatedUsageExceedsLimit: where fewer allocated units were left than are taken.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """

    @db.operation
    def run() -> Recorded:
        with db.transaction():
            at = _lock_step(customer_id, clock)
            override = Override.objects.filter(pk=override_id, customer_id=customer_id).first()
            if override is None:
                raise errors.NotFound("There is no such override.")
            if override.ends_at is None or override.ends_at > at:
                before = audit.snapshot(override)
                override.ends_at = max(at, override.starts_at)
                override.actor = actor.name
                override.save(update_fields=["ends_at", "actor"])
                _publish_step(override, at=at)
                audit.record_step(
                    actor=actor,
                    action=ENDED,
                    row=override,
                    at=at,
                    before=before,
                    after=audit.snapshot(override),
                )
            return idempotency.claim_step(
                customer_id=customer_id, keyed=keyed, status=200, body=render(override), at=at
            )

    return idempotency.once(customer_id=customer_id, keyed=keyed, run=run)


def _lock_step(customer_id: UUID, clock: clocks.Clock) -> datetime:
    try:
        customer = core_locks.lock_customer(customer_id=customer_id)
    except Customer.DoesNotExist as error:
        raise errors.NotFound("There is no such customer.") from error
    locks.lock_subscriptions(customer_id=customer_id)
    events.lock_for(event_types=(CHANGED,), customer=customer, clock=clock)
    return clocks.instant_of(customer, clock=clock)


def _refuse_misfit(order: Order, feature: FeatureFacts, *, at: datetime) -> None:
    is_metered = feature.type == Feature.Type.METERED
    given = [order.units is not None, order.is_unlimited, order.value is not None]
    if is_metered and (order.value is not None or sum(given) != 1):
        detail = "A metered feature takes units or unlimited, one of them."
        raise errors.Invalid.at("/units", code="misfit", detail=detail)
    if feature.type == Feature.Type.STATIC and (order.value is None or sum(given) != 1):
        raise errors.Invalid.at("/value", code="misfit", detail="A static feature takes a value.")
    if feature.type == Feature.Type.BOOLEAN and any(given):
        raise errors.Invalid.at("/feature", code="misfit", detail="A switch is turned on alone.")
    if order.ends_at is not None and order.ends_at <= max(at, order.starts_at or at):
        detail = "The override would end before it begins."
        raise errors.Invalid.at("/ends_at", code="not_after_start", detail=detail)


def _publish_step(override: Override, *, at: datetime) -> None:
    customers.revise_step(customer_id=override.customer_id, at=at)
    payload: dict[str, object] = {
        "override": str(override.pk),
        "feature": override.feature.key,
        "ends_at": clocks.rfc3339(override.ends_at) if override.ends_at else None,
    }
    events.publish(
        events.Event(
            event_type=CHANGED,
            customer_id=override.customer_id,
            occurred_at=at,
            payload=payload,
        )
    )
