"""Register users with their customer, and change what proves who they are."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.db import IntegrityError
from django.db.models import F
from uuid_utils.compat import uuid7

from core import clock as clocks
from core import db, errors, locks
from core.actors import SYSTEM, Actor
from core.models import Customer, Mail, Member, RefreshToken, User
from core.services import audit, links, mail


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What a person gives to register."""

    username: str
    email: str
    password: str


@db.operation
def register(
    registration: Registration, *, clock: clocks.Clock, actor: Actor = SYSTEM
) -> User | None:
    """Create a user, its customer and its ownership, or nothing where a name is taken.

    Either way a mail goes to the address, and the work is the same, so that nobody learns
    whether an account exists.
    """
    password = make_password(registration.password)
    address = registration.email.lower()
    with db.transaction():
        at = clock.now()
        customer_id = uuid7()
        try:
            with db.savepoint():
                customer = _create_customer_step(customer_id, registration=registration, at=at)
                user = User.objects.create(
                    username=registration.username, email=address, password=password
                )
                Member.objects.create(customer=customer, user=user, role=Member.Role.OWNER)
        except IntegrityError:
            refused = Customer(pk=customer_id)
            audit.record_step(actor=actor, action="user.registration_refused", row=refused, at=at)
            mail.queue_step(kind=Mail.Kind.NAME_TAKEN, address=address, user=None, at=at)
            return None
        audit.record_step(
            actor=actor, action="user.registered", row=user, at=at, after=audit.snapshot(user)
        )
        mail.queue_step(kind=Mail.Kind.VERIFICATION, address=address, user=user, at=at)
        return user


def _create_customer_step(
    customer_id: UUID, *, registration: Registration, at: datetime
) -> Customer:
    return Customer.objects.create(
        id=customer_id,
        external_key=str(customer_id),
        name=registration.username,
        created_at=at,
    )


@db.operation
def ask_for_verification(*, user_id: int, address: str, actor: Actor, clock: clocks.Clock) -> None:
    """Mail a link to the address, which becomes the user's when the link is opened.

    The answer is the same where the address is another account's.
    """
    with db.transaction():
        user = locks.lock_user(user_id=user_id)
        at = clock.now()
        audit.record_step(
            actor=actor,
            action="user.address_given",
            row=user,
            at=at,
            before={"email": user.email},
            after={"email": address.lower()},
        )
        mail.queue_step(kind=Mail.Kind.VERIFICATION, address=address.lower(), user=user, at=at)


@db.operation
def verify_address(*, token: str, actor: Actor, clock: clocks.Clock) -> User:
    """Let the address that a mailed link proves be the user's; each link works once.

    :raises Invalid: for a link that is forged, expired or used, and for an address taken since.
    """
    with db.transaction():
        user, link, at = _opened(token, salt=links.VERIFICATION_SALT, clock=clock)
        if not link.is_good(state=links.verification_state(user), at=at):
            raise _bad_link()
        before = audit.snapshot(user)
        if user.email != link.address:
            mail.queue_step(kind=Mail.Kind.ADDRESS_CHANGED, address=user.email, user=user, at=at)
        user.email, user.email_verified_at = link.address, at
        try:
            with db.savepoint():
                user.save(update_fields=["email", "email_verified_at"])
        except IntegrityError as error:
            raise _bad_link() from error
        audit.record_step(
            actor=actor,
            action="user.address_verified",
            row=user,
            at=at,
            before=before,
            after=audit.snapshot(user),
        )
        return user


@db.operation
def change_password(
    *, user_id: int, password: str, clock: clocks.Clock, actor: Actor = SYSTEM
) -> None:
    """Set a new password and revoke every token issued so far.

    :raises User.DoesNotExist: where there is no such user.
    """
    hashed = make_password(password)
    with db.transaction():
        user = locks.lock_user(user_id=user_id)
        _set_password_step(
            user, hashed=hashed, action="user.password_changed", actor=actor, at=clock.now()
        )


@db.operation
def ask_for_reset(*, address: str, clock: clocks.Clock) -> None:
    """Mail a link that sets a new password, where the address is an active user's.

    Whether it is one is looked up when the mail is sent: the work here is always the same.
    """
    with db.transaction():
        at = clock.now()
        mail.queue_step(kind=Mail.Kind.RESET, address=address.lower(), user=None, at=at)


@db.operation
def reset_password(*, token: str, password: str, actor: Actor, clock: clocks.Clock) -> User:
    """Set a new password by a mailed link, and revoke every token issued so far.

    :raises Invalid: for a link that is forged, expired or used, or of a deactivated user.
    """
    hashed = make_password(password)
    with db.transaction():
        user, link, at = _opened(token, salt=links.RESET_SALT, clock=clock)
        if not user.is_active or not link.is_good(state=links.reset_state(user), at=at):
            raise _bad_link()
        user.email_verified_at = user.email_verified_at or at
        _set_password_step(user, hashed=hashed, action="user.password_reset", actor=actor, at=at)
        return user


@db.operation
def log_out_everywhere(*, user_id: int, actor: Actor, clock: clocks.Clock) -> None:
    """Revoke every token of the user issued so far, access tokens too.

    :raises User.DoesNotExist: where there is no such user.
    """
    with db.transaction():
        user = locks.lock_user(user_id=user_id)
        at = clock.now()
        _revoke_tokens_step(user, at=at)
        audit.record_step(actor=actor, action="user.logged_out_everywhere", row=user, at=at)


def _opened(token: str, *, salt: str, clock: clocks.Clock) -> tuple[User, links.Link, datetime]:
    """Return the link with its user under the user's lock, so that a link works once."""
    link = links.find_link(token, salt=salt)
    if link is None:
        raise _bad_link()
    try:
        user = locks.lock_user(user_id=link.user_id)
    except User.DoesNotExist as error:
        raise _bad_link() from error
    return user, link, clock.now()


def _set_password_step(user: User, *, hashed: str, action: str, actor: Actor, at: datetime) -> None:
    user.password = hashed
    user.save(update_fields=["password", "email_verified_at"])
    _revoke_tokens_step(user, at=at)
    audit.record_step(actor=actor, action=action, row=user, at=at)


def _revoke_tokens_step(user: User, *, at: datetime) -> None:
    User.objects.filter(pk=user.pk).update(token_version=F("token_version") + 1)
    RefreshToken.objects.filter(user=user, revoked_at__isnull=True).update(revoked_at=at)


def _bad_link() -> errors.Invalid:
    detail = "The link is not valid, has expired or was used; ask for a new one."
    return errors.Invalid.at("/token", code="bad_link", detail=detail)
