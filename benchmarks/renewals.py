"""Renew many subscriptions through a year of an advanced clock, and hold the count to the unit.

Every subscription is monthly and paid by hand, so that a year has twelve renewals of each. The
worker's own job does them, one customer a transaction, on a fresh PostgreSQL with full durability.
"""

import argparse
import os
import resource
import time
from datetime import UTC, datetime, timedelta

STARTED = datetime(2027, 1, 1, tzinfo=UTC)
MONTHS = 12


def main(arguments: list[str]) -> int:
    """Run the year, print its speed and memory, and return 0 where every period came once."""
    options = _options(arguments)
    os.environ.setdefault("DEBUG", "1")
    from core.testing.servers import PostgresServer  # noqa: PLC0415 - settings come first

    with PostgresServer() as server:
        os.environ["DATABASE_URL"] = server.url
        prepare(subscriptions=options.subscriptions)
        return _run(subscriptions=options.subscriptions)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks renewals", description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=10_000)
    return parser.parse_args(arguments)


def prepare(*, subscriptions: int) -> None:
    """Migrate, publish one plan, and store subscriptions that began over the first month."""
    set_up()
    from django.core.management import call_command  # noqa: PLC0415 - needs the settings

    call_command("migrate", verbosity=0)
    _store(subscriptions=subscriptions)


def set_up() -> None:
    """Let this process use the engine, as in production."""
    import django  # noqa: PLC0415 - needs the environment

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "subscriptionEngine.settings")
    django.setup()
    from django.conf import settings  # noqa: PLC0415 - as above

    settings.DEBUG = False


def _store(*, subscriptions: int) -> None:
    from core import clock, periods  # noqa: PLC0415 - needs the settings
    from core.models import Customer  # noqa: PLC0415 - as above
    from core.zones import Zones  # noqa: PLC0415 - as above
    from subscriptions import renewals  # noqa: PLC0415 - as above
    from subscriptions.models import (  # noqa: PLC0415 - as above
        Plan,
        PlanGroup,
        PlanVersion,
        Price,
        Subscription,
    )
    from subscriptions.services import catalog  # noqa: PLC0415 - as above

    group = PlanGroup.objects.create(key="main", name="Main")
    plan = Plan.objects.create(key="pro", name="Pro", plan_group=group, created_at=STARTED)
    version = PlanVersion.objects.create(plan=plan, number=1, created_at=STARTED)
    price = Price.objects.create(
        plan_version=version, key="pro", currency="EUR", unit_amount_minor=2900
    )
    catalog.publish(plan_version_id=version.pk, clock=clock.FixedClock(at=STARTED))
    customers, rows = [], []
    for number in range(subscriptions):
        at = STARTED + timedelta(seconds=number * 28 * 86_400 // subscriptions)
        customer = Customer(external_key=f"c{number}", name="-", created_at=at)
        recurrence = renewals.billing_recurrence(
            anchor_at=at, zones=Zones(time_zone="UTC"), price=price
        )
        ends_at = periods.boundary(recurrence, index=1)
        customers.append(customer)
        rows.append(
            Subscription(
                customer=customer,
                plan_version=version,
                price=price,
                plan_group=group,
                status="active",
                anchor_at=at,
                created_at=at,
                start_at=at,
                requires_payment=True,
                has_payment_method=True,
                renewed_until=ends_at,
                due_at=ends_at,
            )
        )
    Customer.objects.bulk_create(customers, batch_size=5_000)
    Subscription.objects.bulk_create(rows, batch_size=5_000)


def _run(*, subscriptions: int) -> int:
    """Advance day by day, and do what is due."""
    from core import clock  # noqa: PLC0415 - needs the settings
    from core.models import OutboxEvent, WorkFailure  # noqa: PLC0415 - as above
    from core.services import worker  # noqa: PLC0415 - as above
    from subscriptions.services import sweeping  # noqa: PLC0415 - as above

    before, began, done = _megabytes(), time.monotonic(), 0
    for day in range(1, 28 + 366):
        standing = clock.FixedClock(at=STARTED + timedelta(days=day))
        while passed := worker.run_pass(
            jobs=[sweeping.SweepJob()], clock=standing, should_stop=lambda: False, limit=1_000
        ).done:
            done += passed
        if standing.at >= STARTED + timedelta(days=365):
            break
    seconds = time.monotonic() - began
    told = OutboxEvent.objects.filter(event_type="subscription.renewed")
    distinct = told.values("payload__subscription", "payload__period_starts_at").distinct().count()
    rate = done / seconds if seconds else 0
    print(
        f"{done} renewals of {subscriptions} subscriptions in {seconds:.1f} s: {rate:.0f} a second;"
        f" memory {before:.0f} MB before, {_megabytes():.0f} MB at most"
    )
    is_exact = told.count() == distinct == done and not WorkFailure.objects.exists()
    print("every period once" if is_exact else "NOT exact")
    return 0 if is_exact else 1


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
