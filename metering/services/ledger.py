"""Append to the usage ledger, whose unique (customer, key, item) claims the key."""

from collections.abc import Sequence
from uuid import UUID

from django.db import IntegrityError, OperationalError

from core import db
from core.services import idempotency
from metering.models import UsageEntry


def find_operation(*, customer_id: UUID, key: str, fingerprint: str) -> list[UsageEntry]:
    """Return the entries of the operation recorded under the key, by item; empty where none.

    :raises IdempotencyKeyReused: where the key stands for another request.
    """
    entries = list(
        UsageEntry.objects.filter(customer_id=customer_id, key=key)
        .select_related("feature")
        .order_by("item")
    )
    if entries:
        idempotency.refuse_another_request(recorded=entries[0].fingerprint, asked=fingerprint)
    return entries


def append_step(*, entries: Sequence[UsageEntry]) -> None:
    """Write the entries of one operation, as its last statement.

    :raises KeyTaken: where another operation holds the key; the transaction is then lost.
    :raises IdempotencyInProgress: where another one holds it uncommitted for too long.
    """
    db.transaction_required()
    try:
        UsageEntry.objects.bulk_create(entries)
    except IntegrityError as error:
        raise idempotency.KeyTaken from error
    except OperationalError as error:
        raise idempotency.in_progress(error) from error
