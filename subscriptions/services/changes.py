"""Change a subscription's plan, price, interval or quantity: preview it, and do what it said."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from core import clock as clocks
from core import db, errors
from subscriptions import errors as own_errors
from subscriptions import planning, renewals, selectors, states, transitions
from subscriptions.models import PlanVersion, Price, Subscription
from subscriptions.planning import ChangePlan, Target
from subscriptions.services import moves, settling, timeline
from subscriptions.services.moves import Locked
from subscriptions.services.timeline import Actor
from subscriptions.states import Given

PREVIEW_AGE_MAX = timedelta(minutes=10)
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class ChangeOrder:
    """What somebody asks to change to; a missing price or quantity stays as it is.

    `usage_policy` is one of `planning.POLICIES`; customers choose among `CUSTOMER_POLICIES`.
    `when` (now, period_end) overrides the rule, for operators.
    """

    plan_key: str
    price_key: str | None = None
    quantity: int | None = None
    usage_policy: str = planning.KEEP
    when: str | None = None


@db.operation
def preview(*, customer_id: UUID, order: ChangeOrder, clock: clocks.Clock) -> ChangePlan:
    """Return what the change of the customer's own subscription would do now.

    Its `at` is the `proration_at` under which the same figures are executed, for ten minutes,
    unless something of the customer's changes before.

    :raises NotFound, SubscriptionEnded, InvalidTransition: as the change itself would be refused.
    :raises PlanUnknown, PlanNotAvailable, CurrencyMismatch, Invalid: for its target.
    """
    with db.transaction():
        locked = moves.lock_step(customer_id=customer_id, clock=clock)
        return preview_step(locked, row=locked.own(), order=order)


@db.operation
def preview_of(*, subscription_id: UUID, order: ChangeOrder, clock: clocks.Clock) -> ChangePlan:
    """Return what `change` of the subscription would do now.

    :raises NotFound: where there is no such subscription.
    :raises SubscriptionEnded, InvalidTransition: as the change itself would be refused.
    :raises PlanUnknown, PlanNotAvailable, CurrencyMismatch, Invalid: for its target.
    """
    with db.transaction():
        customer_id = moves.customer_of(subscription_id)
        locked = moves.lock_step(customer_id=customer_id, clock=clock)
        return preview_step(locked, row=locked.get(subscription_id), order=order)


def preview_step(locked: Locked, *, row: Subscription, order: ChangeOrder) -> ChangePlan:
    """Return what the change would do, for an instant that no change up to now shares."""
    return _planned(locked, row, order, at=_newest(locked))


def plan_step(
    locked: Locked, *, row: Subscription, order: ChangeOrder, proration_at: datetime | None = None
) -> ChangePlan:
    """Return what the change is to do: as its preview said, where the preview's instant is given.

    :raises PreviewStale: where the preview is older than ten minutes or of another period, or
        something of the customer's changed since.
    :raises SubscriptionEnded, InvalidTransition: where the state does not allow it.
    :raises PlanUnknown, PlanNotAvailable, CurrencyMismatch, Invalid: for its target.
    """
    if proration_at is not None:
        _refuse_stale(locked, row, proration_at=proration_at)
    return _planned(locked, row, order, at=proration_at or locked.at)


def change_step(locked: Locked, *, plan: ChangePlan, actor: Actor) -> Subscription:
    """Do what the plan says; an immediate change clears a scheduled one, the latest wins.

    Publishes `subscription.plan_changed` where it takes effect now, for the plan's own instant,
    then `subscription.changed` with the usage policy. The caller took `moves.lock_step`.
    """
    row, before = plan.subscription, timeline.content_of(plan.subscription)
    given = Given(change=plan.change)
    transitions.take(row, event=plan.event, at=locked.at, given=given)
    if plan.is_immediate:
        _follow_price(row, plan)
    settling.save_step(row)
    timeline.record_step(
        row,
        before=row.status,
        event=plan.event,
        actor=actor,
        at=locked.at,
        beside={"usage_policy": (planning.KEEP, plan.usage_policy)},
        usage_policy=plan.usage_policy,
    )
    if plan.is_immediate:
        timeline.plan_changed_step(
            row, before=before, kind=plan.kind, effective_at=plan.effective_at, at=locked.at
        )
    timeline.changed_step(
        row,
        at=locked.at,
        usage_policy=plan.usage_policy,
        before=before if plan.is_immediate else None,
    )
    return row


@db.operation
def change(
    *,
    subscription_id: UUID,
    order: ChangeOrder,
    actor: Actor,
    clock: clocks.Clock,
    proration_at: datetime | None = None,
) -> Subscription:
    """Change a subscription, in a transaction of its own.

    :raises NotFound: where there is no such subscription.
    :raises PreviewStale, SubscriptionEnded, InvalidTransition: as `plan_step`.
    :raises PlanUnknown, PlanNotAvailable, CurrencyMismatch, Invalid: as `plan_step`.
    """
    customer_id = moves.customer_of(subscription_id)
    with db.transaction():
        locked = moves.lock_step(customer_id=customer_id, clock=clock)
        row = locked.get(subscription_id)
        plan = plan_step(locked, row=row, order=order, proration_at=proration_at)
        return change_step(locked, plan=plan, actor=actor)


def _newest(locked: Locked) -> datetime:
    revised_at = locked.customer.revised_at
    return locked.at if revised_at is None else max(locked.at, revised_at + INSTANT)


def _refuse_stale(locked: Locked, row: Subscription, *, proration_at: datetime) -> None:
    newest, revised_at = _newest(locked), locked.customer.revised_at
    is_recent = newest - PREVIEW_AGE_MAX <= proration_at <= newest
    is_unmoved = revised_at is None or revised_at < proration_at
    now = renewals.billing_period(row, at=locked.at)
    if is_recent and is_unmoved and renewals.billing_period(row, at=proration_at) == now:
        return
    detail = "Ask for a new preview: this one is too old, or something changed since."
    raise own_errors.PreviewStale(detail)


def _planned(locked: Locked, row: Subscription, order: ChangeOrder, *, at: datetime) -> ChangePlan:
    if row.status in Subscription.FINAL_STATUSES:
        detail = f"The subscription is {row.status}."
        raise own_errors.SubscriptionEnded(detail)
    target = _target(row, order, currency=locked.customer.currency)
    plan = planning.plan_change(row, target=target, at=at)
    _refuse_state(row, plan)
    return plan


def _refuse_state(row: Subscription, plan: ChangePlan) -> None:
    """Refuse what the table of moves refuses, on a copy of the row."""
    transitions.take(
        states.state_of(row),
        event=plan.event,
        at=plan.at,
        given=Given(change=plan.change),
    )


def _target(row: Subscription, order: ChangeOrder, *, currency: str) -> Target:
    if order.usage_policy not in planning.POLICIES:
        detail = f"A usage policy is one of {', '.join(planning.POLICIES)}."
        raise errors.Invalid.at("/usage_policy", code="unknown", detail=detail)
    quantity = row.quantity if order.quantity is None else order.quantity
    if not 1 <= quantity <= planning.QUANTITY_MAX:
        detail = f"A quantity is 1 … {planning.QUANTITY_MAX}."
        raise errors.Invalid.at("/quantity", code="out_of_range", detail=detail)
    version = _version(row, order)
    return Target(
        plan_version=version,
        price=_price(row, order, version=version, currency=currency),
        quantity=quantity,
        usage_policy=order.usage_policy,
        when=order.when,
    )


def _version(row: Subscription, order: ChangeOrder) -> PlanVersion:
    """Return the version that the subscriber keeps, or the one on offer of another plan."""
    if order.plan_key == row.plan_version.plan.key:
        return row.plan_version
    version = selectors.get_offered_version(plan_key=order.plan_key)
    if version.plan.plan_group_id != row.plan_group_id:
        detail = f"The plan {order.plan_key!r} is of another plan group; subscribe to it."
        raise own_errors.PlanNotAvailable(detail, facts={"plan": order.plan_key})
    return version


def _price(
    row: Subscription, order: ChangeOrder, *, version: PlanVersion, currency: str
) -> Price | None:
    """Return the price asked for, else the present one, else one of the present interval."""
    if order.price_key is None and version.pk == row.plan_version_id:
        return row.price
    prices = list(version.prices.order_by("id"))
    currency = row.price.currency if row.price else currency
    own = [each for each in prices if each.currency == currency]
    if order.price_key is not None:
        return _named_price(prices, own, key=order.price_key, plan_key=order.plan_key)
    if not own and not all(planning.is_free(each) for each in prices):
        detail = f"The subscription is in {currency}, the plan is sold in other currencies."
        raise own_errors.CurrencyMismatch(detail)
    alike = [each for each in own if row.price and each.interval == row.price.interval]
    return next(iter([*alike, *own, *prices]), None)


def _named_price(prices: list[Price], own: list[Price], *, key: str, plan_key: str) -> Price:
    found = next((each for each in prices if each.key == key), None)
    if found is None:
        detail = f"The plan {plan_key!r} has no price {key!r}."
        raise errors.Invalid.at("/price", code="unknown", detail=detail)
    if found not in own and not planning.is_free(found):
        detail = f"The price {key!r} is in {found.currency}."
        raise own_errors.CurrencyMismatch(detail)
    return found


def _follow_price(row: Subscription, plan: ChangePlan) -> None:
    """Note what is to be paid from now on, and the billing period that is open now."""
    row.requires_payment = not planning.is_free(plan.to_price)
    if plan.resets_anchor or row.renewed_until is None or plan.to_price is None:
        row.renewed_until = None
        renewals.open_period(row, at=plan.effective_at)
