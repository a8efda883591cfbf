"""Make users, customers, plans and subscriptions with one call each."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID

from django.conf import settings
from django.test import override_settings
from rest_framework.test import APIClient

from core import clock
from core.api import tokens
from core.models import SCOPES, Customer, Member, ServiceKey, User
from core.services import idempotency, service_keys
from core.services import tokens as token_service
from metering.services import consumption, reversing
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

PASSWORD = "correct horse battery staple"
ACTOR = lifecycle.Actor(name="test")
_numbers = count(1)


def standing(at: datetime) -> clock.FixedClock:
    return clock.FixedClock(at=at)


def make_customer(*, at: datetime, name: str | None = None, **fields: Any) -> Customer:
    name = name or f"customer{next(_numbers)}"
    return Customer.objects.create(external_key=name, name=name, created_at=at, **fields)


def make_user(
    *,
    at: datetime,
    username: str | None = None,
    customer: Customer | None = None,
    role: str = "owner",
) -> User:
    username = username or f"user{next(_numbers)}"
    user = User.objects.create_user(
        username=username, email=f"{username}@example.com", password=PASSWORD
    )
    customer = customer or make_customer(at=at, name=f"of {username}")
    Member.objects.create(user=user, customer=customer, role=role)
    return user


def customer_of(user: User) -> Customer:
    return Member.objects.get(user=user).customer


def pair_for(user: User, *, at: datetime) -> dict[str, str]:
    refresh = token_service.issue(user_id=user.pk, clock=standing(at))
    return tokens.pair(user=User.objects.get(pk=user.pk), refresh=refresh)


def client_for(user: User) -> APIClient:
    """Return a client that carries a fresh access token of the user."""
    client = APIClient(raise_request_exception=False)
    pair = pair_for(user, at=clock.DatabaseClock().now())
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {pair['access']}")
    return client


def make_service_key(*, scopes: tuple[str, ...] = SCOPES) -> service_keys.NewKey:
    """Make a key that was used just now, so that its use is not written again for a minute."""
    now = clock.DatabaseClock().now()
    made = service_keys.create(name="backend", scopes=scopes, expires_at=None, clock=standing(now))
    ServiceKey.objects.filter(pk=made.service_key.pk).update(last_used_at=now)
    return made


def service_client(*, scopes: tuple[str, ...] = SCOPES) -> APIClient:
    client = APIClient(raise_request_exception=False)
    credential = make_service_key(scopes=scopes).credential
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {credential}")
    return client


def make_group(key: str = "main") -> PlanGroup:
    return PlanGroup.objects.get_or_create(key=key, defaults={"name": key.title()})[0]


def make_feature(
    key: str, *, at: datetime, kind: str = "metered", group: str | None = "main"
) -> Feature:
    plan_group = make_group(group) if group and kind == "metered" else None
    return Feature.objects.get_or_create(
        key=key,
        defaults={"name": key, "type": kind, "plan_group": plan_group, "created_at": at},
    )[0]


def make_plan(
    key: str,
    *,
    at: datetime,
    limits: Mapping[str, int | None] | None = None,
    price_minor: int = 0,
    group: str = "main",
    rank: int = 0,
    publish: bool = True,
    version: Mapping[str, Any] | None = None,
    entitlement: Mapping[str, Any] | None = None,
    booleans: Mapping[str, bool] | None = None,
    statics: Mapping[str, object] | None = None,
) -> Plan:
    """Make a plan whose first version grants the limits a month, published unless told."""
    plan = Plan.objects.create(
        key=key, name=key.title(), plan_group=make_group(group), rank=rank, created_at=at
    )
    draft = PlanVersion.objects.create(plan=plan, number=1, created_at=at, **(version or {}))
    Price.objects.create(
        plan_version=draft, key=f"{key}-monthly", currency="EUR", unit_amount_minor=price_minor
    )
    for feature_key, limit in (limits or {"api_calls": 100}).items():
        Entitlement.objects.create(
            plan_version=draft,
            feature=make_feature(feature_key, at=at, group=group),
            limit_units=limit,
            **(entitlement or {}),
        )
    for feature_key, enabled in (booleans or {}).items():
        feature = make_feature(feature_key, at=at, kind="boolean")
        Entitlement.objects.create(plan_version=draft, feature=feature, enabled=enabled)
    for feature_key, value in (statics or {}).items():
        feature = make_feature(feature_key, at=at, kind="static")
        Entitlement.objects.create(plan_version=draft, feature=feature, value=value)
    if publish:
        catalog.publish(plan_version_id=draft.pk, clock=standing(at))
    return plan


def new_version(plan: Plan, *, at: datetime, limits: Mapping[str, int | None]) -> PlanVersion:
    """Publish a further version of the plan with other limits."""
    draft = catalog.draft(plan_id=plan.pk, clock=standing(at))
    for feature_key, limit in limits.items():
        draft.entitlements.filter(feature__key=feature_key).update(limit_units=limit)
    return catalog.publish(plan_version_id=draft.pk, clock=standing(at))


def subscribe(
    customer: Customer,
    plan_key: str,
    *,
    at: datetime,
    pay: bool = True,
    wants_trial: bool | None = None,
) -> Subscription:
    """Subscribe the customer, and pay where the plan asks for it."""
    keyed = idempotency.KeyedRequest(key=f"subscribe{next(_numbers)}", fingerprint="f")
    answer = lifecycle.subscribe(
        customer_id=customer.pk,
        order=lifecycle.Order(plan_key=plan_key, wants_trial=wants_trial),
        actor=ACTOR,
        keyed=keyed,
        render=lambda row, _: {"subscription": str(row.pk)},
        clock=standing(at),
    )
    row = Subscription.objects.get(pk=answer.body["subscription"])
    if pay and row.status == Subscription.Status.INCOMPLETE:
        row = lifecycle.mark_paid(subscription_id=row.pk, actor=ACTOR, clock=standing(at))
    return row


@contextmanager
def group_commit(*, is_on: bool) -> Iterator[None]:
    """Let consuming go by way of the group, or not: the answers are to be the same."""
    with override_settings(ENGINE=replace(settings.ENGINE, group_commit=is_on)):
        yield


def consume(
    customer: Customer,
    units: int,
    *,
    at: datetime,
    feature: str = "api_calls",
    key: str | None = None,
) -> consumption.Consumed:
    keyed = idempotency.KeyedRequest(key=key or f"consume{next(_numbers)}", fingerprint="f")
    asked = consumption.Request(
        customer_id=customer.pk,
        wanted=[consumption.Wanted(feature_key=feature, units=units)],
        keyed=keyed,
    )
    return consumption.consume(asked, clock=standing(at))


def reverse(customer: Customer, entry_id: UUID, *, at: datetime) -> None:
    """Take a line of usage back."""
    keyed = idempotency.KeyedRequest(key=f"reverse{next(_numbers)}", fingerprint="f")
    reversing.reverse(
        reversing.Reversal(customer_id=customer.pk, entry_id=entry_id, keyed=keyed),
        clock=standing(at),
    )
