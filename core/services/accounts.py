"""Register users with their customer, and change what proves who they are."""

from dataclasses import dataclass

from django.contrib.auth.hashers import make_password
from django.db import IntegrityError
from django.db.models import F
from uuid_utils.compat import uuid7

from core import clock as clocks
from core import db, locks
from core.models import Customer, Member, RefreshToken, User


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What a person gives to register."""

    username: str
    email: str
    password: str


@db.operation
def register(registration: Registration, *, clock: clocks.Clock) -> User | None:
    """Create a user, its customer and its ownership, or nothing where a name is taken.

    The work is the same in both cases, so that nobody learns whether an account exists.
    """
    password = make_password(registration.password)
    try:
        with db.transaction():
            user = User.objects.create(
                username=registration.username,
                email=registration.email.lower(),
                password=password,
            )
            customer_id = uuid7()
            customer = Customer.objects.create(
                id=customer_id,
                external_key=str(customer_id),
                name=registration.username,
                created_at=clock.now(),
            )
            Member.objects.create(customer=customer, user=user, role=Member.Role.OWNER)
            return user
    except IntegrityError:
        return None


@db.operation
def change_password(*, user_id: int, password: str, clock: clocks.Clock) -> None:
    """Set a new password and revoke every token issued so far.

    :raises User.DoesNotExist: where there is no such user.
    """
    with db.transaction():
        user = locks.lock_user(user_id=user_id)
        user.set_password(password)
        user.save(update_fields=["password"])
        User.objects.filter(pk=user_id).update(token_version=F("token_version") + 1)
        RefreshToken.objects.filter(user=user, revoked_at__isnull=True).update(
            revoked_at=clock.now()
        )
