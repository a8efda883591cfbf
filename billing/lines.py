"""Plan the lines of an invoice. Pure: a preview and its execution plan with the same code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from uuid import UUID

from django.conf import settings

from billing import pricing, proration
from billing.models import InvoiceLine
from billing.proration import Share
from core import periods
from core.periods import Interval, Period, Recurrence
from core.zones import Zones
from subscriptions.models import AddOnPrice, MeteredPrice, Price

Kind = InvoiceLine.Kind
PLAN = "plan"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a subscription takes of one item, and how its periods are counted."""

    item: str
    name: str
    price: Price | AddOnPrice
    quantity: int
    anchor_at: datetime
    zones: Zones

    @property
    def recurrence(self) -> Recurrence:
        """Return the billing periods."""
        return Recurrence(
            anchor=self.anchor_at,
            time_zone=self.zones.time_zone,
            interval=Interval(self.price.interval),
            count=self.price.interval_count,
            former_zones=self.zones.former,
        )

    def zone_at(self, at: datetime) -> str:
        """Return the zone whose days the running period counts."""
        return periods.zone_at(self.recurrence, at=at)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A line billed for a period that is not over, with what is given back of it already."""

    line_id: UUID
    item: str
    description: str
    quantity: int
    billed_minor: int
    credited_minor: int
    starts_at: datetime
    ends_at: datetime
    price: Price | AddOnPrice | None


@dataclass(frozen=True, kw_only=True)
class PlannedLine:
    """One line to be: amounts in minor units, the period half-open; empty until it starts."""

    kind: str
    item: str
    description: str
    quantity: int
    amount_minor: int
    period: Period | None
    is_discountable: bool = True
    price: Price | AddOnPrice | None = None
    metered_price: MeteredPrice | None = None
    credits_id: UUID | None = None
    share: Share | None = None
    entries: int | None = None
    last_entry_id: UUID | None = None


def first(taken: Taken, *, at: datetime) -> Iterator[PlannedLine]:
    """Yield the lines of a first period that a payment will start.

    Where periods run already, by a former subscription to the same plan, what remains is due.
    """
    period = periods.period_at(taken.recurrence, at=at)
    share = share_of(period, at=at, time_zone=taken.zone_at(at))
    is_whole = period.starts_at == at
    yield from _fees(
        taken,
        period=None,
        share=None if is_whole else share,
        kind=Kind.RECURRING if is_whole else Kind.CHARGE,
        is_discountable=True,
    )


def full_period(taken: Taken, *, period: Period) -> Iterator[PlannedLine]:
    """Yield the lines of a whole period."""
    yield from _fees(taken, period=period, share=None, kind=Kind.RECURRING, is_discountable=True)


def until(taken: Taken, *, at: datetime, end: datetime) -> Iterator[PlannedLine]:
    """Yield the lines from the instant on: of each period that begins before the end.

    The first is charged for what remains of it, where it began before the instant.
    """
    period = periods.period_at(taken.recurrence, at=at)
    if period.starts_at < at:
        share = share_of(period, at=at, time_zone=taken.zone_at(at))
        rest = Period(starts_at=at, ends_at=period.ends_at)
        yield from _fees(taken, period=rest, share=share, kind=Kind.CHARGE, is_discountable=True)
        period = periods.period_at(taken.recurrence, at=_end_of(period))
    while period.starts_at < end:
        yield from full_period(taken, period=period)
        period = periods.period_at(taken.recurrence, at=_end_of(period))


def change(
    standing: Sequence[Standing], *, after: Taken | None, at: datetime, time_zone: str
) -> Iterator[PlannedLine]:
    """Yield proration credits for what was billed ahead, and charges for what comes instead.

    Where the periods begin anew now, a whole one is charged, else what remains of the running
    one; prorations are not discounted again.
    """
    yield from credits_of(standing, at=at, time_zone=time_zone)
    if after is None or after.price.is_free:
        return
    period = periods.period_at(after.recurrence, at=at)
    share = share_of(period, at=at, time_zone=time_zone)
    yield from _fees(
        after,
        period=Period(starts_at=at, ends_at=period.ends_at),
        share=None if period.starts_at == at else share,
        kind=Kind.CHARGE,
        is_discountable=after.anchor_at == at,
    )


def credits_of(
    standing: Sequence[Standing], *, at: datetime, time_zone: str
) -> Iterator[PlannedLine]:
    """Yield what is given back of the lines, each by the share of its own period that is left."""
    for line in standing:
        period = Period(starts_at=line.starts_at, ends_at=line.ends_at)
        share = share_of(period, at=at, time_zone=time_zone)
        amount = proration.proration_credit(
            billed_minor=line.billed_minor, credited_minor=line.credited_minor, share=share
        )
        if amount:
            yield PlannedLine(
                kind=Kind.PRORATION_CREDIT,
                item=line.item,
                description=f"Unused time: {line.description}"[:255],
                quantity=line.quantity,
                amount_minor=amount,
                period=Period(starts_at=at, ends_at=line.ends_at),
                is_discountable=False,
                price=line.price,
                credits_id=line.line_id,
                share=share,
            )


def share_of(period: Period, *, at: datetime, time_zone: str) -> Share:
    """Return what remains of a period at the instant, by the configured method."""
    ends_at = _end_of(period)
    if settings.ENGINE.proration_method == "day":
        return proration.by_day(
            starts_at=period.starts_at, ends_at=ends_at, at=at, time_zone=time_zone
        )
    return proration.by_second(starts_at=period.starts_at, ends_at=ends_at, at=at)


def _fees(
    taken: Taken,
    *,
    period: Period | None,
    share: Share | None,
    kind: str,
    is_discountable: bool,
) -> Iterator[PlannedLine]:
    if taken.price.is_free:
        return
    terms = taken.price.read_terms()
    whole = pricing.amount_minor(terms, quantity=Fraction(taken.quantity))
    part = share or proration.WHOLE
    amount = proration.charge(amount_minor=whole, share=part)
    yield PlannedLine(
        kind=kind,
        item=taken.item,
        description=taken.name if share is None else f"Remaining time: {taken.name}",
        quantity=taken.quantity,
        amount_minor=amount,
        period=period,
        is_discountable=is_discountable,
        price=taken.price,
        share=share,
    )
    minimum = pricing.true_up_minor(
        minimum_minor=pricing.minimum_minor(terms, share=part), charged_minor=amount
    )
    if minimum:
        yield PlannedLine(
            kind=Kind.MINIMUM,
            item=taken.item,
            description=f"{taken.name}: minimum",
            quantity=1,
            amount_minor=minimum,
            period=period,
            is_discountable=is_discountable,
            price=taken.price,
            share=share,
        )


def _end_of(period: Period) -> datetime:
    if period.ends_at is None:
        msg = "a billing period ends"
        raise AssertionError(msg)
    return period.ends_at
