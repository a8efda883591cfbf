"""Make and redeem coupons."""

from datetime import datetime

from django.db import IntegrityError
from django.db.models import F, Q

from billing import errors as own_errors
from billing import selectors
from billing.models import Coupon, Invoice, Redemption
from billing.services import drafting, revenue
from core import clock as clocks
from core import db, errors
from core.actors import SYSTEM, Actor
from core.services import audit
from subscriptions.models import Subscription


@db.operation
def create(*, coupon: Coupon, actor: Actor = SYSTEM, clock: clocks.Clock) -> Coupon:
    """Store a new coupon.

    :raises Invalid: for a key that is taken, or columns that do not fit together.
    """
    try:
        with db.transaction():
            coupon.created_at = at = clock.now()
            coupon.save(force_insert=True)
            after = audit.snapshot(coupon)
            audit.record_step(actor=actor, action="coupon.created", row=coupon, at=at, after=after)
    except IntegrityError as error:
        raise _refusal(error) from error
    return coupon


def _refusal(error: IntegrityError) -> Exception:
    """Return what a constraint's refusal means; an unknown one stays itself."""
    meanings = {
        "coupon_takes_one_thing_off": ("/percent_off", "Take off a percentage or an amount."),
        "coupon_amount_has_currency": ("/currency", "An amount has a currency, a percentage none."),
        "coupon_repeats_with_number": ("/invoices_max", "A repeating coupon says how often."),
        "billing_coupon_key": ("/key", "There is a coupon of this key."),
        "billing_coupon.key": ("/key", "There is a coupon of this key."),
    }
    for name, (pointer, detail) in meanings.items():
        if name in str(error):
            return errors.Invalid.at(pointer, code="invalid", detail=detail)
    return error


@db.operation
def archive(*, key: str, actor: Actor = SYSTEM, clock: clocks.Clock) -> Coupon:
    """Let nobody redeem the coupon any more; redemptions go on. Archived once is archived.

    :raises NotFound: where there is no such coupon.
    """
    with db.transaction():
        at = clock.now()
        archived = Coupon.objects.filter(key=key, archived_at__isnull=True).update(archived_at=at)
        coupon = Coupon.objects.filter(key=key).first()
        if coupon is None:
            raise errors.NotFound("There is no such coupon.")
        if archived:
            audit.record_step(
                actor=actor,
                action="coupon.archived",
                row=coupon,
                at=at,
                before={"archived_at": None},
                after={"archived_at": clocks.rfc3339(at)},
            )
    return coupon


def redeem_step(*, key: str, row: Subscription, currency: str, at: datetime) -> Redemption:
    """Put the coupon on the subscription, and on its drafts that stand already.

    The caller holds the customer's lock. The count of redemptions rises in one conditional
    statement, so that a coupon is never redeemed too often.

    :raises CouponInvalid: for a coupon that is unknown, expired, used up, redeemed by this
        customer before, or of another currency.
    """
    db.transaction_required()
    coupon = Coupon.objects.filter(key=key).first()
    if coupon is None:
        raise _invalid(key, "unknown", "does not exist")
    if coupon.is_expired(at=at):
        raise _invalid(key, "expired", "has expired")
    if coupon.currency not in {"", currency}:
        raise _invalid(key, "currency", f"is in {coupon.currency}, not {currency}")
    if Redemption.objects.filter(
        coupon=coupon, customer=row.customer_id, released_at__isnull=True
    ).exists():
        raise _invalid(key, "redeemed", "was redeemed by this customer before")
    counted = Coupon.objects.filter(
        Q(redemptions_max__isnull=True) | Q(redemptions__lt=F("redemptions_max")), pk=coupon.pk
    ).update(redemptions=F("redemptions") + 1)
    if not counted:
        raise _invalid(key, "exhausted", "is used up")
    redemption = Redemption.objects.create(
        coupon=coupon,
        customer_id=row.customer_id,
        subscription=row,
        invoices_left=coupon.invoices_at_first,
        redeemed_at=at,
    )
    for draft in Invoice.objects.filter(subscription=row, status=Invoice.Status.DRAFT):
        drafting.add_up_step(invoice=draft, redemption=redemption)
    taken = selectors.list_taken(row, at=at)
    revenue.follow_step(row=row, taken=taken, redemption=redemption, at=at)
    return redemption


def release_step(*, row: Subscription, at: datetime) -> None:
    """Give the coupon back of a subscription that never began; it may be redeemed again.

    The caller holds the customer's lock.
    """
    db.transaction_required()
    for redemption in Redemption.objects.filter(subscription=row, released_at__isnull=True):
        Redemption.objects.filter(pk=redemption.pk).update(released_at=at)
        Coupon.objects.filter(pk=redemption.coupon_id).update(redemptions=F("redemptions") - 1)


def _invalid(key: str, reason: str, said: str) -> own_errors.CouponInvalid:
    return own_errors.CouponInvalid(
        f"The coupon {key!r} {said}.", facts={"coupon": key, "reason": reason}
    )
