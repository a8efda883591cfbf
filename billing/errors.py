"""Define what billing may refuse."""

from collections.abc import Mapping
from typing import ClassVar

from core.errors import Category, DomainError


class CouponInvalid(DomainError):
    """Refuse a coupon that is unknown, expired, used up or of another currency."""

    code = "coupon_invalid"
    title = "The coupon cannot be redeemed"
    category = Category.UNPROCESSABLE
    example_detail = "The coupon 'SPRING' has expired."
    example_facts: ClassVar[Mapping[str, object]] = {"coupon": "SPRING", "reason": "expired"}


class InvoiceClosed(DomainError):
    """Refuse what the state of an invoice does not allow."""

    code = "invoice_closed"
    title = "The state of the invoice does not allow this"
    category = Category.CONFLICT
    example_detail = "INV-000007 is paid; a credit note takes it back."
    example_facts: ClassVar[Mapping[str, object]] = {"invoice_status": "paid"}


class AmountMismatch(DomainError):
    """Refuse an amount that is not what the invoice owes, or more than it has."""

    code = "amount_mismatch"
    title = "The amount does not fit the invoice"
    category = Category.UNPROCESSABLE
    example_detail = "29.00 EUR are due, not 19.00 EUR."
    example_facts: ClassVar[Mapping[str, object]] = {"due_minor": 2900, "currency": "EUR"}
