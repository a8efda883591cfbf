"""Lock customers and users, in the order of `core.db.LockRank`."""

from uuid import UUID

from core import db
from core.models import Customer, OutboxDelivery, User


def lock_customer(*, customer_id: UUID) -> Customer:
    """Lock one customer until the transaction ends.

    :raises Customer.DoesNotExist: where there is none.
    """
    db.note_lock(rank=db.LockRank.CUSTOMER, key=str(customer_id))
    return Customer.objects.select_for_update(no_key=True, of=("self",)).get(pk=customer_id)


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
