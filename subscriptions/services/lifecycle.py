"""Subscribe and pay for the first time; how a subscription begins, under the customer's lock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from core import clock as clocks
from core import db, errors
from core.models import Customer
from core.services import idempotency
from core.services.idempotency import KeyedRequest, Recorded
from core.zones import Zones
from subscriptions import errors as own_errors
from subscriptions import renewals, selectors, transitions
from subscriptions.models import PlanVersion, Price, Subscription
from subscriptions.services import add_ons, anchors, moves, settling, timeline, trials
from subscriptions.services.actions import cancel_now
from subscriptions.services.add_ons import AddOnOrder
from subscriptions.services.moves import Action, Locked, Render
from subscriptions.services.timeline import CHANGED, CLOCK, TRANSITIONED, Actor
from subscriptions.states import Given

__all__ = ["CHANGED", "CLOCK", "TRANSITIONED", "Actor", "Render", "cancel_now"]
CREATED = 201
SUBSCRIBED = "subscribed"
Status = Subscription.Status


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a customer asks to subscribe to; without a price key, the first of his currency.

    `wants_trial` True insists on the trial, False leaves it for later; None takes it where it
    is open.
    """

    plan_key: str
    price_key: str | None = None
    quantity: int = 1
    wants_trial: bool | None = None


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
    :raises TrialAlreadyUsed: where the order insists on a trial that is not open.
    :raises SubscriptionExists: where a live one stands in the plan's group.
    :raises NotFound: where there is no such customer.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """

    @db.operation
    def run() -> Recorded:
        with db.transaction():
            locked = moves.lock_step(customer_id=customer_id, clock=clock)
            row = subscribe_step(locked, order=order, actor=actor)
            return idempotency.claim_step(
                customer_id=customer_id,
                keyed=keyed,
                status=CREATED,
                body=render(row, locked.at),
                at=locked.at,
            )

    return idempotency.once(customer_id=customer_id, keyed=keyed, run=run)


def subscribe_step(locked: Locked, *, order: Order, actor: Actor) -> Subscription:
    """Do what `subscribe` does, within the transaction of a caller who took `moves.lock_step`."""
    at = locked.at
    offer = resolve_offer(order=order, currency=locked.customer.currency)
    plan_group_id = offer.plan_version.plan.plan_group_id
    if has_live(locked.rows, plan_group_id=plan_group_id):
        detail = "End or change the live subscription of this plan group first."
        raise own_errors.SubscriptionExists(detail)
    is_trial = _takes_trial(locked.customer, offer.plan_version, wanted=order.wants_trial)
    _expire_waiting(locked, plan_group_id=plan_group_id, actor=actor)
    row = _new_row(locked.customer, offer, quantity=order.quantity, is_trial=is_trial, at=at)
    if is_trial:
        trials.remember_step(customer=locked.customer, plan_group_id=plan_group_id, at=at)
    return _begin_step(locked, row, actor=actor)


def await_payment_step(
    locked: Locked, *, offer: Offer, quantity: int, actor: Actor
) -> Subscription:
    """Begin a paid subscription beside a free one, whose place it takes once it is paid for.

    The free one stays in force until then; an older one that waits is expired. The add-ons of
    the free one are ordered with it. The caller took `moves.lock_step`, and saw that the live one
    is free.
    """
    plan_group_id = offer.plan_version.plan.plan_group_id
    _expire_waiting(locked, plan_group_id=plan_group_id, actor=actor)
    row = _new_row(locked.customer, offer, quantity=quantity, is_trial=False, at=locked.at)
    live = find_live(locked.rows, plan_group_id=plan_group_id)
    return _begin_step(locked, row, actor=actor, former=live)


def _begin_step(
    locked: Locked, row: Subscription, *, actor: Actor, former: Subscription | None = None
) -> Subscription:
    renewals.open_period(row, at=locked.at)
    settling.save_step(row)
    if former is not None:
        add_ons.take_along_step(former=former, to=row, at=locked.at)
    timeline.record_step(row, before="", event=SUBSCRIBED, actor=actor, at=locked.at)
    timeline.changed_step(row, at=locked.at)
    locked.rows.append(row)
    return row


def _takes_trial(customer: Customer, version: PlanVersion, *, wanted: bool | None) -> bool:
    if wanted is False:
        return False
    if trials.is_open(customer=customer, plan_version=version):
        return True
    if wanted:
        detail = "There is one trial per customer and plan group, and this plan's is not open."
        raise own_errors.TrialAlreadyUsed(detail)
    return False


def _expire_waiting(locked: Locked, *, plan_group_id: int, actor: Actor) -> None:
    """Let the window of a subscription that still waits for its payment end now."""
    for row in locked.rows:
        if row.plan_group_id == plan_group_id and row.status == Status.INCOMPLETE:
            row.incomplete_expires_at = locked.at
            superseded = Actor(
                name=actor.name, reason="superseded by a newer one", request_id=actor.request_id
            )
            moves.move_step(locked, row=row, event="incomplete_window_elapsed", actor=superseded)


def marking_paid(*, actor: Actor) -> Action:
    """Confirm the first payment by hand: access and periods start now.

    :raises SubscriptionEnded: where it is final, also by the clock alone.
    :raises SubscriptionExists: where another one took the plan group's place meanwhile.
    :raises InvalidTransition: where no first payment is awaited.
    """

    def act(locked: Locked, row: Subscription) -> None:
        if row.status in Subscription.FINAL_STATUSES:
            raise own_errors.SubscriptionEnded("It has ended.")
        if row.status != Status.INCOMPLETE:
            detail = f"A subscription that is {row.status} awaits no first payment."
            raise own_errors.InvalidTransition(detail)
        if not may_activate(locked, row=row):
            detail = "Another subscription of this plan group is live; end it or refund this one."
            raise own_errors.SubscriptionExists(detail)
        activate_step(locked, row=row, actor=actor)

    return act


def mark_paid(*, subscription_id: UUID, actor: Actor, clock: clocks.Clock) -> Subscription:
    """Confirm the first payment of a subscription by hand.

    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, SubscriptionExists, InvalidTransition: as `marking_paid`.
    """
    action = marking_paid(actor=actor)
    return moves.run(subscription_id=subscription_id, action=action, clock=clock)


def may_activate(locked: Locked, *, row: Subscription) -> bool:
    """Tell whether the plan group's slot is free for the row, or held by what costs nothing."""
    live = find_live(locked.rows, plan_group_id=row.plan_group_id)
    return live is None or not live.requires_payment


