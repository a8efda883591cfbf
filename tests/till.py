"""Sell a small catalog, and issue, pay and move time for one customer."""

from collections.abc import Callable
from datetime import UTC, datetime

from billing.models import Invoice
from billing.services import issuing, payments
from core import db
from core.models import Customer
from subscriptions.models import (
    AddOn,
    AddOnPrice,
    MeteredPrice,
    Plan,
    PlanGroup,
    Price,
    Subscription,
)
from subscriptions.services import catalog, changes, moves
from tests import factories

STARTED = datetime(2026, 3, 1, tzinfo=UTC)


class Till:
    """Issue, pay and move time for one customer, at given instants."""

    def __init__(self, customer: Customer) -> None:
        self.customer = customer

    def issue(self, at: datetime) -> list[Invoice]:
        job = issuing.IssueJob()
        for key in job.list_due(at=at, limit=100, excluded=()):
            job.work(key=key, clock=factories.standing(at))
        return list(Invoice.objects.order_by("number"))

    def mark(self, invoice: Invoice, at: datetime, *, status="succeeded", reference=""):
        payment = payments.mark(
            invoice_id=invoice.pk,
            status=status,
            reference=reference,
            actor=factories.ACTOR,
            clock=factories.standing(at),
        )
        invoice.refresh_from_db()
        return payment

    def pay_all(self, at: datetime) -> None:
        for invoice in self.issue(at):
            if invoice.status == Invoice.Status.OPEN:
                self.mark(invoice, at)

    def subscribe(self, plan_key: str, at: datetime) -> Subscription:
        row = factories.subscribe(self.customer, plan_key, at=at, pay=False)
        self.pay_all(at)
        row.refresh_from_db()
        return row

    def change(self, row: Subscription, at: datetime, **order) -> Subscription:
        order = {"plan_key": row.plan_version.plan.key} | order
        changed = changes.change(
            subscription_id=row.pk,
            order=changes.ChangeOrder(**order),
            actor=factories.ACTOR,
            clock=factories.standing(at),
        )
        return Subscription.objects.select_related("plan_version__plan").get(pk=changed.pk)

    def settle(self, at: datetime) -> None:
        """Let the clock bring what it brought up to the instant."""
        with db.transaction():
            moves.lock_step(customer_id=self.customer.pk, clock=factories.standing(at))


def price_plan(plan: Plan, at: datetime, *, alter: Callable[[Price], None], **metered) -> Plan:
    """Publish the plan's draft with its price altered, and with metered prices by feature."""
    draft = plan.versions.get()
    price = draft.prices.get()
    alter(price)
    price.save()
    for key, terms in metered.items():
        MeteredPrice.objects.create(
            plan_version=draft,
            feature=factories.make_feature(key, at=at),
            currency="EUR",
            model=terms.get("model", "per_unit"),
            terms={name: value for name, value in terms.items() if name != "model"},
        )
    catalog.publish(plan_version_id=draft.pk, clock=factories.standing(at))
    return plan


def make_catalog(*, at: datetime = STARTED) -> None:
    """Sell plans of one group: free, pro, team, annual, seats (per unit) and usage (metered)."""
    factories.make_plan("free", at=at, limits={"api_calls": 100})
    factories.make_plan("pro", at=at, limits={"api_calls": 1000}, rank=10, price_minor=1000)
    factories.make_plan("team", at=at, limits={"api_calls": 5000}, rank=20, price_minor=2000)

    def yearly(price: Price) -> None:
        price.interval, price.unit_amount_minor = "year", 20000

    def per_seat(price: Price) -> None:
        price.model, price.unit_amount_minor = "per_unit", 1000

    plan = factories.make_plan("annual", at=at, rank=30, publish=False)
    price_plan(plan, at, alter=yearly)
    plan = factories.make_plan("seats", at=at, rank=40, publish=False)
    price_plan(plan, at, alter=per_seat)
    limits = {"api_calls": 99_999}
    plan = factories.make_plan("usage", at=at, rank=50, publish=False, limits=limits)
    price_plan(
        plan,
        at,
        alter=lambda price: setattr(price, "unit_amount_minor", 500),
        api_calls={"unit_amount": "0.015", "included": "100"},
    )


def make_add_on(plan_group: PlanGroup, *, at: datetime, key: str = "support") -> AddOn:
    """Offer an add-on at 3.00 EUR a month beside the plans of the group."""
    add_on = AddOn.objects.create(key=key, name=key.title(), plan_group=plan_group, created_at=at)
    AddOnPrice.objects.create(add_on=add_on, key=key, currency="EUR", unit_amount_minor=300)
    AddOn.objects.filter(pk=add_on.pk).update(published_at=at)
    return add_on
