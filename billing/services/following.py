"""Follow what happens to subscriptions: draft lines and MRR movements, in the same transaction.

Steps of `core.events`: the publisher holds the customer's lock, and rows are read again here.
What a period costs is billed in advance, what was used is billed after it.
"""

from collections.abc import Sequence
from copy import copy
from datetime import datetime, timedelta
from uuid import UUID

from billing import lines, selectors, usage
from billing.lines import PlannedLine, Taken
from billing.models import Invoice, InvoiceLine, UsageMark
from billing.selectors import Billed, Billing
from billing.services import closing, coupons, drafting, revenue
from core import periods
from core.events import Event
from core.periods import Period
from subscriptions import renewals
from subscriptions import selectors as subscription_selectors
from subscriptions.models import Subscription
from subscriptions.services.timeline import CLOCK

BILLED = (Subscription.Status.ACTIVE, Subscription.Status.PAST_DUE)
FIRST_PERIOD = frozenset({"subscribed", "trial_converted_early"})
MIGRATION = "migration"
LATE_WAIT = timedelta(days=1)


def transitioned_step(event: Event) -> None:
    """Bill what begins or ends with a transition, and let MRR follow.

    Where the status stays, nothing does: what opens or changes meanwhile is told by itself.
    """
    before, name = event.payload["from"], event.payload["event"]
    if before == event.payload["to"]:
        return
    row = _row_of(event)
    taken = selectors.list_taken(row, at=event.occurred_at)
    waits_now = row.status == Subscription.Status.INCOMPLETE
    if name in FIRST_PERIOD or waits_now:
        _begin(row, taken=taken, at=event.occurred_at)
    if before == Subscription.Status.INCOMPLETE and not waits_now:
        _end_waiting(row, event, taken=taken)
    elif row.status in Subscription.FINAL_STATUSES:
        _draft(row, _usage_lines(row, at=event.occurred_at), at=event.occurred_at)
    elif row.status in BILLED:
        _mark(row, at=event.occurred_at)
    _follow_revenue(row, taken=taken, at=event.occurred_at)


def renewed_step(event: Event) -> None:
    """Bill the period that opened, in advance, and what was used before it; told twice, once."""
    row = _row_of(event)
    at = event.occurred_at
    period = Period(
        starts_at=_instant(event.payload["period_starts_at"]),
        ends_at=_instant(event.payload["period_ends_at"]),
    )
    taken = selectors.list_taken(row, at=at)
    billed = selectors.list_billed(subscription_id=row.pk, since=period.starts_at)
    opening = [
        line
        for each in taken
        for line in _opening(each, period=period)
        if line.period is None
        or Billed(item=line.item, starts_at=line.period.starts_at) not in billed
    ]
    redemption = selectors.find_redemption(subscription_id=row.pk)
    planned = [*_usage_lines(row, at=at), *opening]
    drafting.draft_step(row=row, planned=planned, redemption=redemption, at=at)
    revenue.follow_step(row=row, taken=taken, redemption=redemption, at=at)


def plan_changed_step(event: Event) -> None:
    """Give back what was billed ahead of the old plan, charge the rest of the new one.

    What was used so far is billed by the old version's prices; a migration bills that alone.
    """
    row = _row_of(event)
    at = _instant(event.payload["effective_at"])
    if row.status in BILLED:
        planned = _usage_before(row, event, at=at)
        if event.payload["kind"] != MIGRATION:
            planned += plan_change(row, after=selectors.get_plan_taken(row), at=at)
        _draft(row, planned, at=at)
    _follow_revenue(row, at=event.occurred_at)


def add_ons_changed_step(event: Event) -> None:
    """Give back what was billed ahead of the old quantity, charge the rest of the new one."""
    row = _row_of(event)
    at = event.occurred_at
    if row.status in BILLED:
        item = f"add_on:{event.payload['add_on']}"
        after = next(
            (each for each in selectors.list_add_ons_taken(row, at=at) if each.item == item), None
        )
        _draft(row, item_change(row, item=item, after=after, at=at), at=at)
    _follow_revenue(row, at=at)


def recorded_late_step(event: Event) -> None:
    """Have usage billed that came after its subscription had ended, with what else comes soon."""
    UsageMark.objects.filter(
        subscription_id=UUID(str(event.payload["subscription"])), late_due_at__isnull=True
    ).update(late_due_at=event.occurred_at + LATE_WAIT)


def bill_late_step(row: Subscription, *, at: datetime) -> bool:
    """Draft what came late for a subscription that has ended, where it is due by now.

    Return whether it was. The caller holds the customer's lock.
    """
    due = UsageMark.objects.filter(subscription=row, late_due_at__lte=at)
    if not due.update(late_due_at=None):
        return False
    subscription_selectors.give_prices([row])
    _draft(row, _usage_lines(row, at=at), at=at)
    return True


def plan_change(row: Subscription, *, after: Taken | None, at: datetime) -> list[PlannedLine]:
    """Return the lines of a change of plan now; a preview shows what a change writes.

    Where no period is open at the instant, its renewal charges, and nothing is prorated. Where
    periods begin anew, the add-ons' begin with them.
    """
    changed = item_change(row, item=lines.PLAN, after=after, at=at)
    if row.anchor_at != at:
        return changed
    for each in selectors.list_add_ons_taken(row, at=at):
        changed += item_change(row, item=each.item, after=each, at=at)
    return changed


