"""Who may call what: every operation of the schema by every kind of caller.

An operation without a row here fails the build. A row says what the schema cannot: who is let in.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import orjson
import pytest
import yaml
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission
from rest_framework.test import APIClient

from core import clock
from core.models import SCOPES, User
from tests import factories

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
INSTANTS = {"date": "2026-03-01", "from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"}
REFUSALS = {"unauthenticated", "token_revoked", "permission_denied", "insufficient_scope"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Who is let in: anybody; users; staff with a permission; service keys, any or with a scope.

    `names_customer`: the call is for a customer, which a foreign user may not name. `in_body`:
    the body is the credential, and the example's is a bad one, whoever sends it.
    """

    anybody: bool = False
    users: bool = False
    permission: str = ""
    scope: str = ""
    any_key: bool = False
    names_customer: bool = True
    in_body: bool = False


def of_customer(scope: str) -> Row:
    """Return the row of what a member does for his customer, or a backend for any."""
    return Row(users=True, scope=scope)


def managed(scope: str, permission: str) -> Row:
    """Return the row of what staff and backends do to any customer."""
    return Row(scope=scope, permission=permission, names_customer=False)


PUBLIC = Row(anybody=True, users=True, names_customer=False)
BODY = Row(anybody=True, users=True, names_customer=False, in_body=True)
OWN = Row(users=True, names_customer=False)
ROWS = {
    "advanceTestClock": managed("customers:write", "core.change_customer"),
    "archiveCoupon": Row(scope="billing:write", names_customer=False),
    "askForPasswordReset": PUBLIC,
    "cancelBooking": of_customer("bookings:write"),
    "cancelSubscription": of_customer("subscriptions:write"),
    "captureHold": of_customer("usage:write"),
    "changeOwnUser": OWN,
    "changePassword": OWN,
    "changeSubscription": of_customer("subscriptions:write"),
    "checkInBooking": of_customer("bookings:write"),
    "checkUsage": of_customer("usage:read"),
    "confirmBooking": of_customer("bookings:write"),
    "consumeUsage": of_customer("usage:write"),
    "createAlert": managed("customers:write", "metering.add_alertthreshold"),
    "createBooking": of_customer("bookings:write"),
    "createBookingSeries": of_customer("bookings:write"),
    "createClosure": Row(scope="bookings:write", names_customer=False),
    "createCoupon": Row(scope="billing:write", names_customer=False),
    "createCreditNote": Row(scope="billing:write", names_customer=False),
    "createCustomer": managed("customers:write", "core.add_customer"),
    "createGrant": managed("customers:write", "metering.add_grant"),
    "createHold": of_customer("usage:write"),
    "createOverride": managed("customers:write", "subscriptions.add_override"),
    "createSubscription": of_customer("subscriptions:write"),
    "createToken": BODY,
    "downloadInvoice": of_customer("billing:read"),
    "endOverride": managed("customers:write", "subscriptions.change_override"),
    "explainEntitlement": of_customer("entitlements:read"),
    "extendHold": of_customer("usage:write"),
    "extendTrial": Row(scope="subscriptions:write", names_customer=False),
    "getAvailability": of_customer("bookings:read"),
    "getBalance": of_customer("billing:read"),
    "getBooking": of_customer("bookings:read"),
    "getBookingCalendar": of_customer("bookings:read"),
    "getCustomer": managed("customers:read", "core.view_customer"),
    "getEntitlement": of_customer("entitlements:read"),
    "getHold": of_customer("usage:read"),
    "getInvoice": of_customer("billing:read"),
    "getOwnSubscription": of_customer("subscriptions:read"),
    "getOwnUser": OWN,
    "getPlan": PUBLIC,
    "getUsageHistory": of_customer("usage:read"),
    "giveBackUsage": of_customer("usage:write"),
    "ingestEvents": of_customer("events:write"),
    "joinWaitlist": of_customer("bookings:write"),
    "leaveWaitlist": of_customer("bookings:write"),
    "listAlerts": managed("customers:read", "metering.view_alertthreshold"),
    "listAuditEntries": Row(permission="core.view_auditentry", names_customer=False),
    "listBalanceEntries": of_customer("billing:read"),
    "listBookings": of_customer("bookings:read"),
    "listCoupons": Row(scope="billing:read", names_customer=False),
    "listEntitlements": of_customer("entitlements:read"),
    "listFeatures": PUBLIC,
    "listGrants": managed("customers:read", "metering.view_grant"),
    "listInvoices": of_customer("billing:read"),
    "listMeters": Row(users=True, scope="meters:read", names_customer=False),
    "listOverrides": managed("customers:read", "subscriptions.view_override"),
    "listPlans": PUBLIC,
    "listResources": Row(users=True, any_key=True, names_customer=False),
    "listSubscriptions": of_customer("subscriptions:read"),
    "listTimeline": of_customer("subscriptions:read"),
    "listUsageEntries": of_customer("usage:read"),
    "listWaitlist": of_customer("bookings:read"),
    "markInvoiceFailed": Row(scope="billing:write", names_customer=False),
    "markInvoicePaid": Row(scope="billing:write", names_customer=False),
    "markInvoiceUncollectible": Row(scope="billing:write", names_customer=False),
    "markSubscriptionPaid": Row(scope="subscriptions:write", names_customer=False),
    "moveBooking": of_customer("bookings:write"),
    "pauseCollection": Row(scope="subscriptions:write", names_customer=False),
    "pauseSubscription": of_customer("subscriptions:write"),
    "previewBookingCancel": of_customer("bookings:read"),
    "previewChange": of_customer("subscriptions:write"),
    "queryMeter": of_customer("meters:read"),
    "recordUsage": Row(scope="usage:write", names_customer=False),
    "refreshToken": BODY,
    "registerUser": PUBLIC,
    "releaseHold": of_customer("usage:write"),
    "removeAlert": managed("customers:write", "metering.delete_alertthreshold"),
    "resetPassword": PUBLIC,
    "resumeCollection": Row(scope="subscriptions:write", names_customer=False),
    "resumeSubscription": of_customer("subscriptions:write"),
    "reverseUsageEntry": Row(scope="usage:write", names_customer=False),
    "revokeAllTokens": OWN,
    "revokeToken": BODY,
    "setAddOn": of_customer("subscriptions:write"),
    "undoCancelSubscription": of_customer("subscriptions:write"),
    "updateCustomer": managed("customers:write", "core.change_customer"),
    "verifyAddress": PUBLIC,
    "verifyToken": BODY,
    "voidGrant": managed("customers:write", "metering.change_grant"),
    "voidInvoice": Row(scope="billing:write", names_customer=False),
}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of the schema, with a body that it can read."""

    name: str
    method: str
    path: str
    body: Any
    content_type: str
    query: dict[str, str]


def operations() -> Iterator[Operation]:
    schema = yaml.load((ROOT / "openapi.yaml").read_text(), Loader=yaml.CSafeLoader)
    for path, methods in schema["paths"].items():
        for method, described in methods.items():
            content = described.get("requestBody", {}).get("content", {})
            media = next(iter(content), "application/json")
            examples = content.get(media, {}).get("examples", {})
            parameters = described.get("parameters", [])
            yield Operation(
                name=described["operationId"],
                method=method,
                path=_filled(path, parameters),
                body=next((each["value"] for each in examples.values()), {}),
                content_type=media,
                query={
                    each["name"]: INSTANTS.get(each["name"], "x")
                    for each in parameters
                    if each["in"] == "query" and each.get("required")
                },
            )


def _filled(path: str, parameters: list[dict[str, Any]]) -> str:
    for each in parameters:
        if each["in"] == "path":
            value = str(uuid4()) if each["schema"].get("format") == "uuid" else "api_calls"
            path = path.replace(f"{{{each['name']}}}", value)
    return path


OPERATIONS = {each.name: each for each in operations()}


class TestMatrix:
    def test_has_a_row_for_every_operation_and_for_nothing_else(self):
        assert sorted(OPERATIONS) == sorted(ROWS)


@pytest.fixture(scope="class")
def world(kept_rows):
    """Make two customers, each with a user, and a plan; the clock is real."""
    now = clock.DatabaseClock().now()
    factories.make_plan("pro", at=now)
    own = factories.make_user(at=now, username="own")
    return {"own": own, "other": factories.make_user(at=now, username="other")}


def with_header(header: str) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=header)
    return client


def staff(*, permission: str) -> APIClient:
    user = factories.make_user(at=clock.DatabaseClock().now())
    User.objects.filter(pk=user.pk).update(is_staff=True)
    if permission:
        app, codename = permission.split(".")
        found = Permission.objects.get(content_type__app_label=app, codename=codename)
        user.user_permissions.add(found)
    return factories.client_for(user)


def expired() -> APIClient:
    claims = {
        "token_type": "access",
        "exp": datetime(2020, 1, 1, tzinfo=UTC),
        "user_id": "1",
        "ver": 0,
        "aud": "subscription-engine",
        "iss": "subscription-engine",
    }
    return with_header(f"Bearer {jwt.encode(claims, django_settings.JWT_SIGNING_KEY, 'HS256')}")


def call(client: APIClient, operation: Operation, *, customer: str | None = None):
    """Send the operation's example, for a customer where one is named."""
    query, body = dict(operation.query), operation.body
    is_read = operation.method == "get"
    if customer is not None and is_read:
        query["customer"] = customer
    elif customer is not None and operation.content_type.startswith("application/cloudevents"):
        body = _for_subject(body, customer)
    elif customer is not None:
        body = {**body, "customer": customer}
    address = operation.path + "?" * bool(query) + "&".join(f"{k}={v}" for k, v in query.items())
    data = None if is_read else orjson.dumps(body)
    return client.generic(
        operation.method.upper(),
        address,
        data or b"",
        "" if is_read else operation.content_type,
        HTTP_IDEMPOTENCY_KEY=uuid4().hex,
    )


