"""Lock resources, in the order of `core.db.LockRank`: by id."""

from collections.abc import Collection

from django.db.models import QuerySet

from core import db, statements
from resources.models import Resource


def lock_resources(*, resource_ids: Collection[int]) -> list[Resource]:
    """Lock the resources by id until the transaction ends, and with them who occupies them when.

    Booking, moving and giving up a time, and closing it, all stand behind these locks.
    """
    lowest = min(resource_ids, default=0)
    db.note_lock(rank=db.LockRank.RESOURCE, key=f"{lowest:020}")
    return _locked_resources(resource_ids=resource_ids)


@statements.compiled
def _locked_resources(*, resource_ids: Collection[int]) -> QuerySet[Resource]:
    rows = Resource.objects.filter(pk__in=resource_ids)
    return rows.order_by("id").select_for_update(no_key=True, of=("self",))