def item_change(
    row: Subscription, *, item: str, after: Taken | None, at: datetime
) -> list[PlannedLine]:
    """Return the lines of a change of one item now."""
    is_open = row.renewed_until is not None and row.renewed_until > at
    standing = selectors.list_standing(subscription_id=row.pk, at=at, item=item)
    time_zone = renewals.zone_at(row, at=at)
    return list(
        lines.change(standing, after=after if is_open else None, at=at, time_zone=time_zone)
    )


def _begin(row: Subscription, *, taken: Sequence[Taken], at: datetime) -> None:
    """Bill a first period: at once where it is active, before it begins where it is unpaid."""
    plan = selectors.get_plan_taken(row)
    if plan is None:
        return
    if row.status == Subscription.Status.INCOMPLETE:
        _draft(row, [line for each in taken for line in lines.first(each, at=at)], at=at)
    elif row.status in BILLED and row.renewed_until is not None:
        _draft(row, list(lines.until(plan, at=at, end=row.renewed_until)), at=at)


def _end_waiting(row: Subscription, event: Event, *, taken: Sequence[Taken]) -> None:
    """Start the period of a first invoice that is paid; void one whose window is over."""
    first = Invoice.objects.filter(subscription=row).order_by("id").first()
    if first is None:
        return
    if row.status in Subscription.FINAL_STATUSES:
        closing.void_step(invoice=first, actor=CLOCK, at=event.occurred_at)
        coupons.release_step(row=row, at=event.occurred_at)
        return
    for each in taken:
        period = periods.period_at(each.recurrence, at=event.occurred_at)
        first.lines.filter(item=each.item, starts_at__isnull=True).update(
            starts_at=event.occurred_at, ends_at=period.ends_at
        )
    _mark(row, at=event.occurred_at)
    closing.pay_first_step(invoice=first, at=event.occurred_at)


def _opening(taken: Taken, *, period: Period) -> list[PlannedLine]:
    """Return the lines of the periods of an item that begin in the period that opens."""
    if taken.item == lines.PLAN or period.ends_at is None:
        return list(lines.full_period(taken, period=period))
    planned = lines.until(taken, at=period.starts_at, end=period.ends_at)
    return [line for line in planned if line.kind != InvoiceLine.Kind.CHARGE]


def _usage_before(row: Subscription, event: Event, *, at: datetime) -> list[PlannedLine]:
    """Return what was used before a change, by the prices of then, where they end with it.

    The billing period, and with it tiers and minimums, goes on unless it ends with the change.
    """
    goes_on = row.renewed_until is not None and row.renewed_until > at and row.anchor_at != at
    if goes_on and event.payload["from_version"] == event.payload["to_version"]:
        return []
    former = copy(row)
    former.plan_version_id = int(str(event.payload["from_version"]))
    price_id = event.payload["from_price"]
    former.price_id = None if price_id is None else int(str(price_id))
    subscription_selectors.give_prices([former])
    return _usage_lines(former, at=at, is_ending=not goes_on)


def _usage_lines(row: Subscription, *, at: datetime, is_ending: bool = True) -> list[PlannedLine]:
    """Return what was written to the ledger since the last mark, and move the mark here; where
    none stands, usage counts from here.
    """
    if is_ending and not selectors.is_usage_priced(row):
        marks = UsageMark.objects.filter(subscription=row, billed_until__lt=at)
        if not marks.update(billed_until=at, opened_at=at):
            _mark(row, at=at)
        return []
    mark = UsageMark.objects.filter(subscription=row).first()
    if mark is None:
        _mark(row, at=at)
        return []
    if mark.billed_until >= at:
        return []
    billing = Billing(
        opened_at=mark.opened_at or mark.billed_until,
        marked_at=mark.billed_until,
        at=at,
        is_ending=is_ending,
    )
    found = selectors.list_usage(row=row, billing=billing)
    mark.billed_until, mark.opened_at = at, at if is_ending else billing.opened_at
    mark.save(update_fields=["billed_until", "opened_at"])
    return list(usage.lines_of(found))


def _mark(row: Subscription, *, at: datetime) -> None:
    UsageMark.objects.get_or_create(subscription=row, defaults={"billed_until": at})


def _follow_revenue(
    row: Subscription, *, at: datetime, taken: Sequence[Taken] | None = None
) -> None:
    if taken is None:
        taken = selectors.list_taken(row, at=at)
    redemption = selectors.find_redemption(subscription_id=row.pk)
    revenue.follow_step(row=row, taken=taken, redemption=redemption, at=at)


def _draft(row: Subscription, planned: Sequence[PlannedLine], *, at: datetime) -> None:
    redemption = selectors.find_redemption(subscription_id=row.pk) if planned else None
    drafting.draft_step(row=row, planned=planned, redemption=redemption, at=at)


def _row_of(event: Event) -> Subscription:
    rows = Subscription.objects.select_related("plan_version__plan")
    row = rows.get(pk=str(event.payload["subscription"]))
    subscription_selectors.give_prices([row])
    return row


def _instant(text: object) -> datetime:
    return datetime.fromisoformat(str(text))
