"""Show in one place which app's steps run inside another app's transaction."""

from core import events
from metering.services import balances
from subscriptions.services import lifecycle


def connect() -> None:
    """Register every step; calling it again changes nothing."""
    events.subscribe(
        event_type=lifecycle.CHANGED,
        subscriber=events.Subscriber(
            lock=balances.lock_rows_of_change, step=balances.rederive_step
        ),
    )
