"""Preview and execute a change of plan with its money: a preview is an execution taken back."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from billing.models import Invoice, InvoiceLine
from billing.services import issuing, subscribing
from billing.services.subscribing import Payable
from core import clock as clocks
from core import db
from core.services import idempotency
from core.services.idempotency import KeyedRequest, Recorded
from metering import selectors as metering_selectors
from metering.models import Balance
from subscriptions import selectors as subscription_selectors
from subscriptions import transitions
from subscriptions.facts import CustomerFacts
from subscriptions.models import Subscription
from subscriptions.planning import ChangePlan
from subscriptions.services import add_ons, changes, lifecycle, moves
from subscriptions.services.add_ons import AddOnOrder
from subscriptions.services.changes import ChangeOrder
from subscriptions.services.lifecycle import Offer
from subscriptions.services.moves import Locked
from subscriptions.services.timeline import Actor
from subscriptions.states import Given

PREVIEWER = Actor(name="preview")


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What a change does: when, its invoice lines, what is due now, and the limits after it.

    `exceeds` names the features of which more is counted than the limit after it covers. From a
    free subscription to a paid plan it waits for a payment: `payable` says how; None elsewhere.
    """

    subscription_id: UUID
    effective_at: datetime
    proration_at: datetime
    lines: list[InvoiceLine]
    due_now_minor: int
    currency: str
    limits_after: Mapping[str, int | None]
    exceeds: list[str]
    payable: Payable | None = None


Render = Callable[[Quote], Mapping[str, object]]


class _TakenBack(Exception):
    """Undo an execution that was only a preview, and carry what it said."""

    def __init__(self, quote: Quote) -> None:
        super().__init__()
        self.quote = quote


@db.operation
def preview(*, customer_id: UUID, order: ChangeOrder, clock: clocks.Clock) -> Quote:
    """Return what the change would do now; nothing is changed.

    It is executed and rolled back, so that the execution under its `proration_at` does the same
    to the minor unit, for ten minutes, unless something of the customer's changes before.

    :raises NotFound, SubscriptionEnded, InvalidTransition: as the change itself.
    :raises PlanUnknown, PlanNotAvailable, CurrencyMismatch, Invalid: for its target.
    """
    try:
        with db.transaction():
            locked = moves.lock_step(customer_id=customer_id, clock=clock)
            plan = changes.preview_step(locked, row=locked.own(), order=order)
            quote = _execute_step(locked, plan, actor=PREVIEWER)
            raise _TakenBack(  # noqa: TRY301 - leaving the block is what rolls it back
                replace(quote, payable=None)
            )
    except _TakenBack as taken_back:
        return taken_back.quote


