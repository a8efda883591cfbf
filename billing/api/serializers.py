"""Define what billing operations read and show."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from rest_framework import serializers

from billing.models import Coupon, Invoice
from core import money
from core.api.serializers import (
    InstantField,
    KeyField,
    QuerySerializer,
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)
from metering.api.serializers import (
    CustomerNameField,
    OverviewSerializer,
    PaymentSerializer,
    PeriodSerializer,
)
from subscriptions import planning
from subscriptions.services import add_ons
from subscriptions.services.add_ons import AddOnOrder
from subscriptions.services.changes import ChangeOrder
from subscriptions.services.lifecycle import Order

REASON_LENGTH_MAX = 255
REFERENCE_LENGTH_MAX = 255
COUNT_MAX = 1_000_000_000
PERCENT = r"^(100|[0-9]{1,2})(\.[0-9]{1,4})?$"


class CustomerQuery(QuerySerializer):
    """Which customer a read means."""

    customer = CustomerNameField()


class PageQuery(CustomerQuery):
    """Which page of a customer's list is asked for."""

    limit = StrictIntegerField(required=False)
    cursor = StrictCharField(required=False)


class ListQuery(QuerySerializer):
    """Which page of a list is asked for."""

    limit = StrictIntegerField(required=False)
    cursor = StrictCharField(required=False)


class SubscribeSerializer(StrictSerializer):
    """What to subscribe to."""

    customer = CustomerNameField()
    plan = KeyField()
    price = KeyField(required=False)
    quantity = StrictIntegerField(
        required=False, default=1, min_value=1, max_value=planning.QUANTITY_MAX
    )
    trial = StrictBooleanField(
        required=False,
        help_text="True insists on the trial, false leaves it for later; without, it is taken "
        "where it is open.",
    )
    coupon = KeyField(required=False)


def order_of(given: dict[str, Any]) -> Order:
    """Return the order of a validated subscription input."""
    return Order(
        plan_key=given["plan"],
        price_key=given.get("price"),
        quantity=given["quantity"],
        wants_trial=given.get("trial"),
    )


class PreviewSerializer(StrictSerializer):
    """What to change to; what is not named stays as it is."""

    customer = CustomerNameField()
    plan = KeyField()
    price = KeyField(required=False)
    quantity = StrictIntegerField(required=False, min_value=1, max_value=planning.QUANTITY_MAX)
    usage_policy = serializers.ChoiceField(
        choices=planning.CUSTOMER_POLICIES, required=False, default=planning.KEEP
    )


class ChangeSerializer(PreviewSerializer):
    """What to change to, as previewed where the preview's instant is given."""

    proration_at = InstantField(required=False)


def change_of(given: dict[str, Any]) -> ChangeOrder:
    """Return the order of a validated change."""
    return ChangeOrder(
        plan_key=given["plan"],
        price_key=given.get("price"),
        quantity=given.get("quantity"),
        usage_policy=given["usage_policy"],
    )


class AddOnInput(StrictSerializer):
    """How many of an add-on there shall be; 0 takes it off."""

    customer = CustomerNameField()
    add_on = KeyField()
    quantity = StrictIntegerField(min_value=0, max_value=add_ons.QUANTITY_MAX)
    price = KeyField(required=False)


def add_on_of(given: dict[str, Any]) -> AddOnOrder:
    """Return the order of a validated input."""
    return AddOnOrder(
        add_on_key=given["add_on"], quantity=given["quantity"], price_key=given.get("price")
    )


class ArchiveInput(StrictSerializer):
    """Nothing: the address says it all."""


class ReasonSerializer(StrictSerializer):
    """Why it is done."""

    reason = StrictCharField(max_length=REASON_LENGTH_MAX)


class ReportSerializer(ReasonSerializer):
    """What came of a payment, told by hand; a reference is told once."""

    reference = StrictCharField(required=False, default="", max_length=REFERENCE_LENGTH_MAX)


class CreditNoteInput(ReasonSerializer):
    """How much of an invoice is taken back, and why."""

    amount_minor = StrictIntegerField(min_value=1, max_value=money.AMOUNT_MAX)


class CouponInput(StrictSerializer):
    """A coupon to be: a percentage or an amount off, once, for some invoices, or forever."""

    key = KeyField()
    name = StrictCharField(max_length=255)
    percent_off = serializers.RegexField(PERCENT, required=False, help_text="As `12.5`.")
    amount_off_minor = StrictIntegerField(required=False, min_value=1, max_value=money.AMOUNT_MAX)
    currency = serializers.RegexField(r"^[A-Z]{3}$", required=False)
    duration = serializers.ChoiceField(choices=Coupon.Duration.choices)
    invoices_max = StrictIntegerField(required=False, min_value=1, max_value=1000)
    expires_at = InstantField(required=False)
    redemptions_max = StrictIntegerField(required=False, min_value=1, max_value=COUNT_MAX)


