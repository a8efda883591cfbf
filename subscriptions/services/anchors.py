"""Choose the instant from which a new subscription counts its periods, and in which zones."""

from dataclasses import dataclass
from datetime import datetime

from core import periods
from core.models import Customer
from core.periods import Interval, Recurrence
from core.zones import Zones
from subscriptions import renewals, selectors
from subscriptions.models import Feature, PlanVersion, Price, Subscription


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """From when, and in which zones, periods are counted."""

    anchor_at: datetime
    zones: Zones


def beginning_of(
    *, customer: Customer, offered: PlanVersion, price: Price | None, at: datetime
) -> Beginning:
    """Return now, or how the same plan taken before was counted where a period of it still runs.

    A subscription that never gave access does not count. So no cycle of subscribing and
    cancelling yields fresh units; another zone meanwhile counts when that period is over.
    """
    anew = Beginning(anchor_at=at, zones=Zones(time_zone=customer.time_zone))
    former = (
        Subscription.objects.filter(
            selectors.GAVE_ACCESS,
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
        return anew
    for interval, count in _intervals(offered, price):
        recurrence = Recurrence(
            anchor=former.anchor_at,
            time_zone=former.time_zone,
            interval=interval,
            count=count,
            former_zones=former.zones.former,
        )
        ends_at = periods.period_at(recurrence, at=former.ended_at).ends_at
        if ends_at is None or at < ends_at:
            return _continued(former, price=price, time_zone=customer.time_zone, at=at)
    return anew


def _continued(
    former: Subscription, *, price: Price | None, time_zone: str, at: datetime
) -> Beginning:
    recurrence = renewals.billing_recurrence(
        anchor_at=former.anchor_at, zones=former.zones, price=price
    )
    renews_at = periods.period_at(recurrence, at=at).ends_at or at
    kept = former.zones.changed(to=time_zone, at=at, renews_at=renews_at)
    return Beginning(anchor_at=former.anchor_at, zones=kept)


def _intervals(offered: PlanVersion, price: Price | None) -> list[tuple[Interval, int]]:
    billing = (Interval(price.interval), price.interval_count) if price else (Interval.MONTH, 1)
    resets = offered.entitlements.filter(feature__type=Feature.Type.METERED).values_list(
        "reset_interval", "reset_count"
    )
    return [
        billing if interval == "billing_period" else (Interval(interval), count)
        for interval, count in resets
    ] + [billing]
