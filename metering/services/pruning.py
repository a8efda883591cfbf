"""Let go of what nobody can ask for any more: old denials, and past balances never counted on.

What had an effect stays for ever, with the balance that it was counted on.
"""

from datetime import datetime

from django.db.models import Exists, OuterRef

from core import db
from metering.models import Balance, Burn, Hold, UsageEntry


@db.operation
def prune_denials(*, before: datetime, limit: int) -> int:
    """Delete at most so many denials recorded before the instant, oldest first; return how many.

    A key whose denial is gone is new again: it is kept for seven days at least by who calls this.
    """
    old = UsageEntry.objects.filter(kind=UsageEntry.Kind.DENIED, consumed_at__lt=before)
    ids = list(old.order_by("id").values_list("pk", flat=True)[:limit])
    with db.transaction():
        deleted, _ = UsageEntry.objects.filter(pk__in=ids).delete()
    return deleted


@db.operation
def prune_balances(*, before: datetime, limit: int) -> int:
    """Delete at most so many balances without any line whose period ended before the instant."""
    of_it = {"balance": OuterRef("pk")}
    past = Balance.objects.filter(
        ~Exists(UsageEntry.objects.filter(**of_it)),
        ~Exists(Hold.objects.filter(**of_it)),
        ~Exists(Burn.objects.filter(**of_it)),
        is_current=False,
        period_ends_at__lt=before,
        used_units=0,
        held_units=0,
    )
    with db.transaction():
        ids = list(past.order_by("id").values_list("pk", flat=True)[:limit])
        deleted, _ = Balance.objects.filter(pk__in=ids).delete()
    return deleted
