"""Advance the test clock of an integrator's customer, boundary by boundary, as time would."""

from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Min

from core import clock as clocks
from core import db, errors
from core import locks as core_locks
from core.actors import SYSTEM, Actor
from core.models import Customer
from core.services import audit
from subscriptions.models import Subscription
from subscriptions.services import moves

SPAN_MAX = timedelta(days=5 * 366)
BOUNDARIES_MAX = 2_000


def advance(*, customer_id: UUID, to: datetime, actor: Actor = SYSTEM) -> Customer:
    """Let a customer's own time pass until an instant, and settle and renew him on the way.

    Each boundary commits on its own, at its own instant; a call that was cut off is repeated
    with the same `to` and goes on. Everything else of his follows, since every operation reads
    his clock from his locked row.

    :raises NotFound: where there is no such customer.
    :raises TestClockRefused: for a customer without a test clock.
    :raises Invalid: for an instant in his past, or more than five years or 2,000 boundaries ahead.
    """
    for _ in range(BOUNDARIES_MAX):
        customer = _pass_one(customer_id=customer_id, to=to, actor=actor)
        if customer.test_clock_at == to:
            return customer
    detail = f"More than {BOUNDARIES_MAX} boundaries lie before that; advance in smaller steps."
    raise errors.Invalid.at("/to", code="too_far", detail=detail)


@db.operation
def _pass_one(*, customer_id: UUID, to: datetime, actor: Actor) -> Customer:
    """Advance to the next boundary up to the instant, or to the instant itself."""
    with db.transaction():
        try:
            customer = core_locks.lock_customer(customer_id=customer_id)
        except Customer.DoesNotExist as error:
            raise errors.NotFound("There is no such customer.") from error
        now = _reading(customer, to=to)
        due = Subscription.objects.filter(customer=customer, due_at__lte=to)
        boundary: datetime | None = due.aggregate(first=Min("due_at"))["first"]
        customer.test_clock_at = to if boundary is None else max(boundary, now)
        customer.save(update_fields=["test_clock_at"])
        audit.record_change_step(
            actor=actor,
            what="clock_advanced",
            row=customer,
            at=customer.test_clock_at,
            before={"test_clock_at": clocks.rfc3339(now)},
            after={"test_clock_at": clocks.rfc3339(customer.test_clock_at)},
        )
        moves.settle_rows_step(customer=customer, clock=clocks.FixedClock(at=to))
        return customer


def _reading(customer: Customer, *, to: datetime) -> datetime:
    if customer.test_clock_at is None:
        detail = "Only a customer created with test_clock_at has a clock to advance."
        raise errors.TestClockRefused(detail)
    if not customer.test_clock_at <= to <= customer.test_clock_at + SPAN_MAX:
        detail = (
            f"His clock stands at {customer.test_clock_at}; it goes forward, five years a call."
        )
        raise errors.Invalid.at("/to", code="out_of_range", detail=detail)
    return customer.test_clock_at
