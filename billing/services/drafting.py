"""Write draft invoices: lines with their provenance, coupons applied, added up."""

from collections.abc import Sequence
from datetime import datetime

from django.db.models import F

from billing import invoicing
from billing.invoicing import Fee
from billing.lines import PlannedLine
from billing.models import Invoice, InvoiceLine, Redemption
from core import db
from subscriptions.models import AddOnPrice, Price, Subscription


def draft_step(
    *,
    row: Subscription,
    planned: Sequence[PlannedLine],
    redemption: Redemption | None,
    at: datetime,
) -> Invoice | None:
    """Add the lines to the subscription's draft of the instant; None where there are none.

    The redemption's coupon discounts them. The caller holds the customer's lock. The draft is
    issued by an operation of its own.
    """
    db.transaction_required()
    if not planned:
        return None
    invoice = Invoice.objects.filter(
        subscription=row, billed_at=at, status=Invoice.Status.DRAFT
    ).first()
    former = list(invoice.lines.order_by("id")) if invoice else []
    if invoice is None:
        invoice = Invoice(
            customer_id=row.customer_id,
            subscription=row,
            billed_at=at,
            currency=_currency_of(planned),
        )
    fresh = [_line(each, invoice=invoice) for each in planned]
    _add_up(invoice, [*former, *fresh], redemption=redemption)
    invoice.save()
    InvoiceLine.objects.bulk_update(former, ["discount_minor"])
    InvoiceLine.objects.bulk_create(fresh)
    return invoice


def add_up_step(*, invoice: Invoice, redemption: Redemption) -> None:
    """Apply the redemption's coupon to the draft's fees, and write what it adds up to.

    The caller holds the customer's lock.
    """
    lines = list(invoice.lines.order_by("id"))
    _add_up(invoice, lines, redemption=redemption)
    invoice.save()
    InvoiceLine.objects.bulk_update(lines, ["discount_minor"])


def _currency_of(planned: Sequence[PlannedLine]) -> str:
    prices = (line.price or line.metered_price for line in planned)
    return next(each.currency for each in prices if each is not None)


def _add_up(
    invoice: Invoice, lines: Sequence[InvoiceLine], *, redemption: Redemption | None
) -> None:
    """Put the coupon, the discounts and the totals on the draft and its lines."""
    if any(line.is_discountable and line.amount_minor for line in lines):
        _redeem_step(invoice, redemption)
    offs = [invoice.redemption.coupon.off] if invoice.redemption else []
    totals = invoicing.add_up(
        [
            Fee(amount_minor=line.amount_minor, is_discountable=line.is_discountable)
            for line in lines
        ],
        offs=offs,
        tax_minor=invoice.tax_minor,
    )
    for line, discount in zip(lines, totals.discounts_minor, strict=True):
        line.discount_minor = discount
    invoice.subtotal_minor = totals.subtotal_minor
    invoice.discount_minor = totals.discount_minor
    invoice.total_minor = totals.total_minor


def _redeem_step(invoice: Invoice, redemption: Redemption | None) -> None:
    """Let the draft take one of the invoices that the coupon discounts."""
    if invoice.redemption is not None or redemption is None or redemption.invoices_left == 0:
        return
    if redemption.coupon.currency not in {"", invoice.currency}:
        return
    if redemption.invoices_left is not None:
        Redemption.objects.filter(pk=redemption.pk).update(invoices_left=F("invoices_left") - 1)
    invoice.redemption = redemption


def _line(planned: PlannedLine, *, invoice: Invoice) -> InvoiceLine:
    period, share, price = planned.period, planned.share, planned.price
    return InvoiceLine(
        invoice=invoice,
        subscription_id=invoice.subscription_id,
        kind=planned.kind,
        item=planned.item,
        description=planned.description,
        quantity=planned.quantity,
        amount_minor=planned.amount_minor,
        is_discountable=planned.is_discountable,
        starts_at=period.starts_at if period else None,
        ends_at=period.ends_at if period else None,
        price=price if isinstance(price, Price) else None,
        add_on_price=price if isinstance(price, AddOnPrice) else None,
        metered_price=planned.metered_price,
        credits_id=planned.credits_id,
        share_remaining=share.remaining if share else None,
        share_total=share.total if share else None,
        entries=planned.entries,
        last_entry_id=planned.last_entry_id,
    )
