"""Define what the operations on bookings read, and the shapes that they show."""

from datetime import datetime
from typing import Any
from uuid import UUID

from rest_framework import serializers

from core.actors import Actor
from core.api.serializers import (
    InstantField,
    KeyField,
    QuerySerializer,
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)
from resources.api.serializers import FIRST_DAY, LAST_DAY, BookingCostSerializer, CustomerNameField
from resources.models import Booking, WaitlistEntry
from resources.models.places import CAPACITY_MAX
from resources.opening import Span
from resources.services import closures, planning, series
from resources.services.planning import Attendee, Order, Wish

NAME_LENGTH_MAX = 100
REASON_LENGTH_MAX = 255


class PlayTimeField(InstantField):
    """Accept an instant of this century or the next, with its offset."""

    def to_internal_value(self, value: Any) -> datetime:  # noqa: ANN401 - DRF's signature
        """Return the instant in UTC."""
        instant = super().to_internal_value(value)
        if not FIRST_DAY <= instant.date() < LAST_DAY:
            self.fail("invalid", format="RFC 3339, 2000 … 2200")
        return instant


class WishSerializer(StrictSerializer):
    """A resource by its key, or any one of a type."""

    resource = KeyField(required=False)
    type = KeyField(required=False, help_text="Any one of the type that is free.")
    quantity = StrictIntegerField(
        required=False, default=1, min_value=1, max_value=CAPACITY_MAX, help_text="Places."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse what names both, or neither."""
        if ("resource" in attrs) == ("type" in attrs):
            detail = "Give the resource, or a type of which any one will do."
            raise serializers.ValidationError({"resource": detail}, code="ambiguous")
        return attrs


class AttendeeSerializer(StrictSerializer):
    """Somebody who takes part."""

    name = StrictCharField(max_length=NAME_LENGTH_MAX)
    guest = StrictBooleanField(required=False, default=False)


class BookingTimeSerializer(StrictSerializer):
    """A time and what is wanted for it."""

    customer = CustomerNameField()
    venue = KeyField(required=False, help_text="Where a type stands in several.")
    starts_at = PlayTimeField()
    ends_at = PlayTimeField()
    allocations = serializers.ListField(
        child=WishSerializer(), min_length=1, max_length=planning.WISHES_MAX
    )
    waive_policy = StrictBooleanField(
        required=False,
        default=False,
        help_text="Book beyond the plan's policy; for service keys. Units still decide.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a time that does not end after it begins."""
        if attrs["ends_at"] <= attrs["starts_at"]:
            detail = "It ends after it begins."
            raise serializers.ValidationError({"ends_at": detail}, code="not_after")
        return attrs


class BookingOrderSerializer(BookingTimeSerializer):
    """What is to be booked, and who takes part."""

    participants = serializers.ListField(
        child=AttendeeSerializer(), required=False, max_length=planning.ATTENDEES_MAX
    )


class BookSerializer(BookingOrderSerializer):
    """What is to be booked once."""

    confirm = StrictBooleanField(
        required=False, default=True, help_text="false only holds it, to be confirmed in time."
    )


class MoveBookingSerializer(BookingTimeSerializer):
    """Where the booking is to be moved; without allocations, the same resources."""

    allocations = serializers.ListField(
        child=WishSerializer(), min_length=1, max_length=planning.WISHES_MAX, required=False
    )


class BookSeriesSerializer(BookingOrderSerializer):
    """What is to be booked week after week, at the same wall time."""

    occurrences = StrictIntegerField(min_value=2, max_value=series.OCCURRENCES_MAX)
    interval_weeks = StrictIntegerField(
        required=False, default=1, min_value=1, max_value=series.INTERVAL_WEEKS_MAX
    )
    on_conflict = serializers.ChoiceField(
        choices=["refuse", "skip"],
        required=False,
        default="refuse",
        help_text="refuse: all or nothing; skip: what can be booked.",
    )


class WaitForSerializer(StrictSerializer):
    """Which time is waited for."""

    customer = CustomerNameField()
    venue = KeyField(required=False)
    starts_at = PlayTimeField()
    ends_at = PlayTimeField()
    resource = KeyField(required=False)
    type = KeyField(required=False)
    quantity = StrictIntegerField(
        required=False, default=1, min_value=1, max_value=CAPACITY_MAX, help_text="Places."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse an impossible time, and what names resource and type, or neither."""
        if attrs["ends_at"] <= attrs["starts_at"]:
            detail = "It ends after it begins."
            raise serializers.ValidationError({"ends_at": detail}, code="not_after")
        if ("resource" in attrs) == ("type" in attrs):
            detail = "Give the resource, or a type of which any one will do."
            raise serializers.ValidationError({"resource": detail}, code="ambiguous")
        return attrs


class BookingActSerializer(StrictSerializer):
    """For whom, and why."""

    customer = CustomerNameField()
    reason = StrictCharField(
        required=False, default="", allow_blank=True, max_length=REASON_LENGTH_MAX
    )


class BookingCustomerSerializer(StrictSerializer):
    """For whom."""

    customer = CustomerNameField()


class ClosureSerializer(StrictSerializer):
    """What is to be closed, and when."""

    venue = KeyField()
    resource = KeyField(required=False, help_text="Without: the whole venue.")
    starts_at = PlayTimeField()
    ends_at = PlayTimeField()
    reason = StrictCharField(max_length=REASON_LENGTH_MAX)
    cancel_bookings = StrictBooleanField(
        required=False,
        default=False,
        help_text="Cancel what stands within, free of charge, also what has begun or is over.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a time that does not end after it begins."""
        if attrs["ends_at"] <= attrs["starts_at"]:
            detail = "It ends after it begins."
            raise serializers.ValidationError({"ends_at": detail}, code="not_after")
        return attrs


class BookingsQuery(QuerySerializer):
    """Which bookings are listed."""

    customer = CustomerNameField()
    limit = StrictIntegerField(required=False)
    cursor = StrictCharField(required=False)


class CustomerQuery(QuerySerializer):
    """Whose booking is meant."""

    customer = CustomerNameField()


class AllocationSerializer(serializers.Serializer[Any]):
    """A resource that is booked."""

    resource = serializers.CharField()
    quantity = serializers.IntegerField()


class BookingUnitsSerializer(serializers.Serializer[Any]):
    """What the booking takes; with several features, `items` alone."""

    feature = serializers.CharField(required=False)
    units = serializers.IntegerField(required=False)
    items = BookingCostSerializer(many=True, required=False)


class ParticipantSerializer(serializers.Serializer[Any]):
    """Somebody who takes part."""

    name = serializers.CharField()
    guest = serializers.BooleanField()


class BookingSerializer(serializers.Serializer[Any]):
    """One booking."""

    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=Booking.State.choices)
    venue = serializers.CharField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    time_zone = serializers.CharField()
    allocations = AllocationSerializer(many=True)
    units = BookingUnitsSerializer()
    free_cancel_until = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(
        allow_null=True, help_text="Until when it waits to be confirmed."
    )
    checked_in_at = serializers.DateTimeField(allow_null=True)
    series = serializers.UUIDField(allow_null=True)
    participants = ParticipantSerializer(many=True)


class BookingBalanceItemSerializer(serializers.Serializer[Any]):
    """What the customer has of a feature in the usage period that pays for the booking."""

    feature = serializers.CharField()
    used = serializers.IntegerField()
    held = serializers.IntegerField()
    limit = serializers.IntegerField(allow_null=True, help_text="Null means unlimited.")
    remaining = serializers.IntegerField(allow_null=True)
    resets_at = serializers.DateTimeField(allow_null=True, help_text="Null means never.")


class BookingBalanceSerializer(serializers.Serializer[Any]):
    """The new balance of the feature that pays; with several features, `items` alone."""

    feature = serializers.CharField(required=False)
    used = serializers.IntegerField(required=False)
    held = serializers.IntegerField(required=False)
    limit = serializers.IntegerField(required=False, allow_null=True)
    remaining = serializers.IntegerField(required=False, allow_null=True)
    resets_at = serializers.DateTimeField(required=False, allow_null=True)
    items = BookingBalanceItemSerializer(many=True, required=False)


class MovedBookingSerializer(BookingSerializer):
    """One booking after a move of it, with what the customer has now."""

    balance = BookingBalanceSerializer()


class BookingLeavingSerializer(serializers.Serializer[Any]):
    """What a cancellation would mean now."""

    late = serializers.BooleanField()
    captured = BookingCostSerializer(many=True, help_text="Units that stay used.")
    returned = BookingCostSerializer(many=True, help_text="Units that return.")
    fee_minor = serializers.IntegerField()
    currency = serializers.CharField()
    free_cancel_until = serializers.DateTimeField()


class SkippedDaySerializer(serializers.Serializer[Any]):
    """An occurrence that was not booked."""

    date = serializers.DateField(help_text="Local.")
    code = serializers.CharField(
        help_text="The code of the refusal; wall_time_missing where the clocks leave it out."
    )


class SeriesBookedSerializer(serializers.Serializer[Any]):
    """The bookings of a series, each with what the customer has now in the period that pays."""

    id = serializers.UUIDField()
    bookings = MovedBookingSerializer(many=True)
    skipped = SkippedDaySerializer(many=True)


class WaitlistEntrySerializer(serializers.Serializer[Any]):
    """A place in a waiting list."""

    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=WaitlistEntry.State.choices)
    type = serializers.CharField()
    venue = serializers.CharField()
    resource = serializers.CharField(allow_null=True)
    quantity = serializers.IntegerField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    booking = serializers.UUIDField(
        allow_null=True, help_text="The offer: a held booking; confirm it."
    )


