"""Plan a change of a subscription: what will happen, when, from what to what. Pure.

A preview and its execution share the plan, so that they cannot disagree.
"""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from core import errors, periods
from core.periods import Interval, Period
from subscriptions import errors as own_errors
from subscriptions import renewals
from subscriptions.models import PlanVersion, Price, Subscription
from subscriptions.renewals import billing_recurrence
from subscriptions.states import Change

KEEP, RESET, CARRY_BALANCE, PRORATE_LIMIT = "keep", "reset", "carry_balance", "prorate_limit"
CUSTOMER_POLICIES = (KEEP, PRORATE_LIMIT)
POLICIES = (*CUSTOMER_POLICIES, RESET, CARRY_BALANCE)
NOW, PERIOD_END = "now", "period_end"
UPGRADE, DOWNGRADE, QUANTITY, INTERVAL = "upgrade", "downgrade", "quantity", "interval"
RELEASE, MIGRATION = "release", "migration"
QUANTITY_MAX = 1_000_000
MONTHS: dict[Interval, Fraction] = {
    Interval.MINUTE: Fraction(12, 365 * 24 * 60),
    Interval.HOUR: Fraction(12, 365 * 24),
    Interval.DAY: Fraction(12, 365),
    Interval.WEEK: Fraction(12, 52),
    Interval.MONTH: Fraction(1),
    Interval.QUARTER: Fraction(3),
    Interval.HALF_YEAR: Fraction(6),
    Interval.YEAR: Fraction(12),
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """The plan version, price and quantity that somebody wants; `when` None follows the rule."""

    plan_version: PlanVersion
    price: Price | None
    quantity: int
    usage_policy: str = KEEP
    when: str | None = None


@dataclass(frozen=True, kw_only=True)
class ChangePlan:
    """What a change will do: `event` of the table, `kind` for people and billing.

    `at` is the instant for which its figures hold, `period` the billing period (or trial)
    around it as things stand. An immediate change takes effect at `at`, any other at the
    period's end. `anchor_at` is what periods count from once it has taken effect.
    """

    subscription: Subscription
    event: str
    kind: str
    at: datetime
    effective_at: datetime
    period: Period
    from_version: PlanVersion
    to_version: PlanVersion
    from_price: Price | None
    to_price: Price | None
    from_quantity: int
    to_quantity: int
    resets_anchor: bool
    anchor_at: datetime
    usage_policy: str

    @property
    def is_immediate(self) -> bool:
        """Tell whether it takes effect at once."""
        return self.event in {"change_plan_now", "change_quantity"}

    @property
    def starts_payment(self) -> bool:
        """Tell whether it moves from what is free to what is paid: nobody has paid yet."""
        return is_free(self.from_price) and not is_free(self.to_price)

    @property
    def period_after(self) -> Period:
        """Return the billing period that `effective_at` lies in once the change is made."""
        if self.is_immediate and not self.resets_anchor:
            return self.period
        recurrence = billing_recurrence(
            anchor_at=self.anchor_at,
            zones=self.subscription.zones,
            price=self.to_price,
        )
        return periods.period_at(recurrence, at=self.effective_at)

    @property
    def change(self) -> Change:
        """Return what the table of moves takes."""
        return Change(
            plan_version_id=self.to_version.pk,
            price_id=self.to_price.pk if self.to_price else None,
            quantity=self.to_quantity,
            kind=self.kind,
            resets_anchor=self.resets_anchor,
            effective_at=self.effective_at,
        )


def plan_change(row: Subscription, *, target: Target, at: datetime) -> ChangePlan:
    """Return what moving the row to the target at the instant will do.

    An upgrade (by plan rank, else by price per day), a larger quantity and another interval of
    the same plan take effect at once; a downgrade and a smaller quantity at the period's end.
    Asking for what is in force drops a scheduled change.

    :raises Invalid: where nothing would change, or for a policy that a later change cannot keep.
    :raises InvalidTransition: where the subscription ends before the change would come.
    """
    period = renewals.billing_period(row, at=at)
    kind = kind_of(row, target=target)
    event = _event(kind, row=row, target=target)
    effective_at = at if event != "schedule_change" else _period_end(row, period)
    _refuse_pointless(row, target, event=event, effective_at=effective_at)
    is_trial = row.status == Subscription.Status.TRIALING
    resets_anchor = not is_trial and _changes_interval(row.price, target.price)
    starts_anew = resets_anchor or (is_trial and event == "schedule_change")
    return ChangePlan(
        subscription=row,
        event=event,
        kind=kind,
        at=at,
        effective_at=effective_at,
        period=period,
        from_version=row.plan_version,
        to_version=target.plan_version,
        from_price=row.price,
        to_price=target.price,
        from_quantity=row.quantity,
        to_quantity=target.quantity,
        resets_anchor=resets_anchor,
        anchor_at=effective_at if starts_anew else row.anchor_at,
        usage_policy=target.usage_policy,
    )


def kind_of(row: Subscription, *, target: Target) -> str:
    """Return what moving to the target is: an upgrade, a downgrade, or another kind of change."""
    price_id = target.price.pk if target.price else None
    if target.plan_version.pk != row.plan_version_id:
        return _direction(row, target)
    if price_id == row.price_id:
        return RELEASE if target.quantity == row.quantity else QUANTITY
    return INTERVAL if _changes_interval(row.price, target.price) else _direction(row, target)


def _direction(row: Subscription, target: Target) -> str:
    before, after = row.plan_version.plan.rank, target.plan_version.plan.rank
    if before != after:
        return UPGRADE if after > before else DOWNGRADE
    now = monthly_amount(row.price, quantity=row.quantity)
    then = monthly_amount(target.price, quantity=target.quantity)
    return UPGRADE if then > now else DOWNGRADE


def monthly_amount(price: Price | None, *, quantity: int) -> Fraction:
    """Return a price's recurring amount in minor units per month, exactly."""
    if price is None:
        return Fraction(0)
    units = quantity if price.model == Price.Model.PER_UNIT else 1
    months = MONTHS[Interval(price.interval)] * price.interval_count
    return price.unit_amount_minor * units / months


def is_free(price: Price | None) -> bool:
    """Tell whether nothing is ever to be paid at the price."""
    return price is None or price.is_free


def _event(kind: str, *, row: Subscription, target: Target) -> str:
    if kind == RELEASE:
        return "release_schedule"
    is_now = (
        kind in {UPGRADE, INTERVAL} or (kind == QUANTITY and target.quantity > row.quantity)
        if target.when is None
        else target.when == NOW
    )
    if not is_now:
        return "schedule_change"
    return "change_quantity" if kind == QUANTITY else "change_plan_now"


def _changes_interval(before: Price | None, after: Price | None) -> bool:
    if before is None or after is None:
        return before is not after
    return (before.interval, before.interval_count) != (after.interval, after.interval_count)


def _period_end(row: Subscription, period: Period) -> datetime:
    if period.ends_at is None:
        raise AssertionError  # no price is for a lifetime
    if row.cancel_at is not None and row.cancel_at <= period.ends_at:
        detail = "The subscription is canceled by then; undo that first."
        raise own_errors.InvalidTransition(detail)
    return period.ends_at


def _refuse_pointless(
    row: Subscription, target: Target, *, event: str, effective_at: datetime
) -> None:
    if event == "release_schedule" and row.change_at is None:
        detail = "The subscription is to this plan, price and quantity already."
        raise errors.Invalid.at("/plan", code="unchanged", detail=detail)
    if event == "schedule_change" and target.usage_policy != KEEP:
        detail = f"At {effective_at} a new period begins: usage needs no policy but keep."
        raise errors.Invalid.at("/usage_policy", code="not_applicable", detail=detail)
