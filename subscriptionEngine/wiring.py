"""Show in one place where lower apps speak upward: steps, facts, due work, and what is audited."""

from django.conf import settings

from billing import locks as billing_locks
from billing.services import auditing as billing_auditing
from billing.services import following, issuing, late
from core import events
from core.api import limits
from core.services import customers, deliveries, jobs
from metering.enforcement import throttles
from metering.services import afterwards, auditing, balances
from resources.services import auditing as booking_auditing
from resources.services import jobs as booking_jobs
from subscriptions.services import lifecycle, overriding, sweeping, timeline, zones


def connect() -> None:
    """Register every step and every kind of due work; calling it again changes nothing."""
    jobs.register(sweeping.SweepJob())
    jobs.register(late.LateUsageJob())
    jobs.register(issuing.IssueJob())
    jobs.register(deliveries.DeliveryJob())
    limits.add_source(throttles.limits_of_plan)
    auditing.register(billing_auditing.movements)
    if settings.ENGINE.resources_enabled:
        jobs.register(booking_jobs.SettleJob())
        jobs.register(booking_jobs.ClosureJob())
        jobs.register(booking_jobs.WaitlistJob())
        auditing.register(booking_auditing.holds)
        auditing.register(booking_auditing.overlaps)
    rederive = events.Subscriber(lock=balances.lock_rows_of_change, step=balances.rederive_step)
    follow = events.Subscriber(lock=zones.lock_rows, step=zones.follow_step)
    events.subscribe(event_type=customers.TIME_ZONE_CHANGED, subscriber=follow)
    for event_type in (lifecycle.CHANGED, overriding.CHANGED, customers.TIME_ZONE_CHANGED):
        events.subscribe(event_type=event_type, subscriber=rederive)
    for event_type, step in (
        (timeline.TRANSITIONED, following.transitioned_step),
        (timeline.PLAN_CHANGED, following.plan_changed_step),
        (timeline.ADD_ONS_CHANGED, following.add_ons_changed_step),
        (timeline.RENEWED, following.renewed_step),
        (afterwards.RECORDED_LATE, following.recorded_late_step),
    ):
        events.subscribe(
            event_type=event_type,
            subscriber=events.Subscriber(lock=billing_locks.lock_nothing, step=step),
        )
