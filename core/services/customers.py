"""Create and rename customers, and note that something of theirs changed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError
from django.db.models import Case, DateTimeField, F, Value, When

from core import clock as clocks
from core import db, errors, locks
from core.actors import Actor
from core.models import Customer
from core.services import audit


@dataclass(frozen=True, kw_only=True)
class NewCustomer:
    """What is known of a customer at his creation; zone and test clock are set here alone."""

    external_key: str
    name: str
    time_zone: str = "UTC"
    currency: str = "EUR"
    test_clock_at: datetime | None = None


@db.operation
def create(new: NewCustomer, *, actor: Actor, clock: clocks.Clock) -> Customer:
    """Create a customer; one with a test clock is created at its instant.

    :raises Invalid: for an external key that is taken.
    :raises TestClockRefused: for a test clock where none is allowed.
    """
    if new.test_clock_at is not None and not settings.ENGINE.test_clocks_allowed:
        detail = "Customers with a test clock are not allowed here (ALLOW_TEST_CLOCKS)."
        raise errors.TestClockRefused(detail)
    try:
        with db.transaction():
            row = Customer.objects.create(
                external_key=new.external_key,
                name=new.name,
                time_zone=new.time_zone,
                currency=new.currency,
                test_clock_at=new.test_clock_at,
                created_at=new.test_clock_at or clock.now(),
            )
            after = audit.snapshot(row)
            audit.record_step(
                actor=actor, action="customer.created", row=row, at=row.created_at, after=after
            )
            return row
    except IntegrityError as error:
        detail = f"There is a customer {new.external_key!r} already."
        raise errors.Invalid.at("/external_key", code="unique", detail=detail) from error


@db.operation
def rename(
    *,
    customer_id: UUID,
    name: str,
    expected_revision: int | None,
    actor: Actor,
    clock: clocks.Clock,
) -> Customer:
    """Give a customer another name, where nothing of his changed since it was read.

    :raises NotFound: where there is no such customer.
    :raises VersionConflict: where his revision is not the expected one.
    """
    with db.transaction():
        try:
            customer = locks.lock_customer(customer_id=customer_id)
        except Customer.DoesNotExist as error:
            raise errors.NotFound("There is no such customer.") from error
        if expected_revision is not None and expected_revision != customer.revision:
            detail = "The customer has changed since you read it; read it again."
            raise errors.VersionConflict(detail)
        Customer.objects.filter(pk=customer_id).update(name=name)
        at = clocks.instant_of(customer, clock=clock)
        audit.record_step(
            actor=actor,
            action="customer.renamed",
            row=customer,
            at=at,
            before={"name": customer.name},
            after={"name": name},
        )
        revise_step(customer_id=customer_id, at=at)
        return Customer.objects.get(pk=customer_id)


def revise_step(*, customer_id: UUID, at: datetime) -> None:
    """Raise the customer's revision, and note the instant of the operation that did it.

    Caches, ETags and previews made before are stale from here on: no two revisions share an
    instant. The caller holds the customer's lock.
    """
    db.transaction_required()
    later = F("revised_at") + timedelta(microseconds=1)
    Customer.objects.filter(pk=customer_id).update(
        revision=F("revision") + 1,
        revised_at=Case(
            When(revised_at__gte=at, then=later), default=Value(at), output_field=DateTimeField()
        ),
    )