def activate_step(locked: Locked, *, row: Subscription, actor: Actor) -> None:
    """Start access and periods of an incomplete subscription that is paid for now.

    A free one in its slot ends at the same instant, and its add-ons go on here. The caller asked
    `may_activate`.
    """
    live = find_live(locked.rows, plan_group_id=row.plan_group_id)
    handed: Sequence[AddOnOrder] = ()
    if live is not None:
        replaced = Actor(
            name=actor.name, reason="replaced by a paid one", request_id=actor.request_id
        )
        handed = add_ons.hand_over_step(locked, former=live, actor=replaced)
        moves.move_step(locked, row=live, event="cancel_now", actor=replaced)
    beginning = anchors.beginning_of(
        customer=locked.customer, offered=row.plan_version, price=row.price, at=locked.at
    )
    _count_in(row, beginning.zones)
    given = Given(anchor_at=beginning.anchor_at)
    moves.move_quietly_step(locked, row=row, event="payment_succeeded", actor=actor, given=given)
    add_ons.take_over_step(locked, row=row, handed=handed, actor=actor)


def resolve_offer(*, order: Order, currency: str) -> Offer:
    """Return the published version and the price that the order means.

    :raises PlanUnknown, PlanNotAvailable: for a plan that is not there or not on offer.
    :raises Invalid: for a price that the plan does not have.
    :raises CurrencyMismatch: for a price in another currency.
    """
    version = selectors.get_offered_version(plan_key=order.plan_key)
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


def _new_row(
    customer: Customer, offer: Offer, *, quantity: int, is_trial: bool, at: datetime
) -> Subscription:
    version = offer.plan_version
    row = Subscription(
        customer=customer,
        plan_version=version,
        price=offer.price,
        plan_group=version.plan.plan_group,
        quantity=quantity,
        status=Status.ACTIVE,
        anchor_at=at,
        time_zone=customer.time_zone,
        created_at=at,
        start_at=at,
        requires_payment=offer.requires_payment,
        trial_end_policy=version.trial_end_policy,
        grace_seconds=version.grace_seconds,
        past_due_policy=version.past_due_policy,
    )
    if is_trial:
        row.status = Status.TRIALING
        row.trial_ends_at = at + timedelta(days=version.trial_days)
        return row
    beginning = anchors.beginning_of(customer=customer, offered=version, price=offer.price, at=at)
    row.anchor_at = beginning.anchor_at
    _count_in(row, beginning.zones)
    if offer.requires_payment:
        row.status = Status.INCOMPLETE
        row.incomplete_expires_at = at + transitions.INCOMPLETE_WINDOW
    return row


def _count_in(row: Subscription, counted: Zones) -> None:
    row.time_zone, row.former_zones = counted.time_zone, counted.documents


def has_live(rows: Sequence[Subscription], *, plan_group_id: int) -> bool:
    """Tell whether one of the rows holds the plan group's slot."""
    return find_live(rows, plan_group_id=plan_group_id) is not None


def find_live(rows: Sequence[Subscription], *, plan_group_id: int) -> Subscription | None:
    """Return the row that holds the plan group's slot; None where none does."""
    live = (
        row
        for row in rows
        if row.plan_group_id == plan_group_id and row.status in Subscription.SLOT_STATUSES
    )
    return next(live, None)
