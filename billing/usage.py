"""Plan the lines of usage. Pure: what a billing period costs by now, less what is billed of it.

So tiers, packages and minimums count through a period, however often it is billed: at its end, at
a change within it, and again for what came late. What was billed and taken back since is credited.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from uuid import UUID

from billing import pricing
from billing.lines import Kind, PlannedLine
from core import money
from core.periods import Period
from subscriptions.models import MeteredPrice
from subscriptions.terms import Terms


@dataclass(frozen=True, kw_only=True)
class Count:
    """Units of a feature, less what was taken back, and the entries that used them."""

    units: int
    operations: int

    def __add__(self, other: "Count") -> "Count":
        return Count(units=self.units + other.units, operations=self.operations + other.operations)


NOTHING = Count(units=0, operations=0)


@dataclass(frozen=True, kw_only=True)
class BilledUsage:
    """A line billed for a period's usage: its amount, and what of it was given back (≥ 0).

    Credits take usage back, credit notes the money alone.
    """

    line_id: UUID
    amount_minor: int
    discount_minor: int
    credited_minor: int
    noted_minor: int
    metered_price: MeteredPrice


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the ledger says of a feature in one billing period.

    `before` is what was counted when it was billed last, None where nothing is billed yet;
    `now` came since. The minimum is due once the period ends, and stands in `before` where the
    period had ended already.
    """

    metered_price: MeteredPrice
    name: str
    period: Period
    before: Count | None
    now: Count
    is_late: bool
    is_ending: bool
    billed: Sequence[BilledUsage] = ()
    last_entry_id: UUID | None = None


def lines_of(found: Sequence[Usage]) -> Iterator[PlannedLine]:
    """Yield what is due, and what is given back, for each feature and period."""
    for each in found:
        amount = _due_minor(each)
        if amount > 0:
            yield _line(each, kind=Kind.METERED, amount_minor=amount)
        elif amount < 0:
            yield from _credits(each, amount_minor=-amount)
        if each.is_ending and not each.is_late:
            yield from _true_up(each, amount_minor=amount)


def _due_minor(usage: Usage) -> int:
    """Return what the units counted since cost; below 0 where the period costs less by now."""
    terms = usage.metered_price.read_terms()
    floor = pricing.minimum_minor(terms) if usage.is_late else 0
    if usage.before is None:
        return max(_cost_minor(terms, usage.now), floor)
    whole = max(_cost_minor(terms, usage.before + usage.now), floor)
    return whole - max(_cost_minor(terms, usage.before), floor)


def _cost_minor(terms: Terms, count: Count) -> int:
    units = Fraction(max(count.units, 0))
    return pricing.amount_minor(terms, quantity=units, operations=count.operations)


def _true_up(usage: Usage, *, amount_minor: int) -> Iterator[PlannedLine]:
    charged = sum(line.amount_minor - line.credited_minor for line in usage.billed)
    minimum = pricing.true_up_minor(
        minimum_minor=pricing.minimum_minor(usage.metered_price.read_terms()),
        charged_minor=charged + amount_minor,
    )
    if minimum:
        yield PlannedLine(
            kind=Kind.MINIMUM,
            item=item_of(usage.metered_price),
            description=f"{usage.name}: minimum",
            quantity=1,
            amount_minor=minimum,
            period=usage.period,
            metered_price=usage.metered_price,
        )


def _credits(usage: Usage, *, amount_minor: int) -> Iterator[PlannedLine]:
    """Yield what is given back of the period's lines, the newest first: never more than paid.

    What of a line was given back before is left out; what a credit note paid back is not.
    """
    left = amount_minor
    for line in reversed(usage.billed):
        net = line.amount_minor - line.discount_minor
        former = Fraction(line.credited_minor * line.amount_minor, net) if net else Fraction(0)
        part = min(left, line.amount_minor - money.rounded(former))
        given = min(
            money.rounded(Fraction(part * net, line.amount_minor)),
            net - line.credited_minor - line.noted_minor,
        )
        left -= part
        if given > 0:
            yield _line(
                usage,
                kind=Kind.PRORATION_CREDIT,
                amount_minor=-given,
                credits_id=line.line_id,
            )


def _line(
    usage: Usage, *, kind: str, amount_minor: int, credits_id: UUID | None = None
) -> PlannedLine:
    return PlannedLine(
        kind=kind,
        item=item_of(usage.metered_price),
        description=usage.name if credits_id is None else f"Taken back: {usage.name}"[:255],
        quantity=abs(usage.now.units),
        amount_minor=amount_minor,
        period=usage.period,
        is_discountable=credits_id is None,
        metered_price=usage.metered_price,
        credits_id=credits_id,
        entries=usage.now.operations,
        last_entry_id=usage.last_entry_id,
    )


def item_of(price: MeteredPrice) -> str:
    """Return the item of an invoice line that bills the price's feature."""
    return f"metered:{price.feature.key}"
