"""Name the columns of a subscription that decide about its state, and what a move is given."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Protocol

from core import clock as clocks


class Facts(Protocol):
    """The columns of a subscription that decide about its state, and that a move may write."""

    status: str
    plan_version_id: int
    price_id: int | None
    quantity: int
    anchor_at: datetime
    start_at: datetime
    requires_payment: bool
    has_payment_method: bool
    incomplete_expires_at: datetime | None
    trial_ends_at: datetime | None
    trial_end_policy: str
    grace_seconds: int
    grace_until: datetime | None
    past_due_since: datetime | None
    past_due_policy: str
    failed_payments: int
    cancel_at: datetime | None
    end_at: datetime | None
    paused_at: datetime | None
    resume_at: datetime | None
    change_at: datetime | None
    change_to_id: int | None
    change_price_id: int | None
    change_quantity: int | None
    change_kind: str
    change_resets_anchor: bool
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """The plan version, price and quantity that a subscription moves to."""

    plan_version_id: int
    price_id: int | None
    quantity: int
    kind: str
    resets_anchor: bool
    effective_at: datetime


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a caller gives along with an event; most events need nothing."""

    resume_at: datetime | None = None
    cancel_at: datetime | None = None
    change: Change | None = None
    anchor_at: datetime | None = None
    is_payment_secured: bool = False


NOTHING = Given()


@dataclass(kw_only=True)
class State:
    """A copy of a row's deciding columns, on which the clock's walk may write."""

    status: str
    plan_version_id: int
    price_id: int | None
    quantity: int
    anchor_at: datetime
    start_at: datetime
    requires_payment: bool
    has_payment_method: bool
    incomplete_expires_at: datetime | None
    trial_ends_at: datetime | None
    trial_end_policy: str
    grace_seconds: int
    grace_until: datetime | None
    past_due_since: datetime | None
    past_due_policy: str
    failed_payments: int
    cancel_at: datetime | None
    end_at: datetime | None
    paused_at: datetime | None
    resume_at: datetime | None
    change_at: datetime | None
    change_to_id: int | None
    change_price_id: int | None
    change_quantity: int | None
    change_kind: str
    change_resets_anchor: bool
    ended_at: datetime | None


COLUMNS = tuple(each.name for each in fields(State))


def state_of(row: Facts) -> State:
    """Return a copy of the row's deciding columns."""
    return State(**{name: getattr(row, name) for name in COLUMNS})


def document_of(row: Facts) -> dict[str, object]:
    """Return the row's deciding columns as a JSON document, to be read by `take_document`."""
    values = {name: getattr(row, name) for name in COLUMNS}
    return {
        name: clocks.rfc3339(value) if isinstance(value, datetime) else value
        for name, value in values.items()
    }


def take_document(row: Facts, document: Mapping[str, object]) -> None:
    """Write the columns of a document on the row; what it does not name stays."""
    for name in COLUMNS:
        if name in document:
            value = document[name]
            is_instant = name.endswith(("_at", "_until", "_since")) and isinstance(value, str)
            setattr(row, name, datetime.fromisoformat(str(value)) if is_instant else value)
