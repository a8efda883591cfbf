"""Show a balance as it stood at an earlier instant, from the ledger alone."""

from copy import copy
from datetime import datetime

from core import clock as clocks
from core import errors
from metering.models import Balance, UsageEntry


def row_at(row: Balance, *, at: datetime) -> Balance:
    """Return the row with the figures that the last line up to the instant shows.

    :raises Invalid: for an instant before the row's usage period.
    """
    if at < row.period_starts_at:
        detail = (
            f"The running usage period began {clocks.rfc3339(row.period_starts_at)}; "
            "earlier instants are in the ledger."
        )
        raise errors.Invalid.at("/at", code="past", detail=detail)
    line = (
        UsageEntry.objects.filter(balance=row, consumed_at__lte=at)
        .exclude(kind=UsageEntry.Kind.ROLLOVER)
        .order_by("-consumed_at", "-id")
        .first()
    )
    shown = copy(row)
    shown.used_units = line.used_units if line else 0
    shown.held_units = line.held_units if line else 0
    shown.carried_units = line.carried_units if line else row.carried_units
    if line is not None:
        shown.limit_units = line.limit_units
    shown.valid_until = shown.holds_due_at = None
    return shown


def row_before(line: UsageEntry) -> Balance | None:
    """Return the balance as the decision of a line found it; None where it found none."""
    if line.balance is None:
        return None
    shown = copy(line.balance)
    is_held = line.kind == UsageEntry.Kind.HOLD
    is_used = line.kind == UsageEntry.Kind.CONSUME
    shown.used_units = line.used_units - (line.units if is_used else 0)
    shown.held_units = line.held_units - (line.units if is_held else 0)
    shown.carried_units, shown.limit_units = line.carried_units, line.limit_units
    shown.denial_code, shown.is_current = "", True
    shown.valid_until = shown.holds_due_at = None
    return shown
