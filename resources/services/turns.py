"""Let bookings that contend in one process wait for each other outside the database."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from uuid import UUID

from core import turns


def of(*, customer_id: UUID, resource_ids: Collection[int] = ()) -> AbstractContextManager[bool]:
    """Wait for the turn of the customer and then of the resources, as their locks are taken.

    The block is told whether it had to wait.

    :raises LockTimeout: as `core.turns.in_turn` does.
    """
    resources = [f"2 resource {resource_id:020}" for resource_id in resource_ids]
    return turns.in_turn(keys=[f"1 customer {customer_id}", *resources])