class ClosureMadeSerializer(serializers.Serializer[Any]):
    """A closure, and what it cancelled."""

    id = serializers.UUIDField()
    venue = serializers.CharField()
    resource = serializers.CharField(allow_null=True)
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    reason = serializers.CharField()
    cancelled = serializers.ListField(child=serializers.UUIDField())


def order_of(
    given: dict[str, Any], *, customer_id: UUID, actor: Actor, held_seconds: int | None = None
) -> Order:
    """Return the order of a validated input."""
    return Order(
        customer_id=customer_id,
        span=Span(starts_at=given["starts_at"], ends_at=given["ends_at"]),
        wishes=[wish_of(each) for each in given["allocations"]],
        attendees=[
            Attendee(name=each["name"], is_guest=each["guest"])
            for each in given.get("participants", ())
        ],
        actor=actor,
        venue_key=given.get("venue"),
        held_seconds=held_seconds,
        is_policy_waived=given.get("waive_policy", False),
    )


def wish_of(given: dict[str, Any]) -> Wish:
    """Return the wish of a validated input."""
    return Wish(
        resource_key=given.get("resource"),
        type_key=given.get("type"),
        quantity=given["quantity"],
    )


def moved_order(given: dict[str, Any], row: Booking, *, customer_id: UUID, actor: Actor) -> Order:
    """Return the order of a move: without allocations, the same resources at another time."""
    same = [
        {"resource": each.resource.key, "quantity": each.quantity} for each in row.allocations.all()
    ]
    return order_of({"allocations": same} | given, customer_id=customer_id, actor=actor)


def wait_order_of(given: dict[str, Any], *, customer_id: UUID, actor: Actor) -> Order:
    """Return the order that a place in the waiting list waits for."""
    return order_of({**given, "allocations": [given]}, customer_id=customer_id, actor=actor)


def planned_closure(given: dict[str, Any]) -> closures.Planned:
    """Return the closure of a validated input."""
    return closures.Planned(
        venue_key=given["venue"],
        resource_key=given.get("resource"),
        span=Span(starts_at=given["starts_at"], ends_at=given["ends_at"]),
        reason=given["reason"],
        cancels_bookings=given["cancel_bookings"],
    )
