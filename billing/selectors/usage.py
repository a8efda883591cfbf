"""Read from the ledger what usage comes to: in the billing period, and late for an earlier one."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Aggregate, Case, Count, F, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Coalesce

from billing import usage
from billing.models import Invoice, InvoiceLine
from billing.selectors.invoices import RETURNED, credit_noted
from billing.usage import BilledUsage, Usage
from core import periods
from core.periods import Period, Recurrence
from metering.models import Balance, UsageEntry
from subscriptions import renewals
from subscriptions import selectors as subscription_selectors
from subscriptions.models import Feature, MeteredPrice, Subscription

Kind = UsageEntry.Kind
COUNTED = (Kind.CONSUME, Kind.RECORD, Kind.CAPTURE)
TAKEN_BACK = (Kind.REVERSAL, Kind.ADJUSTMENT)
COUNTS_AT = Coalesce(
    "usage_at",
    Case(
        When(period_ends_at__lte=F("consumed_at"), then=F("period_starts_at")),
        default=F("consumed_at"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Billing:
    """One billing of usage: what was written from `marked_at` up to `at`.

    The billing period began at `opened_at`, and ends at `at` or goes on.
    """

    opened_at: datetime
    marked_at: datetime
    at: datetime
    is_ending: bool


def is_usage_priced(row: Subscription) -> bool:
    """Tell whether any usage costs by the subscription's version, known once a process."""
    return row.price is not None and bool(
        subscription_selectors.list_metered_prices(
            plan_version_id=row.plan_version_id, currency=row.price.currency
        )
    )


