"""Log staff in with a role, and fill every screen with a row."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.urls import reverse

from billing.models import Coupon, Invoice, Issuer
from billing.services import coupons, customer_balance, issuing
from core import actors
from core.admin.base import EngineAdmin, declared_permissions
from core.models import User
from core.services import roles
from core.services.idempotency import KeyedRequest
from metering.models import Balance, Grant, Hold, UsageEntry
from metering.services import consumption, granting, holds, meters
from resources.models import Closure
from subscriptionEngine.roles import ROLES
from subscriptions.models import Override, PlanVersion, Subscription
from subscriptions.services import overriding, switches
from tests import club, factories

APPS = ("core", "subscriptions", "metering", "resources", "billing")
_numbers = count(1)


def make_roles() -> None:
    """Make the groups of staff, once."""
    if not Group.objects.exists():
        roles.make(table=ROLES, declared=declared_permissions())


def client(role: str | None = None, *, superuser: bool = False, csrf: bool = False) -> Client:
    """Return a browser in which a member of staff with the role is logged in."""
    make_roles()
    username = f"staff{next(_numbers)}"
    user = User.objects.create_user(
        username=username, email=f"{username}@example.com", is_staff=True, is_superuser=superuser
    )
    if role:
        user.groups.add(Group.objects.get(name=role))
    browser = Client(enforce_csrf_checks=csrf)
    browser.force_login(user, backend="core.services.login.UsernameOrEmailBackend")
    return browser


def rows() -> dict[str, list[str]]:
    """Return every row of the engine but staff's own, as text, to compare before and after."""
    labels = {
        model._meta.db_table: model._meta.label
        for name in APPS
        for model in apps.get_app_config(name).get_models()
    }
    one = "SELECT '{0}', row::text FROM {0} AS row{1}"
    every = (
        one.format(table, " WHERE NOT is_staff" * (labels[table] == User._meta.label))
        for table in labels
    )
    found = {label: [] for label in labels.values()}
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(every) + " ORDER BY 1, 2")
        for table, row in cursor.fetchall():
            found[labels[table]].append(row)
    return found


def page(row: Any, operation: str = "change") -> str:
    """Return the address of a row's page, or of an operation on it."""
    opts = row._meta
    return reverse(f"admin:{opts.app_label}_{opts.model_name}_{operation}", args=(row.pk,))


def listed(label: str, **query: str) -> str:
    """Return the address of a list."""
    address = reverse(f"admin:{label.lower().replace('.', '_')}_changelist")
    return f"{address}?{'&'.join(f'{name}={value}' for name, value in query.items())}"


def confirmed(**values: Any) -> dict[str, Any]:
    """Return what a confirmed form sends."""
    return {"reason": "a ticket asks for it", "_confirmed": "yes", **values}


@dataclass(frozen=True, kw_only=True)
class World:
    """One row of each kind, by what it is good for."""

    rows: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.rows[name]


