"""Create and change customers, and note that something of theirs changed."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError
from django.db.models import Case, DateTimeField, F, Value, When

from core import clock as clocks
from core import db, errors, events, locks, periods, zones
from core.actors import Actor
from core.models import Customer
from core.services import audit

TIME_ZONE_CHANGED = "customer.time_zone_changed"


@dataclass(frozen=True, kw_only=True)
class NewCustomer:
    """What is known of a customer at his creation; his test clock is set here alone."""

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


@dataclass(frozen=True, kw_only=True)
class CustomerChange:
    """What is to be different of a customer; None leaves it as it is."""

    name: str | None = None
    time_zone: str | None = None


@db.operation
def update(
    *,
    customer_id: UUID,
    change: CustomerChange,
    expected_revision: int | None,
    actor: Actor,
    clock: clocks.Clock,
) -> Customer:
    """Give a customer another name or zone, where nothing of his changed since it was read.

    Another zone counts from the next boundary on: his billing period, and what resets in
    shorter periods, ends as it was to end. `customer.time_zone_changed` lets the subscriptions
    and balances follow in the same transaction. The zone that he has changes nothing.

    :raises NotFound: where there is no such customer.
    :raises VersionConflict: where his revision is not the expected one.
    :raises Invalid: for a zone that is none, or the 51st change of it.
    """
    with db.transaction():
        try:
            customer = locks.lock_customer(customer_id=customer_id)
        except Customer.DoesNotExist as error:
            raise errors.NotFound("There is no such customer.") from error
        if expected_revision is not None and expected_revision != customer.revision:
            detail = "The customer has changed since you read it; read it again."
            raise errors.VersionConflict(detail)
        moves = change.time_zone not in {None, customer.time_zone}
        if moves:
            events.lock_for(event_types=(TIME_ZONE_CHANGED,), customer=customer, clock=clock)
        at = clocks.instant_of(customer, clock=clock)
        if change.name is not None:
            _rename_step(customer, name=change.name, actor=actor, at=at)
        if moves and change.time_zone is not None:
            _move_step(customer, time_zone=change.time_zone, actor=actor, at=at)
        if moves or change.name is not None:
            revise_step(customer_id=customer_id, at=at)
        return Customer.objects.get(pk=customer_id)


def _rename_step(customer: Customer, *, name: str, actor: Actor, at: datetime) -> None:
    Customer.objects.filter(pk=customer.pk).update(name=name)
    audit.record_change_step(
        actor=actor,
        what="renamed",
        row=customer,
        at=at,
        before={"name": customer.name},
        after={"name": name},
    )


def _move_step(customer: Customer, *, time_zone: str, actor: Actor, at: datetime) -> None:
    if not zones.is_known(time_zone):
        detail = f"{time_zone!r} is not an IANA time zone."
        raise errors.Invalid.at("/time_zone", code="unknown", detail=detail)
    renews_at = periods.period_at(customer.months, at=at).ends_at or at
    moved = customer.zones.changed(to=time_zone, at=at, renews_at=renews_at)
    Customer.objects.filter(pk=customer.pk).update(
        time_zone=moved.time_zone, former_zones=moved.documents
    )
    audit.record_step(
        actor=actor,
        action=TIME_ZONE_CHANGED,
        row=customer,
        at=at,
        before={"time_zone": customer.time_zone},
        after={"time_zone": time_zone},
    )
    payload: dict[str, object] = {
        "from": customer.time_zone,
        "to": time_zone,
        "actor": asdict(actor),
    }
    events.publish(
        events.Event(
            event_type=TIME_ZONE_CHANGED, customer_id=customer.pk, occurred_at=at, payload=payload
        )
    )


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
