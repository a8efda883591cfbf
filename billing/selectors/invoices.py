"""Read invoices, coupons, balances and MRR; nothing here writes or locks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce

from billing import invoicing, lines
from billing.lines import Standing, Taken
from billing.models import (
    BalanceEntry,
    Coupon,
    CreditNote,
    Invoice,
    InvoiceLine,
    MrrMovement,
    Payment,
    Redemption,
)
from core.models import Customer
from subscriptions.models import (
    Subscription,
    SubscriptionAddOn,
)

AHEAD = (InvoiceLine.Kind.RECURRING, InvoiceLine.Kind.CHARGE, InvoiceLine.Kind.MINIMUM)
RETURNED = Coalesce(
    Sum(
        "proration_credits__amount_minor",
        filter=~Q(proration_credits__invoice__status=Invoice.Status.VOID),
    ),
    Value(0),
)


def list_invoices(*, customer: Customer) -> QuerySet[Invoice]:
    """Return the customer's issued invoices; drafts are nobody's yet."""
    return Invoice.objects.filter(customer=customer).exclude(status=Invoice.Status.DRAFT)


def find_invoice(*, customer: Customer, invoice_id: UUID) -> Invoice | None:
    """Return one issued invoice of the customer; None where there is none."""
    return list_invoices(customer=customer).filter(pk=invoice_id).first()


def list_lines(*, invoices: Sequence[Invoice]) -> list[InvoiceLine]:
    """Return the lines of the invoices, in their order."""
    return list(InvoiceLine.objects.filter(invoice__in=invoices).order_by("invoice_id", "id"))


def list_drafts(*, before: datetime | None = None) -> QuerySet[Invoice]:
    """Return the drafts of what happened up to the instant, or on a test clock, oldest first.

    Those of a subscription whose collection is paused are kept, and not among them.
    """
    drafts = Invoice.objects.filter(
        status=Invoice.Status.DRAFT, subscription__collection_paused_at__isnull=True
    ).order_by("billed_at", "id")
    if before is None:
        return drafts
    return drafts.filter(Q(billed_at__lte=before) | Q(customer__test_clock_at__isnull=False))


def list_taken(row: Subscription, *, at: datetime) -> list[Taken]:
    """Return all that the subscription takes at the instant: its plan, then its add-ons."""
    plan = get_plan_taken(row)
    return [*([plan] if plan else []), *list_add_ons_taken(row, at=at)]


def get_plan_taken(row: Subscription) -> Taken | None:
    """Return what the subscription takes of its plan; None where it has no price."""
    if row.price is None:
        return None
    return Taken(
        item=lines.PLAN,
        name=row.plan_version.plan.name,
        price=row.price,
        quantity=row.quantity,
        anchor_at=row.anchor_at,
        zones=row.zones,
    )


def list_add_ons_taken(row: Subscription, *, at: datetime) -> list[Taken]:
    """Return the priced add-ons on the subscription at the instant."""
    held = (
        SubscriptionAddOn.objects.filter(
            Q(ends_at__isnull=True) | Q(ends_at__gt=at), subscription=row, starts_at__lte=at
        )
        .select_related("add_on", "price")
        .order_by("add_on__key")
    )
    return [
        Taken(
            item=f"add_on:{each.add_on.key}",
            name=each.add_on.name,
            price=each.price,
            quantity=each.quantity,
            anchor_at=row.anchor_at,
            zones=row.zones,
        )
        for each in held
        if each.price is not None
    ]


def list_standing(
    *, subscription_id: UUID, at: datetime, item: str | None = None
) -> list[Standing]:
    """Return the lines billed for periods that end after the instant, oldest first.

    A line that a change gave back is closed; credit notes took back their part of the others.
    """
    found = (
        InvoiceLine.objects.filter(subscription=subscription_id, kind__in=AHEAD, ends_at__gt=at)
        .exclude(invoice__status=Invoice.Status.VOID)
        .exclude(metered_price__isnull=False)
        .select_related("invoice", "price", "add_on_price")
        .annotate(returned=RETURNED)
        .filter(returned=0)
        .order_by("id")
    )
    if item is not None:
        found = found.filter(item=item)
    rows = list(found)
    noted = credit_noted(rows)
    return [
        Standing(
            line_id=line.pk,
            item=line.item,
            description=line.description,
            quantity=line.quantity,
            billed_minor=line.amount_minor - line.discount_minor,
            credited_minor=noted.get(line.pk, 0),
            starts_at=line.starts_at,
            ends_at=line.ends_at,
            price=line.price or line.add_on_price,
        )
        for line in rows
        if line.starts_at is not None and line.ends_at is not None
    ]


def credit_noted(standing: Sequence[InvoiceLine]) -> dict[UUID, int]:
    """Return what credit notes took back of the lines: spread over the fees of their invoices."""
    notes = CreditNote.objects.filter(invoice__in={line.invoice_id for line in standing})
    amounts = dict(
        notes.order_by().values_list("invoice").annotate(amount=Sum("amount_minor")).order_by()
    )
    found: dict[UUID, int] = {}
    for invoice_id, amount in amounts.items():
        fees = list(
            InvoiceLine.objects.filter(invoice=invoice_id, amount_minor__gt=0)
            .annotate(returned=RETURNED)
            .order_by("id")
        )
        left = [line.amount_minor - line.discount_minor + line.returned for line in fees]
        shares = invoicing.spread(min(amount, sum(left)), over=left)
        found |= {line.pk: share for line, share in zip(fees, shares, strict=True)}
    return found


def get_creditable_minor(*, invoice: Invoice) -> int:
    """Return what is left of an invoice to take back by a credit note."""
    noted = invoice.credit_notes.aggregate(amount=Coalesce(Sum("amount_minor"), Value(0)))
    prorated = (
        InvoiceLine.objects.filter(credits__invoice=invoice)
        .exclude(invoice__status=Invoice.Status.VOID)
        .aggregate(amount=Coalesce(Sum("amount_minor"), Value(0)))
    )
    return int(max(invoice.total_minor - noted["amount"] + prorated["amount"], 0))


@dataclass(frozen=True, kw_only=True)
class Billed:
    """One whole period of an item that is billed."""

    item: str
    starts_at: datetime


def list_billed(*, subscription_id: UUID, since: datetime) -> set[Billed]:
    """Return the whole periods that are billed, of those that start at the instant or later."""
    billed = InvoiceLine.objects.filter(
        subscription=subscription_id, kind=InvoiceLine.Kind.RECURRING, starts_at__gte=since
    )
    return {
        Billed(item=item, starts_at=starts_at)
        for item, starts_at in billed.values_list("item", "starts_at")
        if starts_at is not None
    }


def is_blocked(*, invoice: Invoice, status: str, at: datetime) -> bool:
    """Tell whether another invoice keeps a subscription from recovering by this one's payment.

    What is past due waits for every overdue or failed invoice; what is unpaid for the latest.
    """
    others = Invoice.objects.filter(
        subscription=invoice.subscription_id, status=Invoice.Status.OPEN
    ).exclude(pk=invoice.pk)
    if status == Subscription.Status.UNPAID:
        return others.filter(billed_at__gt=invoice.billed_at).exists()
    return others.filter(Q(due_at__lte=at) | Q(payments__status=Payment.Status.FAILED)).exists()


def get_balance_minor(*, customer_id: UUID, currency: str) -> int:
    """Return what the customer has in balance with us; he may spend it on his next invoices."""
    entry = find_last_balance_entry(customer_id=customer_id, currency=currency)
    return entry.balance_minor if entry else 0


def find_last_balance_entry(*, customer_id: UUID, currency: str) -> BalanceEntry | None:
    """Return the newest entry of the customer's balance; None where nothing ever moved."""
    entries = BalanceEntry.objects.filter(customer=customer_id, currency=currency)
    return entries.order_by("-sequence").first()