def world(at: datetime) -> World:
    """Fill every screen: a published, an archived and a draft version, a paying customer."""
    plan = factories.make_plan(
        "pro", at=at, limits={"api_calls": 1000}, price_minor=2900, booleans={"sso": True}
    )
    factories.new_version(plan, at=at, limits={"api_calls": 2000})
    other = factories.make_plan("team", at=at, limits={"api_calls": 9}, publish=False)
    user = factories.make_user(at=at)
    customer = factories.customer_of(user)
    active = factories.subscribe(customer, "pro", at=at)
    waiting_customer = factories.make_customer(at=at)
    waiting = factories.subscribe(waiting_customer, "pro", at=at, pay=False)
    factories.consume(customer, 3, at=at)
    for row in (active, waiting):
        issuing.issue_drafts_of(subscription_id=row.pk, clock=factories.standing(at))
    factories.make_plan("taster", at=at, price_minor=900, version={"trial_days": 14})
    entry = customer_balance.adjust(
        customer_id=waiting_customer.pk,
        currency="EUR",
        amount_minor=500,
        actor=factories.ACTOR,
        clock=factories.standing(at),
    )
    coupon = Coupon(key="SPRING", name="Spring", percent_off=20, duration="once")
    versions = {each.number: each for each in PlanVersion.objects.filter(plan=plan)}
    assert waiting.status == Subscription.Status.INCOMPLETE
    return World(
        rows={
            "plan": plan,
            "feature": factories.make_feature("api_calls", at=at),
            "group": plan.plan_group,
            "draft": PlanVersion.objects.get(plan=other),
            "archived": versions[1],
            "published": versions[2],
            "customer": customer,
            "waiting_customer": waiting_customer,
            "active": active,
            "waiting": waiting,
            "user": user,
            "invoice": Invoice.objects.get(status="open"),
            "paid_invoice": Invoice.objects.get(status="paid"),
            "coupon": coupons.create(coupon=coupon, clock=factories.standing(at)),
            "issuer": Issuer.objects.get(),
            "key": factories.make_service_key().service_key,
            "switch": switches.turn(
                feature_key="sso",
                state="allow",
                ttl_seconds=60,
                actor=actors.Actor(name="test", reason="test"),
                clock=factories.standing(at),
            ),
            "trial": factories.subscribe(factories.make_customer(at=at), "taster", at=at),
            "balance_entry": entry,
            "balance": Balance.objects.get(customer=customer),
            "entry": UsageEntry.objects.get(customer=customer),
            **given(at),
            "meter": meters.define(
                meters.Definition(key="calls", event_type="api.call", aggregation="count"),
                clock=factories.standing(at),
            ),
            **_club(at),
        }
    )


def given(at: datetime) -> dict[str, Any]:
    """Return a hold, a grant and an override of a customer beside the others."""
    factories.make_plan("side", at=at, limits={"side_calls": 50}, group="side")
    clock, customer = factories.standing(at), factories.make_customer(at=at)
    factories.subscribe(customer, "side", at=at)
    common = {"customer_id": customer.pk, "actor": factories.ACTOR, "clock": clock}
    holds.create(
        consumption.Request(
            customer_id=customer.pk,
            wanted=[consumption.Wanted(feature_key="side_calls", units=7)],
            keyed=KeyedRequest(key="hold", fingerprint="f"),
        ),
        ttl_seconds=300,
        clock=clock,
    )
    granting.create(
        order=granting.Order(feature_key="side_calls", units=20),
        keyed=KeyedRequest(key="grant", fingerprint="f"),
        render=lambda row: {"grant": str(row.pk)},
        **common,
    )
    overriding.create(
        order=overriding.Order(feature_key="side_calls", units=30, reason="a promise"),
        keyed=KeyedRequest(key="override", fingerprint="f"),
        render=lambda row: {"override": str(row.pk)},
        **common,
    )
    return {
        "hold": Hold.objects.get(),
        "grant": Grant.objects.get(),
        "override": Override.objects.get(),
    }


def _club(at: datetime) -> dict[str, Any]:
    """Make a venue with a court, a booking, one that is held, and a closure."""
    court = club.make_resource(venue=club.make_venue())
    policy = club.make_policy(court.type)
    factories.make_plan("member", at=at, limits={"court_minutes": 600}, rank=1)
    member = factories.make_customer(at=at, name="the-member")
    factories.subscribe(member, "member", at=at)
    ten = club.local(10, day=(at + timedelta(days=1)).date())
    return {
        "venue": court.venue,
        "court": court,
        "resource_type": court.type,
        "policy": policy,
        "booking": club.booked(member, court, ten, at=at),
        "held_booking": club.booked(member, court, ten + timedelta(hours=2), at=at, held=True),
        "closure": Closure.objects.create(
            venue=court.venue,
            starts_at=ten + timedelta(hours=8),
            ends_at=ten + timedelta(hours=9),
            reason="rain",
            created_at=at,
        ),
    }


def screen_of(label: str) -> EngineAdmin[Any]:
    """Return the screen of a model."""
    screen = admin.site._registry[apps.get_model(label)]
    assert isinstance(screen, EngineAdmin)
    return screen
