"""Hold MRR against what subscriptions take; nothing here repairs."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from uuid import UUID

from billing import selectors
from billing.models import MrrMovement
from billing.services import revenue
from core import clock as clocks
from metering.services.auditing import Difference
from subscriptions.models import Subscription


def movements(ids: Sequence[UUID]) -> Iterator[Difference]:
    """Each movement goes on from the one before, and the last ends at the MRR that is true."""
    clock = clocks.process_clock()
    rows = Subscription.objects.filter(customer_id__in=ids).select_related(
        "customer", "plan_version__plan", "price"
    )
    found = MrrMovement.objects.filter(customer_id__in=ids).order_by("subscription_id", "sequence")
    ends = {}
    for subscription_id, moved in groupby(found, key=lambda each: each.subscription_id):
        end = 0
        for each in moved:
            end += each.amount_minor
            if each.mrr_minor != end:
                place = f"{subscription_id}, movement {each.sequence}"
                yield _difference(each.customer_id, place, stored=each.mrr_minor, recounted=end)
        ends[subscription_id] = end
    for row in rows:
        at = clocks.customer_clock(row.customer, clock=clock).now()
        is_true = revenue.mrr_minor(
            row=row,
            taken=selectors.list_taken(row, at=at),
            redemption=selectors.find_redemption(subscription_id=row.pk),
        )
        if ends.get(row.pk, 0) != is_true:
            end = ends.get(row.pk, 0)
            yield _difference(row.customer_id, str(row.pk), stored=end, recounted=is_true)


def _difference(customer_id: UUID, place: str, *, stored: int, recounted: int) -> Difference:
    return Difference(
        invariant="MRR start + movements = end",
        customer_id=str(customer_id),
        place=place,
        stored=stored,
        recounted=recounted,
    )