def list_balances(*, customer: Customer) -> list[BalanceEntry]:
    """Return the newest entry of the customer's balance in each currency that ever moved."""
    entries = BalanceEntry.objects.filter(customer=customer)
    newest = entries.filter(currency=OuterRef("currency")).order_by("-sequence")
    last = entries.filter(sequence=Subquery(newest.values("sequence")[:1]))
    return list(last.order_by("currency"))


def list_coupons() -> QuerySet[Coupon]:
    """Return every coupon."""
    return Coupon.objects.all()


def list_balance_entries(*, customer: Customer) -> QuerySet[BalanceEntry]:
    """Return every movement of the customer's balance."""
    return BalanceEntry.objects.filter(customer=customer)


def find_redemption(*, subscription_id: UUID) -> Redemption | None:
    """Return the coupon on the subscription; None where there is none."""
    found = Redemption.objects.filter(subscription=subscription_id, released_at__isnull=True)
    return found.select_related("coupon").first()


def find_last_movement(*, subscription_id: UUID) -> MrrMovement | None:
    """Return the newest MRR movement of the subscription; None where there is none."""
    movements = MrrMovement.objects.filter(subscription=subscription_id)
    return movements.order_by("-sequence").first()


@dataclass(frozen=True, kw_only=True)
class CustomerMrr:
    """A customer's MRR in one currency, and whether it ever moved."""

    total_minor: int
    has_history: bool


def get_customer_mrr(*, customer_id: UUID, currency: str) -> CustomerMrr:
    """Return what the customer's movements add up to."""
    found = MrrMovement.objects.filter(customer=customer_id, currency=currency).aggregate(
        count=Count("id"), total=Coalesce(Sum("amount_minor"), Value(0))
    )
    return CustomerMrr(total_minor=found["total"], has_history=found["count"] > 0)
