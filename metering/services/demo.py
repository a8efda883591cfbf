"""Fill an empty engine with a small, lively example: safe to repeat."""

from dataclasses import dataclass
from datetime import datetime

from core import clock as clocks
from core import db
from core.models import Customer, Member, User
from core.services import accounts, idempotency
from metering import selectors
from metering.services import consumption
from subscriptions.models import (
    Entitlement,
    Feature,
    Plan,
    PlanGroup,
    PlanVersion,
    Price,
    Subscription,
)
from subscriptions.services import catalog, lifecycle

ALICE_USED_UNITS = 998
ACTOR = lifecycle.Actor(name="demo", reason="demo data")


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """One plan of the example; limits are units a month."""

    key: str
    name: str
    description: str
    rank: int
    price_minor: int
    api_calls: int
    exports: int | None
    court_minutes: int
    storage_gb: int
    sso: bool


FEATURES = (
    ("api_calls", "API calls", Feature.Type.METERED, "call"),
    ("exports", "exports", Feature.Type.METERED, "export"),
    ("court_minutes", "court minutes", Feature.Type.METERED, "minute"),
    ("sso", "Single sign-on", Feature.Type.BOOLEAN, ""),
    ("storage_gb", "storage", Feature.Type.STATIC, "GB"),
)
PLANS = (
    DemoPlan(
        key="free",
        name="Free",
        description="To look around.",
        rank=0,
        price_minor=0,
        api_calls=100,
        exports=5,
        court_minutes=0,
        storage_gb=1,
        sso=False,
    ),
    DemoPlan(
        key="basic",
        name="Basic",
        description="For one person.",
        rank=10,
        price_minor=900,
        api_calls=500,
        exports=50,
        court_minutes=240,
        storage_gb=10,
        sso=False,
    ),
    DemoPlan(
        key="pro",
        name="Pro",
        description="For teams.",
        rank=20,
        price_minor=2900,
        api_calls=1000,
        exports=None,
        court_minutes=960,
        storage_gb=100,
        sso=True,
    ),
)


def fill(*, clock: clocks.Clock) -> Customer:
    """Make the example's catalog, its two users, and alice's usage; what stands is kept.

    Return alice's customer.
    """
    with db.transaction():
        _make_catalog(at=clock.now())
    for plan in Plan.objects.filter(key__in=[each.key for each in PLANS]):
        if not plan.versions.filter(status=PlanVersion.Status.PUBLISHED).exists():
            draft = catalog.draft(plan_id=plan.pk, clock=clock)
            catalog.publish(plan_version_id=draft.pk, clock=clock)
    _make_admin()
    alice = _make_alice(clock=clock)
    _use_units(alice, clock=clock)
    return alice


def _make_catalog(*, at: datetime) -> None:
    group, _ = PlanGroup.objects.get_or_create(key="main", defaults={"name": "Main"})
    features = {
        key: Feature.objects.get_or_create(
            key=key,
            defaults={
                "name": name,
                "type": kind,
                "unit": unit,
                "plan_group": group if kind == Feature.Type.METERED else None,
                "created_at": at,
            },
        )[0]
        for key, name, kind, unit in FEATURES
    }
    for example in PLANS:
        plan, created = Plan.objects.get_or_create(
            key=example.key,
            defaults={
                "name": example.name,
                "description": example.description,
                "plan_group": group,
                "rank": example.rank,
                "created_at": at,
            },
        )
        if created:
            _make_version(plan, example, features, at=at)


def _make_version(
    plan: Plan, example: DemoPlan, features: dict[str, Feature], *, at: datetime
) -> None:
    version = PlanVersion.objects.create(plan=plan, number=1, created_at=at)
    Price.objects.create(
        plan_version=version,
        key=f"{example.key}-monthly",
        currency="EUR",
        unit_amount_minor=example.price_minor,
    )
    limits = {
        "api_calls": example.api_calls,
        "exports": example.exports,
        "court_minutes": example.court_minutes,
    }
    rows = [
        Entitlement(plan_version=version, feature=features[key], limit_units=limit)
        for key, limit in limits.items()
    ]
    rows += [
        Entitlement(plan_version=version, feature=features["sso"], enabled=example.sso),
        Entitlement(plan_version=version, feature=features["storage_gb"], value=example.storage_gb),
    ]
    Entitlement.objects.bulk_create(rows)


def _make_admin() -> None:
    if not User.objects.filter(username="admin").exists():
        User.objects.create_superuser(
            username="admin",
            email="admin@example.com",
            password="admin-demo-password",  # noqa: S106 - known, in development only
        )


def _make_alice(*, clock: clocks.Clock) -> Customer:
    if not User.objects.filter(username="alice").exists():
        accounts.register(
            accounts.Registration(
                username="alice",
                email="alice@example.com",
                password="alice-demo-password",  # noqa: S106 - as above
            ),
            clock=clock,
        )
    customer = Member.objects.select_related("customer").get(user__username="alice").customer
    if not Subscription.objects.filter(customer=customer).exists():
        keyed = idempotency.KeyedRequest(key="demo", fingerprint="demo")
        lifecycle.subscribe(
            customer_id=customer.pk,
            order=lifecycle.Order(plan_key="pro"),
            actor=ACTOR,
            keyed=keyed,
            render=lambda row, _: {"subscription": str(row.pk)},
            clock=clock,
        )
        row = Subscription.objects.get(customer=customer)
        lifecycle.mark_paid(subscription_id=row.pk, actor=ACTOR, clock=clock)
    return customer


def _use_units(customer: Customer, *, clock: clocks.Clock) -> None:
    """Bring alice to 998 of 1000 in her current period, where she stands below."""
    overview = selectors.get_overview(customer=customer, clock=clock)
    standing = overview.standings["api_calls"]
    missing = ALICE_USED_UNITS - standing.used_units
    if missing <= 0 or standing.derived.period is None:
        return
    key = f"demo-{clocks.rfc3339(standing.derived.period.starts_at)}-{standing.used_units}"
    asked = consumption.Request(
        customer_id=customer.pk,
        wanted=[consumption.Wanted(feature_key="api_calls", units=missing)],
        keyed=idempotency.KeyedRequest(key=key, fingerprint="demo"),
    )
    consumption.consume(asked, clock=clock)
