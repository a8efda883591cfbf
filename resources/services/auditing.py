"""Hold bookings against their holds, and resources against overlaps; nothing here repairs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from uuid import UUID

from django.db.models import Count, OuterRef, Subquery, Sum

from metering.models import Hold
from metering.services.auditing import Difference
from resources.models import Allocation

OWNER = "booking:"


def holds(ids: Sequence[UUID]) -> Iterator[Difference]:
    """A booking that holds units has live holds of just these, and no hold is without one."""
    wanted: Counter[tuple[str, str, str]] = Counter()
    for row in (
        Allocation.objects.filter(
            booking__customer_id__in=ids, booking__hold_id__isnull=False, is_live=True
        )
        .values("booking_id", "booking__customer_id", "booking__hold_id", "feature__key")
        .annotate(total=Sum("units"))
    ):
        place = f"{OWNER}{row['booking_id']} by {row['booking__hold_id']}"
        wanted[str(row["booking__customer_id"]), place, row["feature__key"]] += row["total"]
    held: Counter[tuple[str, str, str]] = Counter()
    live = Hold.objects.filter(customer_id__in=ids, state=Hold.State.LIVE, drawn_for__isnull=True)
    for each in live.filter(owner__startswith=OWNER).select_related("feature"):
        place = f"{each.owner} by {each.operation_id}"
        held[str(each.customer_id), place, each.feature.key] += each.units
    for key in sorted(wanted.keys() | held.keys()):
        customer_id, place, feature_key = key
        if wanted[key] != held[key]:
            yield Difference(
                invariant="a booking's units are held",
                customer_id=customer_id,
                place=f"{place}: {feature_key}",
                stored=wanted[key],
                recounted=held[key],
            )


def overlaps(ids: Sequence[UUID]) -> Iterator[Difference]:
    """No other booking occupies an exclusive resource at the same time."""
    others = (
        Allocation.objects.filter(
            resource=OuterRef("resource"),
            is_live=True,
            starts_at__lt=OuterRef("occupied_until"),
            occupied_until__gt=OuterRef("starts_at"),
        )
        .order_by()
        .values("resource")
        .annotate(total=Count("pk"))
    )
    doubled = (
        Allocation.objects.filter(booking__customer_id__in=ids, is_live=True, is_exclusive=True)
        .annotate(occupants=Subquery(others.values("total")))
        .filter(occupants__gt=1)
    )
    for each in doubled.select_related("booking", "resource"):
        yield Difference(
            invariant="an exclusive resource is allocated once",
            customer_id=str(each.booking.customer_id),
            place=f"{each.resource.key} from {each.starts_at}, {each.booking.owner}",
            stored=each.occupants,
            recounted=1,
        )