def _for_subject(body: Any, customer: str) -> Any:
    if isinstance(body, list):
        return [each | {"subject": customer} for each in body]
    return body | {"subject": customer}


def refusal(answer) -> tuple[int, str] | None:
    """Return the refusal of who calls; None where he was let in, whatever came of it."""
    assert answer.status_code < 500, answer.content[:300]
    if answer.status_code < 400:
        return None
    code = answer.json()["code"]
    return (answer.status_code, code) if code in REFUSALS else None


def customer_of(user: User) -> str:
    return str(factories.customer_of(user).pk)


CALLERS: dict[str, Callable[[Row, dict[str, User]], APIClient]] = {
    "anonymous": lambda _, __: APIClient(raise_request_exception=False),
    "expired": lambda _, __: expired(),
    "user": lambda _, world: factories.client_for(world["own"]),
    "other user": lambda _, world: factories.client_for(world["other"]),
    "staff without": lambda _, __: staff(permission=""),
    "staff with": lambda row, __: staff(permission=row.permission),
    "key without": lambda row, __: factories.service_client(
        scopes=tuple(each for each in SCOPES if each != row.scope)
    ),
    "key with": lambda row, __: factories.service_client(
        scopes=(row.scope,) if row.scope else SCOPES
    ),
}


def expected(row: Row, caller: str) -> tuple[int, str] | None:
    """Return the refusal that the row gives the caller."""
    if row.in_body:
        return (401, "unauthenticated")
    if row.anybody:
        return None
    if caller in {"anonymous", "expired"}:
        return (401, "unauthenticated")
    if row.any_key and caller.startswith("key"):
        return None
    if caller.startswith("key"):
        lacking = (403, "insufficient_scope" if row.scope else "permission_denied")
        return None if row.scope and caller == "key with" else lacking
    is_let_in = caller == "staff with" if row.permission else row.users
    return None if is_let_in else (403, "permission_denied")


