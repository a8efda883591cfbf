"""Give a customer units beside his allowance, and take back what is left of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core import db, errors, events, periods
from core.models import Customer
from core.periods import Interval, Recurrence
from core.services import audit, customers, idempotency
from core.services.idempotency import KeyedRequest, Recorded
from metering.decision import Place
from metering.models import Grant
from metering.services import balances, drawing, opening
from subscriptions import selectors as subscription_selectors
from subscriptions.facts import FeatureFacts
from subscriptions.models import PRIORITY_DEFAULT
from subscriptions.services.lifecycle import Actor

CREATED, VOIDED = "grant.created", "grant.voided"
Render = Callable[[Grant], Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is granted: 1 … 10^12 units on `[effective_at, expires_at)`, from now on by default.

    The end is an instant, or an interval after the effect in calendar arithmetic: a month after
    31 January is the last day of February. Without either the grant never ends.
    What is left at a reset is kept within the rollover; `rollover_max_units` None keeps all.
    A recurrence fills the grant up again, counted from `effective_at`.
    """

    feature_key: str
    units: int
    priority: int = PRIORITY_DEFAULT
    category: str = Grant.Category.PAID
    effective_at: datetime | None = None
    expires_at: datetime | None = None
    expires_after_interval: str = ""
    expires_after_count: int = 1
    rollover_min_units: int = 0
    rollover_max_units: int | None = None
    recurrence_interval: str = ""
    recurrence_count: int = 1
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
    """Give the units, once under the key; on return the customer's balance has them.

    Overage that stands is covered by them first.

    :raises NotFound: where there is no such customer.
    :raises FeatureUnknown, FeatureNotMetered: for a key that names no metered feature.
    :raises Invalid: for an expiry that is given twice, has passed or lies before the effect, a
        rollover that contradicts itself, or a feature whose units are allocated.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    feature = drawing.get_metered_features(keys=[order.feature_key])[order.feature_key]

    @db.operation
    def run() -> Recorded:
        with db.transaction():
            customer, at = opening.open_place_step(
                customer_id=customer_id, feature=feature, clock=clock
            )
            dated = _dated(order, at=at)
            _refuse_contradiction(dated, feature, at=at)
            grant = _make(customer, feature, dated, actor, at=at)
            balances.rederive(customer=customer, at=at, place=Place(feature.id, ""))
            _publish(grant, event_type=CREATED, at=at)
            grant = Grant.objects.get(pk=grant.pk)
            why = replace(actor, reason=actor.reason or order.reason)
            after = audit.snapshot(grant)
            audit.record_step(actor=why, action=CREATED, row=grant, at=at, after=after)
            body = render(grant)
            return idempotency.claim_step(
                customer_id=customer_id, keyed=keyed, status=201, body=body, at=at
            )

    return idempotency.once(customer_id=customer_id, keyed=keyed, run=run)


def void(
    *,
    customer_id: UUID,
    grant_id: UUID,
    actor: Actor,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """End a grant now: what it gave stays used, what is left of it is gone. Once is for ever.

    :raises NotFound: for a grant that is not this customer's.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    found = Grant.objects.filter(pk=grant_id, customer_id=customer_id).first()
    if found is None:
        raise errors.NotFound("There is no such grant.")
    feature = subscription_selectors.features_by_id(ids=[found.feature_id])[found.feature_id]

    @db.operation
    def run() -> Recorded:
        with db.transaction():
            customer, at = opening.open_place_step(
                customer_id=customer_id, feature=feature, clock=clock
            )
            ended = Grant.objects.filter(pk=grant_id, voided_at__isnull=True)
            if ended.update(voided_at=at, actor=actor.name):
                balances.rederive(customer=customer, at=at, place=Place(feature.id, ""))
                _publish(found, event_type=VOIDED, at=at)
                audit.record_step(
                    actor=actor,
                    action=VOIDED,
                    row=found,
                    at=at,
                    before={"voided_at": None, "remaining_units": found.remaining_units},
                    after={"voided_at": clocks.rfc3339(at)},
                )
            body = render(Grant.objects.get(pk=grant_id))
            return idempotency.claim_step(
                customer_id=customer_id, keyed=keyed, status=200, body=body, at=at
            )

    return idempotency.once(customer_id=customer_id, keyed=keyed, run=run)


def _dated(order: Order, *, at: datetime) -> Order:
    """Return the order with the instant of its end, counted from its effect in UTC."""
    if not order.expires_after_interval:
        return order
    if order.expires_at is not None:
        detail = "Give expires_at or expires_after, not both."
        raise errors.Invalid.at("/expires_after", code="not_both", detail=detail)
    lasting = Recurrence(
        anchor=order.effective_at or at,
        time_zone="UTC",
        interval=Interval(order.expires_after_interval),
        count=order.expires_after_count,
    )
    try:
        return replace(order, expires_at=periods.boundary(lasting, index=1))
    except OverflowError as error:
        detail = "The grant would end after the year 9999."
        raise errors.Invalid.at("/expires_after", code="too_late", detail=detail) from error


def _refuse_contradiction(order: Order, feature: FeatureFacts, *, at: datetime) -> None:
    if feature.is_allocated:
        detail = f"{feature.key} is allocated; add to it by plan, add-on or override."
        raise errors.Invalid.at("/feature", code="allocated", detail=detail)
    if order.expires_at is not None and order.expires_at <= (order.effective_at or at):
        detail = "The grant would expire before it takes effect."
        raise errors.Invalid.at("/expires_at", code="not_after_effect", detail=detail)
    if order.expires_at is not None and order.expires_at <= at:
        raise errors.Invalid.at("/expires_at", code="past", detail="The expiry has passed.")
    most = order.rollover_max_units
    if most is not None and order.rollover_min_units > most:
        detail = "rollover_min exceeds rollover_max."
        raise errors.Invalid.at("/rollover_min", code="exceeds_rollover_max", detail=detail)


def _make(
    customer: Customer, feature: FeatureFacts, order: Order, actor: Actor, *, at: datetime
) -> Grant:
    effective_at = order.effective_at or at
    return Grant.objects.create(
        customer=customer,
        feature_id=feature.id,
        units=order.units,
        remaining_units=order.units,
        priority=order.priority,
        category=order.category,
        effective_at=effective_at,
        expires_at=order.expires_at,
        rollover_min_units=order.rollover_min_units,
        rollover_max_units=order.rollover_max_units,
        recurrence_interval=order.recurrence_interval,
        recurrence_count=order.recurrence_count,
        recurrence_anchor_at=effective_at if order.recurrence_interval else None,
        reason=order.reason,
        actor=actor.name,
        created_at=at,
    )


def _publish(grant: Grant, *, event_type: str, at: datetime) -> None:
    customers.revise_step(customer_id=grant.customer_id, at=at)
    payload: dict[str, object] = {
        "grant": str(grant.pk),
        "feature": grant.feature.key,
        "units": grant.units,
    }
    events.publish(
        events.Event(
            event_type=event_type,
            customer_id=grant.customer_id,
            occurred_at=at,
            payload=payload,
        )
    )
