"""Write resources, slots and bookings as the API shows them."""

from collections.abc import Sequence
from datetime import datetime

from django.db.models import prefetch_related_objects

from core import clock
from metering import decision
from metering import selectors as metering_selectors
from metering.models import Balance
from resources import rules, selectors, standing
from resources.models import Booking, Resource, WaitlistEntry
from resources.services.availability import Availability, Slot
from resources.services.closures import Closed
from resources.services.series import Booked
from resources.standing import Leaving

Body = dict[str, object]


def resource(row: Resource) -> Body:
    """Return one resource on offer."""
    return {
        "key": row.key,
        "name": row.name,
        "type": row.type.key,
        "venue": row.venue.key,
        "time_zone": row.venue.time_zone,
        "kind": row.kind,
        "capacity": row.capacity,
        "feature": row.type.feature.key,
        "unit": row.type.unit,
        "minutes_min": row.type.minutes_min,
        "minutes_max": row.type.minutes_max,
        "grid_minutes": row.type.grid_minutes,
    }


def availability(found: Availability) -> Body:
    """Return the slots."""
    return {
        "time_zone": found.time_zone,
        "slots": [slot(each) for each in found.slots],
        "remaining": found.remaining_units,
    }


def slot(each: Slot) -> Body:
    """Return one slot."""
    return {
        "resource": each.place.key,
        "starts_at": clock.rfc3339(each.span.starts_at),
        "ends_at": clock.rfc3339(each.span.ends_at),
        "available": not each.code,
        "reason": each.code or None,
        "cost": {"feature": each.place.terms.feature.key, "units": each.units},
    }


def booking(row: Booking, *, at: datetime) -> Body:
    """Return one booking in the state that the clock has it in."""
    return {
        "id": str(row.pk),
        "state": standing.effective_state(row, at=at),
        "venue": row.venue.key,
        "starts_at": clock.rfc3339(row.starts_at),
        "ends_at": clock.rfc3339(row.ends_at),
        "time_zone": row.venue.time_zone,
        "allocations": [
            {"resource": each.resource.key, "quantity": each.quantity}
            for each in row.allocations.all()
        ],
        "units": _units(row),
        "free_cancel_until": clock.rfc3339(row.free_cancel_until),
        "expires_at": clock.rfc3339(row.expires_at) if row.expires_at else None,
        "checked_in_at": clock.rfc3339(row.checked_in_at) if row.checked_in_at else None,
        "series": str(row.series_id) if row.series_id else None,
        "participants": [
            {"name": each.name, "guest": each.is_guest} for each in row.participants.all()
        ],
    }


def recorded_booking(row: Booking, at: datetime) -> Body:
    """Return the booking and its new balance as they stand in the transaction that moved them.

    What is not read yet is read now.
    """
    prefetch_related_objects([row], *selectors.SHOWN)
    return booking(row, at=at) | _balances(row, _paying(row))


def _paying(row: Booking) -> Sequence[Balance]:
    """Return the balances that pay for the booking, in one statement."""
    feature_ids = {each.feature_id for each in row.allocations.all()}
    found = metering_selectors.get_balances_at(
        customer_id=row.customer_id, feature_ids=feature_ids, at=row.starts_at
    )
    return list(found.values())


def _balances(row: Booking, paying: Sequence[Balance]) -> Body:
    keys = {each.feature_id: each.feature.key for each in row.allocations.all()}
    items = sorted((keys[each.feature_id], each) for each in paying)
    return {"balance": _one_or_items([_balance(key, each) for key, each in items])}


def _holds(row: Balance, at: datetime) -> bool:
    """Tell whether the balance's period holds an instant after its start."""
    return row.period_ends_at is None or at < row.period_ends_at


def _balance(feature_key: str, row: Balance) -> Body:
    remaining = decision.remaining_units(
        limit_units=row.limit_units, counted_units=row.counted_units
    )
    return {
        "feature": feature_key,
        "used": row.used_units,
        "held": row.held_units,
        "limit": row.limit_units,
        "remaining": 0 if row.denial_code else remaining,
        "resets_at": clock.rfc3339(row.period_ends_at) if row.period_ends_at else None,
    }


def _units(row: Booking) -> Body:
    return _one_or_items(_costs(_summed(row, percent=standing.ALL_PERCENT)))


def _one_or_items(items: list[Body]) -> Body:
    return items[0] if len(items) == 1 else {"items": items}


def _summed(row: Booking, *, percent: int) -> dict[str, int]:
    """Return so many percent of the booking's units, by feature key."""
    found: dict[str, int] = {}
    for each in row.allocations.all():
        found[each.feature.key] = found.get(each.feature.key, 0) + each.units
    return {key: rules.share_units(units, percent=percent) for key, units in found.items()}


def _costs(units_by_feature: dict[str, int]) -> list[Body]:
    return [{"feature": key, "units": units} for key, units in sorted(units_by_feature.items())]


def leaving(row: Booking, terms: Leaving) -> Body:
    """Return what a cancellation would mean."""
    whole = _summed(row, percent=standing.ALL_PERCENT)
    captured = _summed(row, percent=terms.percent)
    return {
        "late": terms.is_late,
        "captured": _costs(captured),
        "returned": _costs({key: units - captured[key] for key, units in whole.items()}),
        "fee_minor": terms.fee_minor,
        "currency": row.venue.currency,
        "free_cancel_until": clock.rfc3339(row.free_cancel_until),
    }


def waitlist_entry(row: WaitlistEntry) -> Body:
    """Return one place in a waiting list."""
    return {
        "id": str(row.pk),
        "state": row.state,
        "type": row.type.key,
        "venue": row.venue.key,
        "resource": row.resource.key if row.resource else None,
        "quantity": row.quantity,
        "starts_at": clock.rfc3339(row.starts_at),
        "ends_at": clock.rfc3339(row.ends_at),
        "booking": str(row.booking_id) if row.booking_id else None,
    }


def recorded_entry(row: WaitlistEntry, at: datetime) -> Body:  # noqa: ARG001 - as bookings are rendered
    """Return the place as its transaction leaves it."""
    return waitlist_entry(row)


def closed(done: Closed) -> Body:
    """Return a closure and what it cancelled."""
    row = done.closure
    return {
        "id": str(row.pk),
        "venue": row.venue.key,
        "resource": row.resource.key if row.resource else None,
        "starts_at": clock.rfc3339(row.starts_at),
        "ends_at": clock.rfc3339(row.ends_at),
        "reason": row.reason,
        "cancelled": [str(each.pk) for each in done.cancelled],
    }


def recorded_series(done: Booked, at: datetime) -> Body:
    """Return the bookings of a series and their balances as they stand in its transaction.

    The balances are read once for each usage period that pays.
    """
    rows = selectors.shown(Booking.objects.filter(pk__in=done.booking_ids))
    shown: list[Body] = []
    paying: Sequence[Balance] = ()
    for row in rows.order_by("starts_at", "id"):
        if not paying or not all(_holds(each, row.starts_at) for each in paying):
            paying = _paying(row)
        shown.append(booking(row, at=at) | _balances(row, paying))
    return {
        "id": str(done.row.pk),
        "bookings": shown,
        "skipped": [{"date": each.day.isoformat(), "code": each.code} for each in done.skipped],
    }
