"""Write an MRR movement with each change of a subscription: new MRR − what its movements say."""

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction

from billing import mrr, pricing, selectors
from billing.invoicing import Off
from billing.lines import Taken
from billing.models import MrrMovement, Redemption
from core import db, money
from core.periods import Interval
from subscriptions.models import Subscription


def follow_step(
    *, row: Subscription, taken: Sequence[Taken], redemption: Redemption | None, at: datetime
) -> MrrMovement | None:
    """Write how far the subscription's MRR moved by what it takes now; None where it did not.

    The caller holds the customer's lock. After it, the sum of the movements is the MRR.
    """
    db.transaction_required()
    last = selectors.find_last_movement(subscription_id=row.pk)
    before_minor = last.mrr_minor if last else 0
    after_minor = mrr_minor(row=row, taken=taken, redemption=redemption)
    if after_minor == before_minor:
        return None
    priced = [each for each in taken if not each.price.is_free]
    currency = priced[0].price.currency if priced else _currency_of(last)
    amount_minor = after_minor - before_minor
    customer = selectors.get_customer_mrr(customer_id=row.customer_id, currency=currency)
    return MrrMovement.objects.create(
        customer_id=row.customer_id,
        subscription=row,
        sequence=last.sequence + 1 if last else 1,
        kind=mrr.kind_of(
            amount_minor=amount_minor,
            customer_before_minor=customer.total_minor,
            has_history=customer.has_history,
        ),
        currency=currency,
        amount_minor=amount_minor,
        mrr_minor=after_minor,
        occurred_at=at,
    )


def mrr_minor(*, row: Subscription, taken: Sequence[Taken], redemption: Redemption | None) -> int:
    """Return the subscription's MRR: exact fractions, added, rounded once."""
    priced = [each for each in taken if not each.price.is_free]
    if row.status not in mrr.BILLED_STATUSES or not priced:
        return 0
    off = _lasting_off(redemption)
    return mrr.to_minor(sum((_monthly(each, off=off) for each in priced), Fraction(0)))


def _monthly(taken: Taken, *, off: Off | None) -> Fraction:
    exact = pricing.exact_amount(taken.price.read_terms(), quantity=Fraction(taken.quantity))
    in_minor = exact * 10 ** money.exponent_of(currency=taken.price.currency)
    return mrr.monthly(
        in_minor,
        interval=Interval(taken.price.interval),
        count=taken.price.interval_count,
        off=off,
    )


def _lasting_off(redemption: Redemption | None) -> Off | None:
    is_lasting = redemption is not None and redemption.coupon.duration == "forever"
    return redemption.coupon.off if redemption and is_lasting else None


def _currency_of(last: MrrMovement | None) -> str:
    if last is None:
        msg = "what has no price and never moved has no MRR"
        raise AssertionError(msg)
    return last.currency
