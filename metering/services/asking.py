"""Say what a caller asks to count, and what he is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from core.services.idempotency import KeyedRequest
from metering.lines import LedgerLine
from metering.models import UsageEntry
from metering.services.drawing import For, Wanted


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one caller asks to count: 1 … 20 items, all or nothing, under one key."""

    customer_id: UUID
    wanted: Sequence[Wanted]
    keyed: KeyedRequest
    used_by: For = field(default_factory=For)
    metadata: Mapping[str, object] = field(default_factory=dict)
    request_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Consumed:
    """The ledger's lines of a granted operation, by item, and whether they are a replay."""

    entries: Sequence[LedgerLine]
    replayed: bool


@dataclass(frozen=True, kw_only=True)
class Recorded(Consumed):
    """The same, with its lines as the ledger stores them."""

    entries: Sequence[UsageEntry]
