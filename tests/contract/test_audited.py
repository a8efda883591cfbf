"""What staff and backends change by the API stands in the audit log, or has its exception here.

The operations come from the schema. One that changes something, that a service key or staff may
call, and that is in neither of the two tables fails the build.
"""

import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from core import clock
from core.models import AuditEntry, ServiceKey
from tests import club, factories, staff, till
from tests.conftest import NOW
from tests.contract.test_authorisation import OPERATIONS, ROWS

pytestmark = pytest.mark.django_db
WHY = "a ticket asks for it"
ASKS = "it changes nothing"
LEDGER = "the usage ledger is its record, line by line"
EXCEPTIONS = {
    "captureHold": LEDGER,
    "checkUsage": ASKS,
    "consumeUsage": LEDGER,
    "createHold": LEDGER,
    "extendHold": LEDGER,
    "giveBackUsage": LEDGER,
    "ingestEvents": "the events are kept, and what they count is in the usage ledger",
    "previewBookingCancel": ASKS,
    "previewChange": ASKS,
    "recordUsage": LEDGER,
    "releaseHold": LEDGER,
}
MADE_AGAIN = {"createClosure"}  # it has no key
TEN = club.local(10, day=(NOW + timedelta(days=1)).date())


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call: a path with names of the world's rows, and a body.

    `of` names the row whose customer the body names; `after` the operation that comes first, whose
    answer's id is `made` in the path; `at` is when the clock stands.
    """

    path: str
    body: dict[str, Any] = field(default_factory=dict)
    of: str = ""
    after: str = ""
    at: datetime = NOW


def times(start: datetime) -> dict[str, str]:
    """Return the hour from the instant on, as a body has it."""
    return {
        "starts_at": clock.rfc3339(start),
        "ends_at": clock.rfc3339(start + timedelta(hours=1)),
    }


ME = "/api/subscriptions/me"
ACTIVE = "/api/subscriptions/{active}"
INVOICE = "/api/invoices/{invoice}"
BOOKING = "/api/bookings/{booking}"
CUSTOMER = "/api/customers/{customer}"
GIFT = {"feature": "api_calls", "units": 5, "reason": WHY}
REASON = {"reason": WHY}
COURT = {"allocations": [{"resource": "court-1"}], **times(TEN + timedelta(hours=4))}
CALLS = {
    "advanceTestClock": Call(
        path="/api/customers/{tester}/test-clock/advance/", body={"to": "2026-04-01T00:00:00Z"}
    ),
    "archiveCoupon": Call(path="/api/coupons/SPRING/archive/"),
    "cancelBooking": Call(path=BOOKING + "/cancel/", body=REASON, of="booking"),
    "cancelSubscription": Call(path=ME + "/cancel/", of="active"),
    "changeSubscription": Call(
        path=ME + "/change/", body={"plan": "taster", "usage_policy": "keep"}, of="active"
    ),
    "checkInBooking": Call(path=BOOKING + "/check-in/", body=REASON, of="booking", at=TEN),
    "confirmBooking": Call(
        path="/api/bookings/{held_booking}/confirm/", body=REASON, of="held_booking"
    ),
    "createAlert": Call(path=CUSTOMER + "/alerts/", body={"feature": "api_calls", "percent": 70}),
    "createBooking": Call(path="/api/bookings/", body=COURT, of="booking"),
    "createBookingSeries": Call(
        path="/api/bookings/series/", body={"occurrences": 2, **COURT}, of="booking"
    ),
    "createClosure": Call(
        path="/api/resources/closures/",
        body={"venue": "club", **REASON, **times(TEN + timedelta(hours=4))},
    ),
    "createCoupon": Call(
        path="/api/coupons/",
        body={"key": "MAY", "name": "May", "percent_off": "20", "duration": "once"},
    ),
    "createCreditNote": Call(
        path="/api/invoices/{paid_invoice}/credit-notes/", body={"amount_minor": 100, **REASON}
    ),
    "createCustomer": Call(path="/api/customers/", body={"external_key": "new", "name": "New"}),
    "createGrant": Call(path=CUSTOMER + "/grants/", body=GIFT),
    "createOverride": Call(path=CUSTOMER + "/overrides/", body=GIFT),
    "createSubscription": Call(path="/api/subscriptions/", body={"plan": "pro"}, of="tester"),
    "endOverride": Call(
        path=CUSTOMER + "/overrides/{made}/end/", body=REASON, after="createOverride"
    ),
    "extendTrial": Call(
        path="/api/subscriptions/{trial}/extend-trial/",
        body={"ends_at": "2026-08-01T00:00:00Z", **REASON},
    ),
    "joinWaitlist": Call(
        path="/api/waitlist/", body={"resource": "court-1", **times(TEN)}, of="booking"
    ),
    "leaveWaitlist": Call(path="/api/waitlist/{made}/leave/", of="booking", after="joinWaitlist"),
    "markInvoiceFailed": Call(
        path=INVOICE + "/mark-failed/", body={"reference": "debit 1", **REASON}
    ),
    "markInvoicePaid": Call(path=INVOICE + "/mark-paid/", body=REASON),
    "markInvoiceUncollectible": Call(path=INVOICE + "/mark-uncollectible/", body=REASON),
    "markSubscriptionPaid": Call(path="/api/subscriptions/{waiting}/mark-paid/", body=REASON),
    "moveBooking": Call(
        path=BOOKING + "/move/",
        body={"waive_policy": True, **times(TEN + timedelta(hours=24))},
        of="booking",
    ),
    "pauseCollection": Call(path=ACTIVE + "/pause-collection/", body=REASON),
    "pauseSubscription": Call(path=ME + "/pause/", of="active"),
    "removeAlert": Call(path=CUSTOMER + "/alerts/{made}/", after="createAlert"),
    "resumeCollection": Call(
        path=ACTIVE + "/resume-collection/", body=REASON, after="pauseCollection"
    ),
    "resumeSubscription": Call(path=ME + "/resume/", of="active", after="pauseSubscription"),
    "reverseUsageEntry": Call(path="/api/usage/entries/{entry}/reverse/", body=REASON, of="entry"),
    "setAddOn": Call(path=ME + "/add-ons/", body={"add_on": "support", "quantity": 1}, of="active"),
    "undoCancelSubscription": Call(
        path=ME + "/undo-cancel/", of="active", after="cancelSubscription"
    ),
    "updateCustomer": Call(path=CUSTOMER + "/", body={"name": "Another"}),
    "voidGrant": Call(path=CUSTOMER + "/grants/{made}/void/", body=REASON, after="createGrant"),
    "voidInvoice": Call(path=INVOICE + "/void/", body=REASON),
}


def changing() -> set[str]:
    """Return the operations that may change something and that a key or staff may call."""
    return {
        name
        for name, operation in OPERATIONS.items()
        if operation.method != "get" and (ROWS[name].scope or ROWS[name].permission)
    }


@pytest.fixture(scope="module")
def kept(kept_rows) -> staff.World:
    """Make the world of the admin's screens, and what the API alone changes."""
    with clock.overridden(factories.standing(NOW)):
        world = staff.world(NOW)
        till.make_add_on(world.plan.plan_group, at=NOW)
        tester = factories.make_customer(at=NOW, test_clock_at=NOW)
        return staff.World(rows={**world.rows, "tester": tester})


