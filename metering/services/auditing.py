"""Hold every counter against a recount of what it counts; nothing here repairs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Case, Count, F, Sum, When
from django.db.models.functions import Coalesce

from core import db
from core.models import Customer
from metering.models import Balance, Hold, UsageEntry
from subscriptions.models import Entitlement, Subscription

BATCH_MAX = 1000
Kind = UsageEntry.Kind
ADDS = (Kind.CONSUME, Kind.RECORD, Kind.CAPTURE)
TAKES = (Kind.REVERSAL, Kind.ADJUSTMENT)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What does not agree: the invariant, where, what is stored and what was recounted."""

    invariant: str
    customer_id: str
    place: str
    stored: int
    recounted: int


Check = Callable[[Sequence[UUID]], Iterable[Difference]]
_checks: list[Check] = []


def register(check: Check) -> None:
    """Let the audit make this check of an app above too, from now on; twice is once."""
    if check not in _checks:
        _checks.append(check)


def audit(*, after: UUID | None = None) -> tuple[list[Difference], UUID | None]:
    """Audit the next 1,000 customers by id; return the differences and the last customer.

    One repeatable snapshot covers the batch, so it may run under load. The last customer is
    None where there were none.
    """
    with db.snapshot():
        rows = Customer.objects.order_by("id")
        if after is not None:
            rows = rows.filter(pk__gt=after)
        ids = list(rows.values_list("pk", flat=True)[:BATCH_MAX])
        own = (_used, _held, _ceilings, _live_subscriptions)
        found = [each for check in (*own, *_checks) for each in check(ids)]
    return found, ids[-1] if ids else None


def _used(ids: Sequence[UUID]) -> Iterator[Difference]:
    """Used units are what the ledger adds and takes (I2)."""
    signed = Case(
        When(kind__in=ADDS, then=F("units")), When(kind__in=TAKES, then=-F("units")), default=0
    )
    counted = {
        row["balance_id"]: int(row["total"])
        for row in UsageEntry.objects.filter(customer_id__in=ids, balance__isnull=False)
        .values("balance_id")
        .annotate(total=Coalesce(Sum(signed), 0))
    }
    for row in Balance.objects.filter(customer_id__in=ids).select_related("feature"):
        if row.used_units != counted.get(row.pk, 0):
            yield _difference("used equals the ledger", row, row.used_units, counted.get(row.pk, 0))


def _held(ids: Sequence[UUID]) -> Iterator[Difference]:
    """Held units are those of the holds that were not marked as ended (I2)."""
    counted = {
        row["balance_id"]: int(row["total"])
        for row in Hold.objects.filter(customer_id__in=ids, state=Hold.State.LIVE)
        .values("balance_id")
        .annotate(total=Coalesce(Sum("units"), 0))
    }
    for row in Balance.objects.filter(customer_id__in=ids).select_related("feature"):
        if row.held_units != counted.get(row.pk, 0):
            yield _difference("held equals the holds", row, row.held_units, counted.get(row.pk, 0))


def _ceilings(ids: Sequence[UUID]) -> Iterator[Difference]:
    """Used and held units stay within the ceiling, which every hard limit has (I3)."""
    above = Balance.objects.filter(
        customer_id__in=ids, ceiling_units__lt=F("used_units") + F("held_units")
    )
    for row in above.select_related("feature"):
        counted = row.used_units + row.held_units
        yield _difference("used + held ≤ ceiling", row, row.ceiling_units or 0, counted)
    open_ended = Balance.objects.filter(
        customer_id__in=ids,
        is_current=True,
        ceiling_units__isnull=True,
        limit_units__isnull=False,
    ).exclude(mode=Entitlement.Mode.SOFT)
    for row in open_ended.select_related("feature"):
        yield _difference("a hard limit has a ceiling", row, 0, row.limit_units or 0)


def _live_subscriptions(ids: Sequence[UUID]) -> Iterator[Difference]:
    """A customer has one live subscription per plan group."""
    doubled = (
        Subscription.objects.filter(customer_id__in=ids, status__in=Subscription.SLOT_STATUSES)
        .values("customer_id", "plan_group__key")
        .annotate(total=Count("id"))
        .filter(total__gt=1)
    )
    for row in doubled:
        yield Difference(
            invariant="one live subscription per plan group",
            customer_id=str(row["customer_id"]),
            place=row["plan_group__key"],
            stored=row["total"],
            recounted=1,
        )


def _difference(invariant: str, row: Balance, stored: int, recounted: int) -> Difference:
    place = f"{row.feature.key} {row.scope} from {row.period_starts_at} ({row.generation})"
    return Difference(
        invariant=invariant,
        customer_id=str(row.customer_id),
        place=place,
        stored=stored,
        recounted=recounted,
    )