def told(answer) -> tuple[int, object]:
    """Return what a caller learns: the same of a foreign customer as of none at all."""
    body = answer.json()
    if answer.status_code == 200:
        return 200, [each["code"] for each in body["results"]]
    assert answer.status_code == 404
    return 404, body["code"]


class TestOperation:
    @pytest.mark.parametrize("name", sorted(set(OPERATIONS) & set(ROWS)))
    @pytest.mark.parametrize("caller", CALLERS)
    def test_lets_in_whom_its_row_says(self, world, name, caller):
        row, operation = ROWS[name], OPERATIONS[name]
        if row.anybody and caller == "expired":
            pytest.skip("what is public reads no credential, or refuses a bad one")
        names = row.names_customer and caller.startswith("key")
        customer = customer_of(world["own"]) if names else None
        client = CALLERS[caller](row, world)
        assert refusal(call(client, operation, customer=customer)) == expected(row, caller)

    @pytest.mark.parametrize("name", sorted(each for each in ROWS if ROWS[each].names_customer))
    def test_knows_a_customer_by_its_own_members_alone(self, world, name):
        operation = OPERATIONS[name]
        theirs = customer_of(world["own"])
        foreign = call(factories.client_for(world["other"]), operation, customer=theirs)
        unknown = call(factories.client_for(world["other"]), operation, customer=str(uuid4()))
        assert told(foreign) == told(unknown)