@pytest.fixture
def world(kept) -> staff.World:
    return staff.World(rows=copy.deepcopy(kept.rows))


def send(client, name: str, world: staff.World, *, made: str = "") -> Any:
    """Make the call under a key of its own."""
    call = CALLS[name]
    keys = {each: row.pk for each, row in world.rows.items()}
    row = world.rows.get(call.of)
    customer = {"customer": str(getattr(row, "customer_id", row.pk))} if row else {}
    return client.generic(
        OPERATIONS[name].method.upper(),
        call.path.format(**keys, made=made),
        orjson.dumps(call.body | customer),
        "application/json",
        HTTP_IDEMPOTENCY_KEY=f"{name}-key",
    )


class TestOperation:
    def test_is_called_here_or_has_its_exception(self):
        assert changing() == {*CALLS, *EXCEPTIONS}
        assert not set(CALLS) & set(EXCEPTIONS)

    @pytest.mark.parametrize("name", sorted(CALLS))
    def test_by_a_service_key_is_written_with_actor_reason_and_request(self, world, name):
        call, client, made = CALLS[name], factories.service_client(), ""
        with clock.overridden(factories.standing(call.at)):
            if call.after:
                first = send(client, call.after, world)
                assert first.status_code < 300, first.json()
                made = first.json().get("id", "")
            answer = send(client, name, world, made=made)
            assert answer.status_code < 300, answer.json()
            entries = AuditEntry.objects.filter(request_id=answer.headers["X-Request-Id"])
            assert any(each.before != each.after for each in entries)
            replayed = send(client, name, world, made=made)
        key = ServiceKey.objects.latest("created_at")
        assert {each.actor for each in entries} == {f"service key {key.prefix}"}
        assert {each.reason for each in entries} == {call.body.get("reason", "")}
        again = AuditEntry.objects.filter(request_id=replayed.headers["X-Request-Id"])
        assert again.exists() == (name in MADE_AGAIN)
