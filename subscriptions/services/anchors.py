"""Choose the instant from which a new subscription counts its periods."""

from datetime import datetime

from django.db.models import Q

from core import periods
from core.models import Customer
from core.periods import Interval, Recurrence
from subscriptions.models import Feature, PlanVersion, Price, Subscription


def anchor_for(
    *, customer: Customer, offered: PlanVersion, price: Price | None, at: datetime
) -> datetime:
    """Return now, or the anchor of the same plan taken before where a period of it still runs.

    A subscription that never gave access does not count. So no cycle of subscribing and
    cancelling yields fresh units.
    """
    former = (
        Subscription.objects.filter(
            Q(requires_payment=False) | Q(has_payment_method=True) | Q(trial_ends_at__isnull=False),
            customer=customer,
            plan_version__plan=offered.plan_id,
            status__in=Subscription.FINAL_STATUSES,
            ended_at__isnull=False,
        )
        .exclude(start_at__gte=at)
        .order_by("-ended_at", "-id")
        .first()
    )
    if former is None or former.ended_at is None:
        return at
    for interval, count in _intervals(offered, price):
        recurrence = Recurrence(
            anchor=former.anchor_at, time_zone=former.time_zone, interval=interval, count=count
        )
        ends_at = periods.period_at(recurrence, at=former.ended_at).ends_at
        if ends_at is None or at < ends_at:
            return former.anchor_at
    return at


def _intervals(offered: PlanVersion, price: Price | None) -> list[tuple[Interval, int]]:
    billing = (Interval(price.interval), price.interval_count) if price else (Interval.MONTH, 1)
    resets = offered.entitlements.filter(feature__type=Feature.Type.METERED).values_list(
        "reset_interval", "reset_count"
    )
    return [
        billing if interval == "billing_period" else (Interval(interval), count)
        for interval, count in resets
    ] + [billing]
