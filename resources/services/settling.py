"""Write down what the clock made of bookings: expired, started, completed, not come."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core import db, events
from core import errors as core_errors
from metering.services import owned_holds
from metering.services.owned_holds import End
from resources import locks, rules, selectors, standing
from resources.models import Allocation, Booking
from resources.services import publishing
from resources.standing import Due

BATCH_MAX = 1000
State = Booking.State
EVENT_BY_STATE: Mapping[str, str] = {
    State.EXPIRED: publishing.EXPIRED,
    State.COMPLETED: publishing.COMPLETED,
    State.NO_SHOW: publishing.NO_SHOW,
}


@dataclass(kw_only=True)
class Settled:
    """How many bookings a batch moved, by the state that they are in now."""

    by_state: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Return how many were moved in all."""
        return sum(self.by_state.values())


def settle_due(*, clock: clocks.Clock, limit: int = BATCH_MAX) -> Settled:
    """Move every booking that is due, at most `limit`, each in a transaction of its own.

    Safe to run twice and side by side: who comes second finds nothing to do.
    """
    settled = Settled()
    due = selectors.list_due(at=clock.now()).values_list("pk", flat=True)
    for booking_id in list(due[:limit]):
        row = settle(booking_id=booking_id, clock=clock)
        if row is not None:
            settled.by_state[row.state] = settled.by_state.get(row.state, 0) + 1
    return settled


@db.operation
def settle(*, booking_id: UUID, clock: clocks.Clock) -> Booking | None:
    """Bring one booking to where the clock has it, and return it; None where nothing was due."""
    with db.transaction():
        row = lock_step(booking_id=booking_id, clock=clock)
        clock = clocks.customer_clock(row.customer, clock=clock)
        due = standing.due(row, at=clock.now())
        if not is_news(row, due=due):
            return None
        settle_step(row, due=due, clock=clock)
        return row


@db.operation
def release(*, booking_id: UUID, clock: clocks.Clock) -> None:
    """Give up a booking that is still held, at once; any other stays as it is."""
    with db.transaction():
        row = lock_step(booking_id=booking_id, clock=clock)
        if row.state == State.HELD:
            due = Due(state=State.EXPIRED, percent=0, ended_at=clock.now())
            settle_step(row, due=due, clock=clock)


def lock_step(*, booking_id: UUID, clock: clocks.Clock) -> Booking:
    """Lock the booking's customer, read it under that lock, and lock its resources.

    Every change of a booking stands behind its customer's lock; whose it is never changes.

    :raises NotFound: where there is none.
    """
    owners = selectors.list_owners(booking_id=booking_id)
    if not owners:
        raise core_errors.NotFound("There is no such booking.")
    customer = owned_holds.lock_customer_step(customer_id=owners[0])
    row = selectors.get_shown(booking_id=booking_id)
    row.customer = customer
    locks.lock_resources(resource_ids=[each.resource_id for each in row.allocations.all()])
    events.lock_for(event_types=publishing.ALL, customer=customer, clock=clock)
    return row


def is_news(row: Booking, *, due: Due) -> bool:
    """Tell whether the clock moved the booking beyond what is stored."""
    return due.state != row.state or (due.percent is not None and row.captured_at is None)


def settle_step(row: Booking, *, due: Due, clock: clocks.Clock) -> None:
    """Write what the clock brought, at the boundary's own instant; the caller holds the locks."""
    end_hold_step(row, percent=due.percent, clock=clock)
    if due.percent == standing.ALL_PERCENT and row.captured_at is None:
        row.captured_at = row.starts_at
        publishing.publish_step(row, event_type=publishing.STARTED, at=row.starts_at)
    if due.ended_at is not None:
        move_step(row, state=due.state, at=due.ended_at)
        publishing.publish_step(
            row, event_type=EVENT_BY_STATE[row.state], at=due.ended_at, fee_minor=due.fee_minor
        )
    else:
        move_step(row, state=due.state, at=row.starts_at)


def end_hold_step(row: Booking, *, percent: int | None, clock: clocks.Clock) -> datetime:
    """Capture the share of the booking's units, return the rest, and tell the instant.

    None leaves the hold; what was captured or returned before stays so. Not yet stored in the row.
    """
    ends = [] if percent is None or row.hold_id is None else [_end(row, percent=percent)]
    exchanged = owned_holds.exchange_step(
        customer=row.customer, owner=row.owner, ends=ends, wanted=(), usage_at=None, clock=clock
    )
    if ends:
        row.hold_id = None
    return exchanged.at


def return_units_step(row: Booking, *, clock: clocks.Clock) -> datetime:
    """Return all that the booking holds or has used, and tell the instant; not yet stored in it."""
    at = owned_holds.return_step(customer=row.customer, owner=row.owner, clock=clock)
    row.hold_id, row.captured_at = None, None
    return at


def _end(row: Booking, *, percent: int) -> End:
    if row.hold_id is None:
        msg = f"booking {row.pk} holds nothing"
        raise AssertionError(msg)
    units_by_feature: Counter[int] = Counter()
    for each in row.allocations.all():
        units_by_feature[each.feature_id] += each.units
    captured = {
        key: rules.share_units(units, percent=percent) for key, units in units_by_feature.items()
    }
    return End(hold_id=row.hold_id, captured_units=captured)


def move_step(row: Booking, *, state: str, at: datetime) -> None:
    """Store the booking in the state; one that has ended occupies nothing it did not play.

    The caller holds the locks of customer and resources.
    """
    db.transaction_required()
    row.state = state
    if state not in Booking.OPEN_STATES:
        row.ended_at, row.expires_at = at, None
    if state == State.CONFIRMED:
        row.expires_at = None
    row.due_at = standing.due_at(row)
    row.save()
    if state in {State.CANCELLED, State.EXPIRED, State.NO_SHOW}:
        Allocation.objects.filter(booking=row).update(is_live=False)
