"""Subscribe, pay and end: every move of a subscription, under the customer's lock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import F

from core import clock as clocks
from core import db, errors, events
from core import locks as core_locks
from core.models import Customer
from core.services import idempotency
from core.services.idempotency import KeyedRequest, Recorded
from subscriptions import errors as own_errors
from subscriptions import locks, selectors, status
from subscriptions.models import PlanVersion, Price, Subscription, TimelineEntry
from subscriptions.services import anchors
from subscriptions.status import Boundary

CHANGED = "subscription.changed"
TRANSITIONED = "subscription.transitioned"
CREATED = 201
Status = Subscription.Status


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a customer asks to subscribe to; without a price key, the first of his currency."""

    plan_key: str
    price_key: str | None = None
    quantity: int = 1


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who acts, why, and under which request, as the timeline keeps it."""

    name: str
    reason: str = ""
    request_id: str = ""


CLOCK = Actor(name="clock")
Render = Callable[[Subscription, datetime], Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The published version and the price that an order means."""

    plan_version: PlanVersion
    price: Price | None

    @property
    def requires_payment(self) -> bool:
        """Tell whether access waits for a payment."""
        return self.price is not None and not self.price.is_free


def subscribe(
    *,
    customer_id: UUID,
    order: Order,
    actor: Actor,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Subscribe the customer to a plan, once under the key, and record the rendered answer.

    A free plan, and one with a trial not taken before, is in force on return; a paid one is
    incomplete for 23 hours and leaves in force what was. A newer incomplete expires the older.

    :raises PlanUnknown, PlanNotAvailable, CurrencyMismatch: for a plan or price not on offer.
    :raises SubscriptionExists: where a live one stands in the plan's group.
    :raises NotFound: where there is no such customer.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """

    @db.operation
    def run() -> Recorded:
        with db.transaction():
            customer, rows, at = _lock_step(customer_id=customer_id, clock=clock)
            settle_step(rows=rows, at=at)
            row = _subscribe_step(customer=customer, order=order, rows=rows, actor=actor, at=at)
            _publish(row, at=at)
            body = render(row, at)
            return idempotency.claim_step(
                customer_id=customer_id, keyed=keyed, status=CREATED, body=body, at=at
            )

    return idempotency.once(customer_id=customer_id, keyed=keyed, run=run)


@db.operation
def mark_paid(*, subscription_id: UUID, actor: Actor, clock: clocks.Clock) -> Subscription:
    """Confirm the first payment by hand: access and periods start now.

    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded: where it is final, also by the clock alone.
    :raises SubscriptionExists: where another one took the plan group's place meanwhile.
    :raises InvalidTransition: where no first payment is awaited.
    """
    customer_id = _customer_of(subscription_id)
    with db.transaction():
        customer, rows, at = _lock_step(customer_id=customer_id, clock=clock)
        settle_step(rows=rows, at=at)
        row = _open_row(rows, subscription_id)
        if row is None:
            refusal: errors.DomainError = own_errors.SubscriptionEnded("It has ended.")
        elif row.status != Status.INCOMPLETE:
            detail = f"A subscription that is {row.status} awaits no first payment."
            refusal = own_errors.InvalidTransition(detail)
        elif _has_live(rows, plan_group_id=row.plan_group_id):
            detail = "Another subscription of this plan group is live; end it or refund this one."
            refusal = own_errors.SubscriptionExists(detail)
        else:
            row.anchor_at = anchors.anchor_for(
                customer=customer, offered=row.plan_version, price=row.price, at=at
            )
            row.has_payment_method = True
            _move_step(row, to=Status.ACTIVE, event="payment_succeeded", actor=actor, at=at)
            _publish(row, at=at)
            return row
    raise refusal


@db.operation
def cancel_now(*, subscription_id: UUID, actor: Actor, clock: clocks.Clock) -> Subscription:
    """End a subscription at once; one that has ended stays as it is.

    :raises NotFound: where there is no such subscription.
    """
    customer_id = _customer_of(subscription_id)
    with db.transaction():
        _, rows, at = _lock_step(customer_id=customer_id, clock=clock)
        settle_step(rows=rows, at=at)
        row = _open_row(rows, subscription_id)
        if row is None:
            return Subscription.objects.get(pk=subscription_id)
        row.ended_at = at
        row.change_at, row.change_to = None, None
        _move_step(row, to=Status.CANCELED, event="cancel_now", actor=actor, at=at)
        _publish(row, at=at)
        return row


def settle_step(*, rows: Sequence[Subscription], at: datetime) -> None:
    """Write down every change that the clock brought, each at its own instant, oldest first.

    The caller holds the locks of the customer and the rows.
    """
    db.transaction_required()
    for row in rows:
        for passed in status.passed_boundaries(row, at=at):
            _persist(row, passed)


def _persist(row: Subscription, passed: Boundary) -> None:
    before, after = row.status, passed.after
    row.status = after.status
    row.plan_version_id = after.plan_version_id
    row.anchor_at = after.anchor_at
    row.incomplete_expires_at = after.incomplete_expires_at
    row.grace_until = after.grace_until
    row.resume_at = after.resume_at
    row.ended_at = after.ended_at
    if after.change_at is None:
        row.change_at, row.change_to = None, None
    row.save()
    _record(row, before=before, event=passed.event, actor=CLOCK, at=passed.at)
    _raise_revision(row.customer_id)


def _lock_step(
    *, customer_id: UUID, clock: clocks.Clock
) -> tuple[Customer, list[Subscription], datetime]:
    """Take every lock of a move, then read the time."""
    try:
        customer = core_locks.lock_customer(customer_id=customer_id)
    except Customer.DoesNotExist as error:
        raise errors.NotFound("There is no such customer.") from error
    rows = locks.lock_subscriptions(customer_id=customer_id)
    events.lock_for(event_types=(CHANGED,), customer_id=customer_id)
    return customer, rows, clock.now()


def _subscribe_step(
    *,
    customer: Customer,
    order: Order,
    rows: Sequence[Subscription],
    actor: Actor,
    at: datetime,
) -> Subscription:
    offer = resolve_offer(order=order, currency=customer.currency)
    plan = offer.plan_version.plan
    if _has_live(rows, plan_group_id=plan.plan_group_id):
        detail = "End or change the live subscription of this plan group first."
        raise own_errors.SubscriptionExists(detail)
    for row in rows:
        if row.plan_group_id == plan.plan_group_id and row.status == Status.INCOMPLETE:
            row.ended_at = at
            _move_step(row, to=Status.EXPIRED, event="superseded", actor=actor, at=at)
    row = _new_row(customer=customer, offer=offer, quantity=order.quantity, at=at)
    row.save(force_insert=True)
    _record(row, before="", event="subscribed", actor=actor, at=at)
    return row


def resolve_offer(*, order: Order, currency: str) -> Offer:
    """Return the published version and the price that the order means.

    :raises PlanUnknown, PlanNotAvailable: for a plan that is not there or not on offer.
    :raises Invalid: for a price that the plan does not have.
    :raises CurrencyMismatch: for a price in another currency.
    """
    version = selectors.find_offered_version(plan_key=order.plan_key)
    if version is None:
        if selectors.has_plan(key=order.plan_key):
            detail = f"The plan {order.plan_key!r} is not on offer."
            raise own_errors.PlanNotAvailable(detail, facts={"plan": order.plan_key})
        raise own_errors.PlanUnknown.named(order.plan_key)
    prices = list(version.prices.order_by("id"))
    if order.price_key is not None:
        prices = [each for each in prices if each.key == order.price_key]
        if not prices:
            detail = f"The plan {order.plan_key!r} has no price {order.price_key!r}."
            raise errors.Invalid.at("/price", code="unknown", detail=detail)
    if not prices:
        return Offer(plan_version=version, price=None)
    own = [each for each in prices if each.currency == currency]
    if not own and not all(each.is_free for each in prices):
        detail = f"The customer pays in {currency}, the price is in {prices[0].currency}."
        raise own_errors.CurrencyMismatch(detail)
    return Offer(plan_version=version, price=(own or prices)[0])


def _new_row(*, customer: Customer, offer: Offer, quantity: int, at: datetime) -> Subscription:
    version = offer.plan_version
    row = Subscription(
        customer=customer,
        plan_version=version,
        price=offer.price,
        plan_group=version.plan.plan_group,
        quantity=quantity,
        status=Status.ACTIVE,
        anchor_at=anchors.anchor_for(customer=customer, offered=version, price=offer.price, at=at),
        time_zone=customer.time_zone,
        created_at=at,
        start_at=at,
        requires_payment=offer.requires_payment,
        trial_end_policy=version.trial_end_policy,
        grace_seconds=version.grace_seconds,
    )
    if selectors.is_trial_open(customer=customer, plan_version=version):
        row.status = Status.TRIALING
        row.trial_ends_at = anchors.days_later(at, days=version.trial_days)
        row.anchor_at = at
    elif offer.requires_payment:
        row.status = Status.INCOMPLETE
        row.incomplete_expires_at = at + status.INCOMPLETE_WINDOW
    return row


def _move_step(row: Subscription, *, to: str, event: str, actor: Actor, at: datetime) -> None:
    """Write the row in its new state with its line of the timeline; the caller holds its lock."""
    before, row.status = row.status, to
    row.save()
    _record(row, before=before, event=event, actor=actor, at=at)


def _record(row: Subscription, *, before: str, event: str, actor: Actor, at: datetime) -> None:
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
    )
    moved: dict[str, object] = {
        "subscription": str(row.pk),
        "from": before,
        "to": row.status,
        "event": event,
    }
    events.publish(
        events.Event(
            event_type=TRANSITIONED, customer_id=row.customer_id, occurred_at=at, payload=moved
        )
    )


def _publish(row: Subscription, *, at: datetime) -> None:
    _raise_revision(row.customer_id)
    payload: dict[str, object] = {"subscription": str(row.pk), "status": row.status}
    events.publish(
        events.Event(
            event_type=CHANGED, customer_id=row.customer_id, occurred_at=at, payload=payload
        )
    )


def _raise_revision(customer_id: UUID) -> None:
    Customer.objects.filter(pk=customer_id).update(revision=F("revision") + 1)


def _has_live(rows: Sequence[Subscription], *, plan_group_id: int) -> bool:
    return any(
        row.plan_group_id == plan_group_id and row.status in Subscription.SLOT_STATUSES
        for row in rows
    )


def _open_row(rows: Sequence[Subscription], subscription_id: UUID) -> Subscription | None:
    return next(
        (
            row
            for row in rows
            if row.pk == subscription_id and row.status not in Subscription.FINAL_STATUSES
        ),
        None,
    )


def _customer_of(subscription_id: UUID) -> UUID:
    row = Subscription.objects.filter(pk=subscription_id).only("customer_id").first()
    if row is None:
        raise errors.NotFound("There is no such subscription.")
    return row.customer_id
