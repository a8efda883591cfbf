"""Put add-ons on a subscription and take them off: at once, beside the plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core import db, errors
from subscriptions import errors as own_errors
from subscriptions.models import AddOn, AddOnPrice, Subscription, SubscriptionAddOn
from subscriptions.services import moves, timeline
from subscriptions.services.moves import Locked
from subscriptions.services.timeline import Actor

CHANGED_ADD_ONS = "change_add_ons"
CHANGEABLE = (Subscription.Status.ACTIVE, Subscription.Status.TRIALING)
QUANTITY_MAX = 1_000_000


@dataclass(frozen=True, kw_only=True)
class AddOnOrder:
    """How many of an add-on there shall be, 0 for none; without a price key, one that fits."""

    add_on_key: str
    quantity: int
    price_key: str | None = None


@db.operation
def set_quantity(
    *, subscription_id: UUID, order: AddOnOrder, actor: Actor, clock: clocks.Clock
) -> Subscription:
    """Set how many of an add-on a subscription has, in a transaction of its own.

    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, InvalidTransition, PlanNotAvailable, CurrencyMismatch, Invalid:
        as `set_quantity_step`.
    """
    customer_id = moves.customer_of(subscription_id)
    with db.transaction():
        locked = moves.lock_step(customer_id=customer_id, clock=clock)
        row = locked.get(subscription_id)
        set_quantity_step(locked, row=row, order=order, actor=actor)
        return row


def set_quantity_step(
    locked: Locked, *, row: Subscription, order: AddOnOrder, actor: Actor
) -> SubscriptionAddOn | None:
    """Set how many of an add-on a subscription has from now on; units add or go at once.

    The row that was open ends, another begins, so that every instant keeps what it had.
    Publishes `subscription.add_ons_changed`, then `subscription.changed`. Asking for what is
    there changes nothing. The caller took `moves.lock_step`.

    :raises SubscriptionEnded, InvalidTransition: unless it is active or on trial.
    :raises PlanNotAvailable: for an add-on that is not on offer in the plan's group.
    :raises CurrencyMismatch: where it is not sold in the subscription's currency.
    :raises Invalid: for a quantity out of bounds, or an unknown price.
    """
    _refuse_state(row)
    add_on = _offered(row, order)
    present = SubscriptionAddOn.objects.filter(
        subscription=row, add_on=add_on, ends_at__isnull=True
    ).first()
    before = present.quantity if present else 0
    if before == order.quantity:
        return present
    if present is not None:
        SubscriptionAddOn.objects.filter(pk=present.pk).update(ends_at=locked.at)
    fresh = None
    if order.quantity:
        fresh = SubscriptionAddOn.objects.create(
            customer_id=row.customer_id,
            subscription=row,
            add_on=add_on,
            price=_price(row, add_on, order, currency=locked.customer.currency),
            quantity=order.quantity,
            starts_at=locked.at,
        )
    _tell(locked, row, add_on, before=before, after=order.quantity, actor=actor)
    return fresh


def take_along_step(*, former: Subscription, to: Subscription, at: datetime) -> None:
    """Put the add-ons of a subscription on the one that waits to take its place, as they are.

    They count, and are billed, once that one does. Both are in one currency. The caller stored
    it, and holds the customer's lock.
    """
    for each in _open_on(former):
        SubscriptionAddOn.objects.create(
            customer_id=to.customer_id,
            subscription=to,
            add_on=each.add_on,
            price=each.price,
            quantity=each.quantity,
            starts_at=at,
        )


def hand_over_step(locked: Locked, *, former: Subscription, actor: Actor) -> list[AddOnOrder]:
    """Take the add-ons off a subscription whose place another takes now; return what they were.

    What was billed ahead of them is given back by those who follow the fact.
    """
    handed = []
    for each in _open_on(former):
        SubscriptionAddOn.objects.filter(pk=each.pk).update(ends_at=locked.at)
        _tell(locked, former, each.add_on, before=each.quantity, after=0, actor=actor)
        handed.append(AddOnOrder(add_on_key=each.add_on.key, quantity=each.quantity))
    return handed


def take_over_step(
    locked: Locked, *, row: Subscription, handed: Sequence[AddOnOrder], actor: Actor
) -> None:
    """Put on a subscription that took another's place what was added there while it waited."""
    own = {each.add_on.key for each in _open_on(row)} if handed else set()
    for order in handed:
        if order.add_on_key not in own:
            set_quantity_step(locked, row=row, order=order, actor=actor)


def _open_on(row: Subscription) -> list[SubscriptionAddOn]:
    held = SubscriptionAddOn.objects.filter(subscription=row, ends_at__isnull=True)
    return list(held.select_related("add_on").order_by("add_on__key"))


def _tell(
    locked: Locked, row: Subscription, add_on: AddOn, *, before: int, after: int, actor: Actor
) -> None:
    timeline.record_step(
        row,
        before=row.status,
        event=CHANGED_ADD_ONS,
        actor=actor,
        at=locked.at,
        beside={f"add_on {add_on.key}": (before, after)},
    )
    facts = {
        "add_on": add_on.key,
        "from_quantity": before,
        "to_quantity": after,
        "effective_at": clocks.rfc3339(locked.at),
    }
    timeline.publish_step(row, event_type=timeline.ADD_ONS_CHANGED, at=locked.at, facts=facts)
    timeline.changed_step(row, at=locked.at)


def _refuse_state(row: Subscription) -> None:
    detail = f"The subscription is {row.status}; add-ons change while it is active or on trial."
    if row.status in Subscription.FINAL_STATUSES:
        raise own_errors.SubscriptionEnded(detail)
    if row.status not in CHANGEABLE:
        raise own_errors.InvalidTransition(detail)


def _offered(row: Subscription, order: AddOnOrder) -> AddOn:
    """Return the add-on; one that is archived may still be taken off."""
    if not 0 <= order.quantity <= QUANTITY_MAX:
        detail = f"A quantity is 0 … {QUANTITY_MAX}."
        raise errors.Invalid.at("/quantity", code="out_of_range", detail=detail)
    add_on = AddOn.objects.filter(key=order.add_on_key, plan_group=row.plan_group_id).first()
    is_offered = add_on is not None and add_on.published_at is not None
    if add_on is None or not is_offered or (add_on.archived_at and order.quantity):
        detail = f"The add-on {order.add_on_key!r} is not on offer beside this plan."
        raise own_errors.PlanNotAvailable(detail, facts={"add_on": order.add_on_key})
    return add_on


def _price(
    row: Subscription, add_on: AddOn, order: AddOnOrder, *, currency: str
) -> AddOnPrice | None:
    prices = list(add_on.prices.order_by("id"))
    if order.price_key is not None:
        prices = [each for each in prices if each.key == order.price_key]
        if not prices:
            detail = f"The add-on has no price {order.price_key!r}."
            raise errors.Invalid.at("/price", code="unknown", detail=detail)
    currency = row.price.currency if row.price else currency
    own = [each for each in prices if each.currency == currency]
    if prices and not own and any(each.unit_amount_minor for each in prices):
        detail = f"The subscription is in {currency}, the add-on is sold in other currencies."
        raise own_errors.CurrencyMismatch(detail)
    alike = [each for each in own if row.price and each.interval == row.price.interval]
    return next(iter([*alike, *own, *prices]), None)
