"""Publish facts: at once to the steps of other apps, and to the outbox with the commit."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from core import db
from core.models import OutboxEvent


@dataclass(frozen=True, kw_only=True)
class Event:
    """A fact of the domain; its payload is JSON-ready."""

    event_type: str
    customer_id: UUID | None
    occurred_at: datetime
    payload: dict[str, object] = field(default_factory=dict)


Step = Callable[[Event], None]
_steps: dict[str, list[Step]] = {}


def subscribe(*, event_type: str, step: Step) -> None:
    """Run the step at once, inside the publisher's transaction and under its locks."""
    registered = _steps.setdefault(event_type, [])
    if step not in registered:
        registered.append(step)


def publish(event: Event) -> None:
    """Write the fact to the outbox and run its steps, all in the caller's transaction.

    :raises RuntimeError: outside a transaction.
    """
    db.transaction_required()
    OutboxEvent.objects.create(
        event_type=event.event_type,
        customer_id=event.customer_id,
        payload=event.payload,
        occurred_at=event.occurred_at,
    )
    for step in _steps.get(event.event_type, ()):
        step(event)