def set_add_on(
    *,
    customer_id: UUID,
    order: AddOnOrder,
    actor: Actor,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Set how many of an add-on the customer's own subscription has, once under the key.

    Its units add or go at once, its price is prorated; the invoice is issued after the commit.

    :raises NotFound, SubscriptionEnded, InvalidTransition: where the state does not allow it.
    :raises PlanNotAvailable, CurrencyMismatch, Invalid: for the add-on.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """

    def execute(locked: Locked) -> Quote:
        row = locked.own()
        add_ons.set_quantity_step(locked, row=row, order=order, actor=actor)
        return _quote(locked, row, proration_at=locked.at, effective_at=locked.at)

    return _once(customer_id=customer_id, execute=execute, keyed=keyed, render=render, clock=clock)


def change(
    *,
    customer_id: UUID,
    order: ChangeOrder,
    proration_at: datetime | None,
    actor: Actor,
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Change the customer's own subscription, once under the key, and record the answer.

    With a preview's `proration_at` it does what that said. The invoice of an immediate change is
    issued after the commit, by this process or else by a worker.

    :raises PreviewStale: where the preview is too old, or something changed since.
    :raises NotFound, SubscriptionEnded, InvalidTransition: where the state does not allow it.
    :raises PlanUnknown, PlanNotAvailable, CurrencyMismatch, Invalid: for its target.
    :raises IdempotencyKeyReused: where the key stands for another request.
    """

    def execute(locked: Locked) -> Quote:
        row = locked.own()
        plan = changes.plan_step(locked, row=row, order=order, proration_at=proration_at)
        return _execute_step(locked, plan, actor=actor)

    return _once(customer_id=customer_id, execute=execute, keyed=keyed, render=render, clock=clock)


def _once(
    *,
    customer_id: UUID,
    execute: Callable[[Locked], Quote],
    keyed: KeyedRequest,
    render: Render,
    clock: clocks.Clock,
) -> Recorded:
    """Execute in a transaction that claims the key, then issue what it drafted."""
    changed: list[UUID] = []

    @db.operation
    def run() -> Recorded:
        with db.transaction():
            locked = moves.lock_step(customer_id=customer_id, clock=clock)
            quote = execute(locked)
            changed.append(quote.subscription_id)
            return idempotency.claim_step(
                customer_id=customer_id,
                keyed=keyed,
                status=moves.OK,
                body=render(quote),
                at=locked.at,
            )

    answer = idempotency.once(customer_id=customer_id, keyed=keyed, run=run)
    if changed and not answer.replayed:
        issuing.issue_drafts_of(subscription_id=changed[-1], clock=clock)
    return answer


def _execute_step(locked: Locked, plan: ChangePlan, *, actor: Actor) -> Quote:
    """Do what the plan says, and return what it did."""
    if plan.starts_payment and plan.subscription.status != Subscription.Status.TRIALING:
        return _await_payment_step(locked, plan, actor=actor)
    row = changes.change_step(locked, plan=plan, actor=actor)
    return _quote(locked, row, proration_at=plan.at, effective_at=plan.effective_at)


def _await_payment_step(locked: Locked, plan: ChangePlan, *, actor: Actor) -> Quote:
    """Begin the paid subscription; it takes the free one's place once its invoice is paid."""
    row = lifecycle.await_payment_step(
        replace(locked, at=plan.at),
        offer=Offer(plan_version=plan.to_version, price=plan.to_price),
        quantity=plan.to_quantity,
        actor=actor,
    )
    quote = _quote(locked, row, proration_at=plan.at, effective_at=plan.at)
    return replace(quote, payable=subscribing.find_payable(row=row))


def _quote(
    locked: Locked, row: Subscription, *, proration_at: datetime, effective_at: datetime
) -> Quote:
    """Return what was drafted for the instant, and the limits from then on."""
    draft = _find_draft(row, at=effective_at)
    facts = subscription_selectors.get_customer_facts(customer=locked.customer)
    standings = _list_standings(_as_paid(facts, row, at=effective_at), at=effective_at)
    used = _list_standings(facts, at=locked.at)
    limits = {key: each.limit_units for key, each in standings.items()}
    return Quote(
        subscription_id=row.pk,
        effective_at=effective_at,
        proration_at=proration_at,
        lines=list(draft.lines.order_by("id")) if draft else [],
        due_now_minor=_due_now_minor(row, draft),
        currency=row.price.currency if row.price else locked.customer.currency,
        limits_after=limits,
        exceeds=[
            key
            for key, each in used.items()
            if (limit := limits.get(key, 0)) is not None
            and (each.balance.counted_units if each.balance else 0) > limit
        ],
    )


def _due_now_minor(row: Subscription, draft: Invoice | None) -> int:
    """Return what the draft asks; nothing while collection is paused, which keeps it."""
    if draft is None or row.collection_paused_at is not None:
        return 0
    return subscribing.expected_due_minor(invoice=draft)


def _find_draft(row: Subscription, *, at: datetime) -> Invoice | None:
    return Invoice.objects.filter(
        subscription=row, billed_at=at, status=Invoice.Status.DRAFT
    ).first()


def _as_paid(facts: CustomerFacts, row: Subscription, *, at: datetime) -> CustomerFacts:
    """Return the facts as they will be once a subscription that waits is paid for."""
    if row.status != Subscription.Status.INCOMPLETE:
        return facts
    paid = copy(row)
    transitions.take(paid, event="payment_succeeded", at=at, given=Given(anchor_at=row.anchor_at))
    others = [each for each in facts.subscriptions if each.plan_group_id != row.plan_group_id]
    return replace(facts, subscriptions=(*others, paid))


def _list_standings(
    facts: CustomerFacts, *, at: datetime
) -> Mapping[str, metering_selectors.Standing]:
    """Return every metered feature as it stands at the instant, also one that lies ahead."""
    rows = list(Balance.objects.filter(customer=facts.customer, scope="").open_after(at))
    return metering_selectors.overview_of(facts, rows=rows, at=at).standings
