"""Send the mails of accounts: asked for in a transaction, written and sent after it.

A request only queues, the same for a known and an unknown address: who has an account shows
neither in the answer nor in the time that it took. At least once, with growing pauses.
"""

import logging
import smtplib
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import send_mail

from core import clock as clocks
from core import db, locks
from core.models import Mail, User
from core.services import links

ATTEMPTS_MAX = 8
FIRST_PAUSE = timedelta(minutes=1)
BATCH_MAX = 100
Kind = Mail.Kind
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A mail as it is sent."""

    title: str
    text: str


def queue_step(*, kind: str, address: str, user: User | None, at: datetime) -> None:
    """Ask for a mail in the caller's transaction; in development it is sent right after it."""
    db.transaction_required()
    Mail.objects.create(kind=kind, address=address, user=user, created_at=at, due_at=at)
    if settings.ENGINE.mail_at_once:
        db.after_commit(_send_at_once)


def _send_at_once() -> None:
    send_due(clock=clocks.process_clock())


def send_due(*, clock: clocks.Clock) -> int:
    """Send up to 100 due mails, one transaction each, and return how many were tried."""
    for tried in range(BATCH_MAX):
        mail = _claim(clock=clock)
        if mail is None:
            return tried
        if _send(mail, at=clock.now()):
            Mail.objects.filter(pk=mail.pk).update(due_at=None, sent_at=clock.now())
    return BATCH_MAX


@db.operation
def _claim(*, clock: clocks.Clock) -> Mail | None:
    """Take the next due mail, and put its next attempt off, in case this one fails."""
    with db.transaction():
        mail = locks.lock_due_mail(at=clock.now())
        if mail is None:
            return None
        mail.attempts += 1
        pause = FIRST_PAUSE * 2 ** (mail.attempts - 1)
        mail.due_at = clock.now() + pause if mail.attempts < ATTEMPTS_MAX else None
        mail.save(update_fields=["attempts", "due_at"])
        return mail


def _send(mail: Mail, *, at: datetime) -> bool:
    letter = _letter(mail, at=at)
    if letter is None:
        return True
    try:
        send_mail(letter.title, letter.text, settings.DEFAULT_FROM_EMAIL, [mail.address])
    except (smtplib.SMTPException, OSError) as error:
        logger.warning("mail %s failed, attempt %s: %s", mail.pk, mail.attempts, error)
        return False
    return True


def _letter(mail: Mail, *, at: datetime) -> Letter | None:
    """Return the mail's text; None where there is nobody to write to."""
    if mail.kind == Kind.NAME_TAKEN:
        return Letter(
            title="Your registration",
            text="Somebody, perhaps you, registered with this address, but the username or the "
            "address is taken. If you have an account, log in or reset its password; if not, "
            "choose another username.",
        )
    if mail.kind == Kind.ADDRESS_CHANGED:
        return Letter(
            title="Your address was changed",
            text="Your account now has another e-mail address. If that was not you, write to us.",
        )
    if mail.kind == Kind.RESET:
        user = User.objects.filter(email=mail.address, is_active=True).first()
        return _reset_letter(user, at=at) if user else None
    user = mail.user
    if user is None or not user.is_active:
        return None
    return _verification_letter(user, address=mail.address, at=at)


def _reset_letter(user: User, *, at: datetime) -> Letter:
    token = links.reset(user, at=at)
    return Letter(
        title="Set a new password",
        text=f"Set a new password for {user.username} within an hour:\n\n"
        f"{settings.ENGINE.frontend_url}/reset-password#token={token}\n\n"
        "If you did not ask for this, ignore it: nothing has changed.",
    )


def _verification_letter(user: User, *, address: str, at: datetime) -> Letter:
    token = links.verification(user, address=address, at=at)
    return Letter(
        title="Confirm your address",
        text=f"Confirm this address for {user.username} within three days:\n\n"
        f"{settings.ENGINE.frontend_url}/verify-email#token={token}\n\n"
        "If you did not register, ignore this.",
    )


def prune(*, clock: clocks.Clock, keep: timedelta) -> int:
    """Delete the mails that were sent or given up before the time to keep them; their number."""
    old = Mail.objects.filter(due_at__isnull=True, created_at__lt=clock.now() - keep)
    return old.delete()[0]