def coupon_of(given: dict[str, Any]) -> Coupon:
    """Return the coupon of a validated input, not stored yet."""
    percent: str | None = given.get("percent_off")
    expires_at: datetime | None = given.get("expires_at")
    return Coupon(
        key=given["key"],
        name=given["name"],
        percent_off=None if percent is None else Decimal(percent),
        amount_off_minor=given.get("amount_off_minor"),
        currency=given.get("currency", ""),
        duration=given["duration"],
        invoices_max=given.get("invoices_max"),
        expires_at=expires_at,
        redemptions_max=given.get("redemptions_max"),
    )


class CouponSerializer(serializers.Serializer[Any]):
    """A coupon."""

    key = serializers.CharField()
    name = serializers.CharField()
    percent_off = serializers.CharField(allow_null=True)
    amount_off_minor = serializers.IntegerField(allow_null=True)
    currency = serializers.CharField(allow_null=True)
    duration = serializers.ChoiceField(choices=Coupon.Duration.choices)
    invoices_max = serializers.IntegerField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    redemptions_max = serializers.IntegerField(allow_null=True)
    redemptions = serializers.IntegerField()
    archived_at = serializers.DateTimeField(allow_null=True)


class LineSerializer(serializers.Serializer[Any]):
    """One line of an invoice, in minor units; a proration credit is below 0."""

    description = serializers.CharField()
    kind = serializers.CharField()
    quantity = serializers.IntegerField()
    amount_minor = serializers.IntegerField()
    discount_minor = serializers.IntegerField()
    period = PeriodSerializer(allow_null=True)


class InvoiceSerializer(serializers.Serializer[Any]):
    """An issued invoice, in minor units of its currency."""

    id = serializers.UUIDField()
    number = serializers.CharField()
    status = serializers.ChoiceField(choices=Invoice.Status.choices)
    subscription = serializers.UUIDField()
    currency = serializers.CharField()
    lines = LineSerializer(many=True)
    subtotal_minor = serializers.IntegerField()
    discount_minor = serializers.IntegerField()
    tax_minor = serializers.IntegerField(allow_null=True)
    total_minor = serializers.IntegerField()
    credited_minor = serializers.IntegerField(help_text="Taken off what is due by credit notes.")
    balance_minor = serializers.IntegerField(
        help_text="Paid from the customer's balance; below 0, added to it."
    )
    paid_minor = serializers.IntegerField()
    due_minor = serializers.IntegerField()
    issued_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField()
    paid_at = serializers.DateTimeField(allow_null=True)
    pdf = serializers.CharField(help_text="Address of the invoice as a PDF.")


class CreditNoteSerializer(serializers.Serializer[Any]):
    """A credit note, in minor units."""

    id = serializers.UUIDField()
    number = serializers.CharField()
    invoice = serializers.UUIDField()
    currency = serializers.CharField()
    amount_minor = serializers.IntegerField()
    balance_minor = serializers.IntegerField(help_text="The part given to the balance.")
    reason = serializers.CharField()
    issued_at = serializers.DateTimeField()


class FirstPaymentSerializer(PaymentSerializer):
    """How to pay a first invoice."""

    checkout_url = serializers.CharField(required=False)
    invoice = serializers.UUIDField()
    due_minor = serializers.IntegerField()
    currency = serializers.CharField()


class QuoteSerializer(serializers.Serializer[Any]):
    """What a change does: its invoice lines, what is due now, and the limits after it."""

    effective_at = serializers.DateTimeField()
    proration_at = serializers.DateTimeField(
        help_text="Give it to the change within ten minutes to get these figures."
    )
    lines = LineSerializer(many=True)
    due_now_minor = serializers.IntegerField()
    currency = serializers.CharField()
    limits_after = serializers.DictField(child=serializers.IntegerField(allow_null=True))
    exceeds = serializers.ListField(child=serializers.CharField())
    payment = FirstPaymentSerializer(
        required=False, help_text="How to pay a paid plan that follows a free one."
    )


class BalanceSerializer(serializers.Serializer[Any]):
    """What a customer has in balance, in one currency."""

    currency = serializers.CharField()
    balance_minor = serializers.IntegerField()


class BalancesSerializer(serializers.Serializer[Any]):
    """What a customer has in balance, by currency."""

    results = BalanceSerializer(many=True)


class BalanceEntrySerializer(serializers.Serializer[Any]):
    """One movement of a customer's balance."""

    id = serializers.UUIDField()
    kind = serializers.CharField()
    currency = serializers.CharField()
    amount_minor = serializers.IntegerField()
    balance_minor = serializers.IntegerField(help_text="What is in balance after it.")
    invoice = serializers.UUIDField(allow_null=True)
    occurred_at = serializers.DateTimeField()
    reason = serializers.CharField()


class SubscribedSerializer(OverviewSerializer):
    """Plan, limits and usage after subscribing; a paid plan says how to pay."""

    payment = FirstPaymentSerializer(required=False)
