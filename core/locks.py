"""Lock customers, users and what is theirs, in the order of `core.db.LockRank`."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from core import db, statements
from core.models import Customer, Mail, OutboxDelivery, RateState, ServiceKey, User


def lock_customer(*, customer_id: UUID) -> Customer:
    """Lock one customer until the transaction ends.

    :raises Customer.DoesNotExist: where there is none.
    """
    db.note_lock(rank=db.LockRank.CUSTOMER, key=str(customer_id))
    for customer in _locked_customer(customer_id=customer_id):
        return customer
    raise Customer.DoesNotExist


@statements.compiled
def _locked_customer(*, customer_id: UUID) -> "QuerySet[Customer]":
    rows = Customer.objects.filter(pk=customer_id)
    return rows.select_for_update(no_key=True, of=("self",))


def lock_free_customer(*, customer_id: UUID) -> Customer | None:
    """Lock one customer where nobody else has him locked; None where somebody has."""
    db.note_lock(rank=db.LockRank.CUSTOMER, key=str(customer_id))
    return (
        Customer.objects.select_for_update(no_key=True, of=("self",), skip_locked=True)
        .filter(pk=customer_id)
        .first()
    )


def lock_free_delivery(*, delivery_id: UUID) -> OutboxDelivery | None:
    """Lock one delivery where nobody else has it locked; None where somebody has."""
    db.note_lock(rank=db.LockRank.ROW, key=f"delivery {delivery_id}")
    return (
        OutboxDelivery.objects.select_for_update(no_key=True, of=("self",), skip_locked=True)
        .filter(pk=delivery_id)
        .first()
    )


def lock_user(*, user_id: int) -> User:
    """Lock one user, and with it all its refresh tokens, until the transaction ends.

    :raises User.DoesNotExist: where there is none.
    """
    db.note_lock(rank=db.LockRank.ROW, key=f"user {user_id}")
    return User.objects.select_for_update(no_key=True, of=("self",)).get(pk=user_id)


def lock_service_key(*, service_key_id: UUID) -> ServiceKey:
    """Lock one service key until the transaction ends.

    :raises ServiceKey.DoesNotExist: where there is none.
    """
    db.note_lock(rank=db.LockRank.ROW, key=f"service key {service_key_id}")
    return ServiceKey.objects.select_for_update(no_key=True, of=("self",)).get(pk=service_key_id)


def lock_rate_states(*, keys: Collection[str]) -> list[RateState]:
    """Lock the rows of rate limits, in the order of their keys."""
    db.note_lock(rank=db.LockRank.ROW, key="rate states")
    rows = RateState.objects.filter(pk__in=keys).order_by("pk")
    return list(rows.select_for_update(no_key=True, of=("self",)))


def lock_due_mail(*, at: datetime) -> Mail | None:
    """Lock the mail that has been due longest and that nobody else is sending; None without."""
    db.note_lock(rank=db.LockRank.ROW, key="mail")
    due = Mail.objects.filter(due_at__lte=at).select_related("user").order_by("due_at", "id")
    return due.select_for_update(no_key=True, of=("self",), skip_locked=True).first()
