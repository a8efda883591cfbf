"""Subscribe with a coupon, and say how to pay: what the first invoice asks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing import invoicing, selectors
from billing.gateways import registry
from billing.gateways.port import HowToPay
from billing.invoicing import Fee
from billing.models import Invoice
from billing.services import coupons, issuing
from core import clock as clocks
from core import db
from core.services import idempotency
from core.services.idempotency import KeyedRequest, Recorded
from subscriptions.models import Subscription
from subscriptions.services import lifecycle, moves
from subscriptions.services.lifecycle import CREATED, Order
from subscriptions.services.timeline import Actor


@dataclass(frozen=True, kw_only=True)
class Payable:
    """What a first invoice asks, how to pay it, and until when it may be paid."""

    invoice_id: UUID
    due_minor: int
    currency: str
    how: HowToPay
    expires_at: datetime | None


Render = Callable[[Subscription, Payable | None, datetime], Mapping[str, object]]


def subscribe(
    *,
    customer_id: UUID,
    order: Order,
    coupon_key: str | None,
    actor: Actor,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Subscribe the customer, with a coupon where one is named, once under the key.

    A paid plan is incomplete until its first invoice is paid; the invoice is issued after the
    commit, by this process or else by a worker. One that owes nothing activates at once.

    :raises CouponInvalid: for a coupon that cannot be redeemed; nothing is changed.
    :raises PlanUnknown, PlanNotAvailable, CurrencyMismatch: for a plan or price not on offer.
    :raises SubscriptionExists: where a live one stands in the plan's group.
    :raises TrialAlreadyUsed: where the order insists on a trial that is not open.
    :raises NotFound: where there is no such customer.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    made: list[UUID] = []

    @db.operation
    def run() -> Recorded:
        with db.transaction():
            locked = moves.lock_step(customer_id=customer_id, clock=clock)
            row = lifecycle.subscribe_step(locked, order=order, actor=actor)
            if coupon_key is not None:
                currency = row.price.currency if row.price else locked.customer.currency
                coupons.redeem_step(key=coupon_key, row=row, currency=currency, at=locked.at)
            body = render(row, find_payable(row=row), locked.at)
            made.append(row.pk)
            return idempotency.claim_step(
                customer_id=customer_id, keyed=keyed, status=CREATED, body=body, at=locked.at
            )

    answer = idempotency.once(customer_id=customer_id, keyed=keyed, run=run)
    if made and not answer.replayed:
        issuing.issue_drafts_of(subscription_id=made[-1], clock=clock)
    return answer


def find_payable(*, row: Subscription) -> Payable | None:
    """Return what the subscription's first invoice asks; None where none is awaited."""
    if row.status != Subscription.Status.INCOMPLETE:
        return None
    invoice = Invoice.objects.filter(subscription=row).order_by("id").first()
    if invoice is None:
        return None
    if invoice.status == Invoice.Status.DRAFT:
        invoice.due_minor = expected_due_minor(invoice=invoice)
    return Payable(
        invoice_id=invoice.pk,
        due_minor=invoice.due_minor,
        currency=invoice.currency,
        how=registry.default().ask(invoice),
        expires_at=row.incomplete_expires_at,
    )


def expected_due_minor(*, invoice: Invoice) -> int:
    """Return what a draft will ask once it is issued, were it issued now."""
    balance = selectors.get_balance_minor(
        customer_id=invoice.customer_id, currency=invoice.currency
    )
    fee = Fee(amount_minor=invoice.total_minor - invoice.paid_minor)
    return invoicing.add_up([fee], balance_minor=balance).due_minor