def list_usage(*, row: Subscription, billing: Billing) -> list[Usage]:
    """Return what the ledger says of the metered prices of the subscription's version.

    Each entry counts once, at the first billing after it was written: consumed, recorded and
    captured units, less what was reversed or given back. It belongs to the billing period of its
    own instant; one that was written for a usage period over by then, to the period in which that
    began. Units drawn for another line count once. Once the subscription has ended and is billed
    up to its end, only what came late for it is left.
    """
    if row.price is None:
        return []
    prices = subscription_selectors.list_metered_prices(
        plan_version_id=row.plan_version_id, currency=row.price.currency
    )
    features = Feature.objects.filter(pk__in=[each.feature_id for each in prices])
    names = dict(features.values_list("pk", "name"))
    recurrence = renewals.billing_recurrence(
        anchor_at=row.anchor_at, zones=row.zones, price=row.price
    )
    return [
        found
        for price in prices
        for found in _Reader(
            row=row,
            price=price,
            name=names[price.feature_id],
            billing=billing,
            recurrence=recurrence,
        ).list_usage()
    ]


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Read one feature's entries for one billing."""

    row: Subscription
    price: MeteredPrice
    name: str
    billing: Billing
    recurrence: Recurrence

    @property
    def _is_over(self) -> bool:
        """Tell whether the subscription was billed up to its end before."""
        ended_at = self.row.ended_at
        return ended_at is not None and self.billing.marked_at >= ended_at

    def list_usage(self) -> Iterator[Usage]:
        """Yield what counts in the billing's own period, then what came late for earlier ones."""
        billing = self.billing
        late = Q(counts_at__lt=billing.opened_at, counts_at__gte=self.row.anchor_at)
        entries = self._entries(since=billing.opened_at, until=billing.at)
        former = Q(consumed_at__lt=billing.marked_at)
        found = _counts(entries, former=former & ~late, now=~former & ~late, late=~former & late)
        is_first = billing.marked_at == billing.opened_at
        if not self._is_over:
            yield self._usage(
                period=Period(starts_at=billing.marked_at, ends_at=billing.at),
                before=None if is_first else found["former"],
                now=found["now"],
                entries=entries.filter(~former & ~late),
            )
        if found["late"] != usage.NOTHING:
            yield from self._list_late(entries.filter(~former & late))

    def _list_late(self, entries: "QuerySet[UsageEntry]") -> Iterator[Usage]:
        began: dict[Period, list[datetime]] = defaultdict(list)
        for counts_at in entries.values_list(COUNTS_AT, flat=True).order_by(COUNTS_AT).distinct():
            whole = periods.period_at(self.recurrence, at=counts_at)
            period = periods.clipped(whole, starts_at=None, ends_at=self.row.ended_at)
            began[period].append(counts_at)
        for period, instants in began.items():
            own = entries.filter(Q(counts_at__in=instants))
            within = Q(counts_at__gte=period.starts_at, counts_at__lt=period.ends_at)
            former = self._entries(since=period.starts_at, until=self.billing.marked_at)
            yield self._usage(
                period=period,
                before=_counts(former, all=within)["all"],
                now=_counts(own, all=Q())["all"],
                entries=own,
                is_late=True,
            )

    def _usage(
        self,
        *,
        period: Period,
        before: usage.Count | None,
        now: usage.Count,
        entries: "QuerySet[UsageEntry]",
        is_late: bool = False,
    ) -> Usage:
        opened_at = period.starts_at if is_late else self.billing.opened_at
        ends_at = period.ends_at or self.billing.at
        billed = [] if before is None else self._list_billed(since=opened_at, until=ends_at)
        last = entries.order_by("-id").values_list("id", flat=True).first() if now.units else None
        return Usage(
            metered_price=billed[-1].metered_price if billed and is_late else self.price,
            name=self.name,
            period=period,
            before=before,
            now=now,
            is_late=is_late,
            is_ending=self.billing.is_ending,
            billed=billed,
            last_entry_id=last,
        )

    def _entries(self, *, since: datetime, until: datetime) -> "QuerySet[UsageEntry]":
        """Return the entries written in the span, by the balances that counted since it began:
        who writes an entry moves `decided_at` of its balance to that instant or later.
        """
        counting = Balance.objects.filter(
            customer=self.row.customer_id, feature=self.price.feature_id, decided_at__gte=since
        )
        entries = UsageEntry.objects.filter(
            balance__in=counting.values("pk"),
            kind__in=(*COUNTED, *TAKEN_BACK),
            consumed_at__gte=since,
            consumed_at__lt=until,
        ).annotate(counts_at=COUNTS_AT)
        entries = entries.filter(Q(usage_at__isnull=True) | Q(usage_at__gte=self.row.start_at))
        if self.row.ended_at is not None:
            was_there = Q(consumed_at__lt=self.row.ended_at) | Q(usage_at__isnull=False)
            entries = entries.filter(was_there, counts_at__lt=self.row.ended_at)
        if Feature.objects.filter(pool=self.price.feature_id).exists():
            return entries
        return entries.filter(drawn_for__isnull=True)

    def _list_billed(self, *, since: datetime, until: datetime) -> list[BilledUsage]:
        """Return the lines that bill the feature's usage of a period, the oldest first."""
        rows = list(
            InvoiceLine.objects.filter(
                subscription=self.row,
                item=usage.item_of(self.price),
                kind=InvoiceLine.Kind.METERED,
                starts_at__gte=since,
                starts_at__lt=until,
            )
            .exclude(invoice__status=Invoice.Status.VOID)
            .select_related("metered_price__feature")
            .annotate(returned=RETURNED)
            .order_by("id")
        )
        noted = credit_noted(rows)
        return [
            BilledUsage(
                line_id=line.pk,
                amount_minor=line.amount_minor,
                discount_minor=line.discount_minor,
                credited_minor=-line.returned,
                noted_minor=noted.get(line.pk, 0),
                metered_price=line.metered_price or self.price,
            )
            for line in rows
        ]


def _counts(entries: "QuerySet[UsageEntry]", **wanted: Q) -> dict[str, usage.Count]:
    """Return the units and operations of each part of the entries, in one statement."""
    is_taken = Q(kind__in=TAKEN_BACK)
    sums: dict[str, Aggregate | Coalesce] = {}
    for name, part in wanted.items():
        sums |= {
            f"{name}_up": Coalesce(Sum("units", filter=part & ~is_taken), Value(0)),
            f"{name}_down": Coalesce(Sum("units", filter=part & is_taken), Value(0)),
            f"{name}_operations": Count("id", filter=part & ~is_taken),
        }
    found = entries.aggregate(**sums)
    return {
        name: usage.Count(
            units=found[f"{name}_up"] - found[f"{name}_down"],
            operations=found[f"{name}_operations"],
        )
        for name in wanted
    }
