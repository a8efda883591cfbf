"""Make streams of events, the same for the same seed, and say what they must come to.

An event is a function of its number, so a stream is a list of numbers: some come twice, 5 of 100
are too old and 1 of 100 is invalid, all shuffled.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from metering.services.arrivals import Event
from metering.services.meters import Definition

DUPLICATES = 0.3
LATE_OF_100, INVALID_OF_100 = 5, 1
METER = Definition(
    key="bench",
    event_type="bench.used",
    aggregation="sum",
    value_path="$.n",
    group_by={"region": "$.region"},
    late_horizon_seconds=7 * 86_400,
)
REGIONS = ("eu", "us", "ap")


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The numbers of a stream in their order, the customers it speaks of, and its time."""

    numbers: Sequence[int]
    customer_ids: Sequence[UUID]
    at: datetime

    @classmethod
    def of(
        cls, *, size: int, customer_ids: Sequence[UUID], at: datetime, seed: int = 10
    ) -> "Stream":
        """Return a shuffled stream of so many events, duplicates included."""
        chance = random.Random(seed)
        unique = size - int(size * DUPLICATES)
        numbers = list(range(unique))
        numbers += [chance.randrange(unique) for _ in range(size - unique)]
        chance.shuffle(numbers)
        return cls(numbers=numbers, customer_ids=customer_ids, at=at)

    def event(self, number: int) -> Event:
        """Return the event of the number."""
        return Event(
            customer_id=self.customer_ids[number % len(self.customer_ids)],
            source="/bench",
            event_id=f"{number:010}",
            event_type=METER.event_type,
            occurred_at=self.at - timedelta(days=8 if is_late(number) else 0, seconds=number % 60),
            data={
                "n": "many" if is_invalid(number) else value(number),
                "region": REGIONS[number % 3],
            },
        )

    def expected(self) -> Mapping[UUID, tuple[int, int]]:
        """Return the events and the units that each customer must come to, as plain Python adds."""
        found: dict[UUID, tuple[int, int]] = {}
        for number in set(self.numbers):
            if not is_late(number) and not is_invalid(number):
                customer_id = self.customer_ids[number % len(self.customer_ids)]
                events, units = found.get(customer_id, (0, 0))
                found[customer_id] = (events + 1, units + value(number))
        return found


def is_late(number: int) -> bool:
    """Tell whether the event comes too late to count."""
    return number * 7919 % 100 < LATE_OF_100


def is_invalid(number: int) -> bool:
    """Tell whether the event's value is no number."""
    return 0 <= number * 7919 % 100 - LATE_OF_100 < INVALID_OF_100


def value(number: int) -> int:
    """Return the units of the event."""
    return 1 + number % 97
