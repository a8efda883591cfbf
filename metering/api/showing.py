"""Show a customer's overview again as it was written, where nothing that it stands on moved."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core import clock as clocks
from core import errors
from core.memory import Memory
from metering import selectors
from metering.api import bodies
from metering.selectors import Reading
from subscriptions import switches

SECONDS_KEPT = 3600.0
_written: Memory[UUID, "Shown"] = Memory(entries_max=5_000)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An overview's body and entity tag, the reading and switches they stand on, and until when."""

    tag: str
    body: bodies.Body
    reading: Reading
    switched: str
    until: datetime | None

    def stands(self, reading: Reading, *, switched: str, at: datetime) -> bool:
        """Tell whether it is what would be written now."""
        is_same = switched == self.switched and reading.is_as(self.reading)
        return is_same and (self.until is None or at < self.until)


def show(*, customer_id: UUID, clock: clocks.Clock) -> Shown:
    """Return the customer's overview as it is now.

    Where it was written before, one statement tells whether it still stands.

    :raises NotFound: where there is no such customer.
    """
    reading = selectors.find_reading(customer_id=customer_id, at=clock.now())
    if reading is None:
        raise errors.NotFound("There is no such customer.")
    switched = switches.fingerprint()
    known = _written.find(customer_id)
    if known is not None and known.stands(reading, switched=switched, at=clock.now()):
        return known
    state = selectors.overview_from(reading, clock=clock)
    shown = Shown(
        tag=bodies.overview_tag(state),
        body=bodies.overview(state),
        reading=reading,
        switched=switched,
        until=state.moves_at,
    )
    if state.customer.test_clock_at is None:
        _written.keep(customer_id, shown, seconds=SECONDS_KEPT)
    return shown


def forget() -> None:
    """Let everything be written anew."""
    _written.forget()
