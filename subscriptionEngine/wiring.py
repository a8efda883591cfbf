"""Show in one place which app's steps run inside another's transaction, and what work is due."""

from core import events
from core.services import deliveries, jobs
from metering.services import balances
from subscriptions.services import lifecycle, sweeping


def connect() -> None:
    """Register every step and every kind of due work; calling it again changes nothing."""
    jobs.register(sweeping.SweepJob())
    jobs.register(deliveries.DeliveryJob())
    events.subscribe(
        event_type=lifecycle.CHANGED,
        subscriber=events.Subscriber(
            lock=balances.lock_rows_of_change, step=balances.rederive_step
        ),
    )
