"""Make the lines of the usage ledger, with the figures that their answer shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7

from core.services.idempotency import KeyedRequest
from metering.decision import DecidingRow, Draw
from metering.models import UsageEntry
from subscriptions.models import Feature


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What all lines of one operation share; a step has no key."""

    customer_id: UUID
    at: datetime
    keyed: KeyedRequest | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    operation_id: UUID = field(default_factory=uuid7)


@dataclass(kw_only=True)
class Lines:
    """The lines of one operation: first its items, then what other balances count for them."""

    heading: Heading
    items: list[UsageEntry] = field(default_factory=list)
    draws: list[UsageEntry] = field(default_factory=list)

    def add(
        self, *, kind: str, draw: Draw, balance: DecidingRow | None, drawn_for: int | None = None
    ) -> UsageEntry:
        """Append a line with the balance's figures as they are now; the first one leads."""
        heading = self.heading
        line = UsageEntry(
            operation_id=heading.operation_id,
            customer_id=heading.customer_id,
            key=heading.keyed.key if heading.keyed else None,
            kind=kind,
            feature=Feature(pk=draw.place.feature_id, key=draw.feature_key),
            scope=draw.place.scope,
            units=draw.units,
            drawn_for=drawn_for,
            consumed_at=heading.at,
            metadata=dict(heading.metadata),
        )
        show(line, balance=balance)
        (self.items if drawn_for is None else self.draws).append(line)
        return line

    def all(self) -> list[UsageEntry]:
        """Return the lines, numbered: the items first; item 0 carries the fingerprint."""
        lines = [*self.items, *self.draws]
        for number, line in enumerate(lines):
            line.item = number
        if self.heading.keyed is not None:
            lines[0].fingerprint = self.heading.keyed.fingerprint
        return lines


def show(line: UsageEntry, *, balance: DecidingRow | None) -> None:
    """Put the balance's figures on the line, as they are now."""
    line.balance_id = balance.pk if balance else None
    line.used_units = balance.used_units if balance else 0
    line.held_units = balance.held_units if balance else 0
    line.carried_units = balance.carried_units if balance else 0
    line.limit_units = balance.limit_units if balance else 0
    line.period_starts_at = balance.period_starts_at if balance else None
    line.period_ends_at = balance.period_ends_at if balance else None
