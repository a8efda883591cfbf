"""Count events that feed features: claim and usage in one transaction, one customer at a time."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from core import clock as clocks
from core import db, errors
from metering.services import claims, opening, recording
from metering.services.claims import Row
from metering.services.recording import Fed

ATTEMPTS_MAX = 4


class _Overtaken(Exception):
    """Roll back: another request claimed an event between looking and claiming."""


def feed(
    *,
    customer_id: UUID,
    rows: Sequence[Row],
    fed: Mapping[int, Sequence[Fed]],
    clock: clocks.Clock,
) -> set[int]:
    """Claim a customer's events, count what the new ones feed, and return their positions.

    `fed` has for each position the units that it feeds. Units count in the period of the event's
    own time and are never refused; claim and usage commit together.

    :raises LockTimeout: where others claim the same events again and again.
    """
    for _ in range(ATTEMPTS_MAX):
        try:
            with db.transaction():
                return _feed_step(customer_id=customer_id, rows=rows, fed=fed, clock=clock)
        except _Overtaken:
            continue
    raise errors.LockTimeout("Others send the same events; send them again.")


def _feed_step(
    *,
    customer_id: UUID,
    rows: Sequence[Row],
    fed: Mapping[int, Sequence[Fed]],
    clock: clocks.Clock,
) -> set[int]:
    """Look under the customer's lock, count, and claim last: usage locks come before claims."""
    customer = opening.lock_customer_step(customer_id=customer_id)
    known = claims.find_claimed(keys={row.key for row in rows})
    fresh = [row for row in rows if row.key not in known]
    positions = {row.position for row in fresh}
    units = [each for position in sorted(positions) for each in fed[position]]
    if units:
        own_clock = clocks.customer_clock(customer, clock=clock)
        recording.feed_step(customer=customer, fed=units, clock=own_clock)
    if claims.claim_step(rows=fresh) != positions:
        raise _Overtaken
    return positions
