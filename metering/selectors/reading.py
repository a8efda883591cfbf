"""Read at one stroke what a customer's overview stands on, and tell whether any of it moved."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, models

from core import db
from core.models import Customer
from metering.models import Balance

M = TypeVar("M", bound=models.Model)
STATEMENT = """
    SELECT (SELECT number FROM subscriptions_catalogrevision), {customer}, {balance}
    FROM core_customer AS customer
    LEFT JOIN metering_balance AS balance
        ON balance.customer_id = customer.id AND balance.scope = ''
        AND (is_current OR period_ends_at IS NULL OR period_ends_at > %s OR held_units > 0)
    WHERE customer.id = %s
    ORDER BY balance.id
"""


@dataclass(kw_only=True)
class Reading:
    """A customer and the balances that decide, that hold, and whose period has not ended.

    `stored` are their columns and the catalog's revision, equal where nothing moved between two
    readings: what is changed by hand raises the customer's revision, what is counted moves a
    balance, what is published raises the catalog's. It is None on SQLite, where nothing is told.
    """

    stored: Sequence[tuple[Any, ...]] | None

    def is_as(self, other: "Reading") -> bool:
        """Tell whether nothing moved between the two."""
        return self.stored is not None and self.stored == other.stored

    @functools.cached_property
    def customer(self) -> Customer:
        """Return the customer."""
        return _instance(Customer, (self.stored or ())[0][1:])

    @functools.cached_property
    def balances(self) -> list[Balance]:
        """Return the balances."""
        skipped = 1 + len(_columns(Customer))
        rows = [row[skipped:] for row in self.stored or ()]
        return [_instance(Balance, row) for row in rows if row[0] is not None]


def find_reading(*, customer_id: UUID, at: datetime) -> Reading | None:
    """Return the customer's reading, in one statement; None where there is no such customer.

    On SQLite it takes another where he has no balance.
    """
    if not db.is_postgres():
        return _find_by_orm(customer_id=customer_id, at=at)
    with connection.cursor() as cursor:
        cursor.execute(_statement(), [at, customer_id])
        stored = cursor.fetchall()
    return Reading(stored=stored) if stored else None


def _find_by_orm(*, customer_id: UUID, at: datetime) -> Reading | None:
    balances = list(
        Balance.objects.filter(customer_id=customer_id, scope="")
        .open_after(at)
        .select_related("customer")
    )
    reading = Reading(stored=None)
    reading.balances = balances
    if balances:
        reading.customer = balances[0].customer
        return reading
    customer = Customer.objects.filter(pk=customer_id).first()
    if customer is None:
        return None
    reading.customer = customer
    return reading


@functools.cache
def _statement() -> str:
    return STATEMENT.format(
        customer=", ".join(f"customer.{name}" for name in _columns(Customer)),
        balance=", ".join(f"balance.{name}" for name in _columns(Balance)),
    )


@functools.cache
def _columns(model: type[models.Model]) -> tuple[str, ...]:
    return tuple(str(field.column) for field in model._meta.concrete_fields)


def _instance(model: type[M], values: Sequence[Any]) -> M:
    """Return the row that the values are of, converted as the ORM does."""
    fields = model._meta.concrete_fields
    converted = [
        field.from_db_value(value, None, connection) if hasattr(field, "from_db_value") else value
        for field, value in zip(fields, values, strict=False)
    ]
    return model.from_db(connection.alias, [field.attname for field in fields], converted)
