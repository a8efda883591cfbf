"""Subscribe, change, read invoices and operate billing over HTTP."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from billing.models import Coupon, CreditNote, Invoice, InvoiceLine, Payment
from core import clock
from core.models import Customer, IdempotencyRecord
from subscriptions.models import Subscription
from tests import factories
from tests.till import make_add_on

pytestmark = pytest.mark.django_db
INVOICES, SUBSCRIPTIONS, COUPONS = "/api/invoices/", "/api/subscriptions/", "/api/coupons/"
CHANGE = f"{SUBSCRIPTIONS}me/change/"
APRIL, MAY = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
HALF_WAY = datetime(2026, 4, 16, tzinfo=UTC)

QUERIES = {
    "subscribe": 49,
    "preview": 45,
    "change": 54,
    "add-on": 50,
    "list": 3,
    "get": 3,
    "pdf": 3,
    "mark-paid": 40,
    "give-up": 13,
    "void": 14,
    "credit-note": 20,
    "balance": 2,
    "balance-entries": 2,
    "create-coupon": 5,
    "list-coupons": 2,
    "archive-coupon": 6,
}


@pytest.fixture
def at() -> datetime:
    return APRIL


@pytest.fixture(scope="module")
def kept_plans(kept_rows):
    factories.make_plan("free", at=APRIL, limits={"api_calls": 100})
    factories.make_plan("pro", at=APRIL, limits={"api_calls": 1000}, rank=10, price_minor=2900)
    factories.make_plan("team", at=APRIL, limits={"api_calls": 9000}, rank=20, price_minor=9900)


@pytest.fixture
def user(kept_plans, at, standing_clock):
    return factories.make_user(at=at)


@pytest.fixture
def client(user):
    return factories.client_for(user)


@pytest.fixture
def customer(user) -> Customer:
    return factories.customer_of(user)


@pytest.fixture
def service():
    return factories.service_client()


def post(client, url, body, *, key="k"):
    return client.post(url, body, headers={"Idempotency-Key": key})


def everything() -> list:
    stored = (Subscription, Invoice, InvoiceLine, Payment, CreditNote, Coupon)
    return [list(model.objects.order_by("pk").values()) for model in stored]


@pytest.fixture
def invoice(client) -> Invoice:
    """Return the open first invoice of a subscription to pro."""
    assert post(client, SUBSCRIPTIONS, {"plan": "pro"}, key="first").status_code == 201
    return Invoice.objects.get()


@pytest.fixture
def paid(invoice, service) -> Invoice:
    answer = post(service, f"{INVOICES}{invoice.pk}/mark-paid/", {"reason": "transfer"}, key="paid")
    assert answer.status_code == 200
    invoice.refresh_from_db()
    return invoice


class TestSubscribe:
    def test_says_how_to_pay_the_first_invoice(self, client, customer, django_assert_num_queries):
        with django_assert_num_queries(QUERIES["subscribe"]):
            answer = post(client, SUBSCRIPTIONS, {"plan": "pro"})
        assert answer.status_code == 201
        invoice = Invoice.objects.get()
        body = answer.json()
        assert (body["status"], body["payment"]) == (
            "incomplete",
            {
                "gateway": "manual",
                "instructions": f"Pay 29.00 EUR and name {customer.external_key}.",
                "expires_at": "2026-04-01T23:00:00Z",
                "invoice": str(invoice.pk),
                "currency": "EUR",
                "due_minor": 2900,
            },
        )
        assert (invoice.status, invoice.label) == ("open", "INV-000001")
        again = post(client, SUBSCRIPTIONS, {"plan": "pro"})
        assert (again.json(), again["Idempotent-Replayed"]) == (body, "true")

    def test_takes_a_coupon_off(self, client, at):
        Coupon.objects.create(
            key="SPRING", name="s", percent_off=50, duration="once", created_at=at
        )
        answer = post(client, SUBSCRIPTIONS, {"plan": "pro", "coupon": "SPRING"})
        assert answer.json()["payment"]["due_minor"] == 1450

    def test_is_refused_for_a_coupon_that_cannot_be_redeemed(self, client):
        before = everything()
        answer = post(client, SUBSCRIPTIONS, {"plan": "pro", "coupon": "NONE"})
        assert (answer.status_code, answer.json()["code"]) == (422, "coupon_invalid")
        assert everything() == before


class TestChange:
    def test_does_what_its_preview_said(self, client, paid, django_assert_num_queries):
        with clock.overridden(clock.FixedClock(at=HALF_WAY)):
            with django_assert_num_queries(QUERIES["preview"]):
                previewed = client.post(f"{CHANGE}preview/", {"plan": "team"})
            assert previewed.status_code == 200
            quote = previewed.json()
            asked = {"plan": "team", "proration_at": quote["proration_at"]}
            with django_assert_num_queries(QUERIES["change"]):
                answer = post(client, CHANGE, asked)
        assert (answer.status_code, answer.json()) == (200, quote)
        assert quote == {
            "effective_at": "2026-04-16T00:00:00Z",
            "proration_at": "2026-04-16T00:00:00Z",
            "lines": [
                {
                    "description": description,
                    "kind": kind,
                    "quantity": 1,
                    "amount_minor": amount,
                    "discount_minor": 0,
                    "period": {
                        "starts_at": "2026-04-16T00:00:00Z",
                        "ends_at": "2026-05-01T00:00:00Z",
                    },
                }
                for description, kind, amount in (
                    ("Unused time: Pro", "proration_credit", -1450),
                    ("Remaining time: Team", "charge", 4950),
                )
            ],
            "due_now_minor": 3500,
            "currency": "EUR",
            "limits_after": {"api_calls": 9000},
            "exceeds": [],
        }
        assert Invoice.objects.get(number=2).due_minor == 3500

    def test_is_refused_where_its_preview_is_stale(self, client, paid):
        asked = {"plan": "team", "proration_at": "2026-04-16T00:00:00Z"}
        before = everything()
        with clock.overridden(clock.FixedClock(at=HALF_WAY + timedelta(hours=1))):
            answer = post(client, CHANGE, asked)
        assert (answer.status_code, answer.json()["code"]) == (409, "preview_stale")
        assert everything() == before

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"plan": "poro"}, 404, "plan_unknown"),
            ({"plan": "pro"}, 422, "invalid"),
            ({"plan": "team", "quantity": -1}, 422, "invalid"),
            ({"plan": "team", "usage_policy": "reset"}, 422, "invalid"),
            ({"plan": "team", "proration_at": "2026-04-16T00:00:00"}, 400, "naive_datetime"),
            ({"plan": "team", "colour": 1}, 400, "unknown_field"),
        ],
    )
    def test_is_refused_for_what_cannot_be(self, client, paid, body, status, code):
        before = everything()
        answer = post(client, CHANGE, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert everything() == before

    def test_says_how_to_pay_what_follows_a_free_subscription(self, client):
        assert post(client, SUBSCRIPTIONS, {"plan": "free"}, key="f").status_code == 201
        body = post(client, CHANGE, {"plan": "pro"}).json()
        assert (body["due_now_minor"], body["limits_after"]) == (2900, {"api_calls": 1000})
        payment = body["payment"]
        assert (payment["gateway"], payment["due_minor"]) == ("manual", 2900)
        assert client.get(f"{INVOICES}{payment['invoice']}/").json()["status"] == "open"
        assert client.get(f"{SUBSCRIPTIONS}me/").json()["plan_key"] == "free"

    def test_is_refused_for_members(self, user, at, paid):
        before = everything()
        member = factories.make_user(at=at, customer=factories.customer_of(user), role="member")
        answer = post(factories.client_for(member), CHANGE, {"plan": "team"})
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert everything() == before


class TestAddOns:
    def test_are_put_on_and_taken_off_with_their_money(
        self, client, paid, django_assert_num_queries
    ):
        make_add_on(Subscription.objects.get().plan_group, at=APRIL)
        url = f"{SUBSCRIPTIONS}me/add-ons/"
        with clock.overridden(clock.FixedClock(at=HALF_WAY)):
            with django_assert_num_queries(QUERIES["add-on"]):
                answer = post(client, url, {"add_on": "support", "quantity": 2})
            again = post(client, url, {"add_on": "support", "quantity": 2})
        assert (answer.status_code, answer.json()["due_now_minor"]) == (200, 300)
        assert [line["amount_minor"] for line in answer.json()["lines"]] == [300]
        assert again.json() == answer.json()
        assert Invoice.objects.get(number=2).due_minor == 300

    def test_are_refused_where_they_are_not_on_offer(self, client, paid):
        before = everything()
        url = f"{SUBSCRIPTIONS}me/add-ons/"
        answer = post(client, url, {"add_on": "none", "quantity": 1})
        assert (answer.status_code, answer.json()["code"]) == (422, "plan_not_available")
        assert everything() == before


class TestInvoices:
    def test_are_shown_to_their_customer(self, client, paid, django_assert_num_queries):
        with django_assert_num_queries(QUERIES["list"]):
            page = client.get(INVOICES).json()
        with django_assert_num_queries(QUERIES["get"]):
            one = client.get(f"{INVOICES}{paid.pk}/").json()
        assert page == {"results": [one], "next": None, "previous": None}
        assert one == {
            "id": str(paid.pk),
            "number": "INV-000001",
            "status": "paid",
            "subscription": str(paid.subscription_id),
            "currency": "EUR",
            "lines": [
                {
                    "description": "Pro",
                    "kind": "recurring",
                    "quantity": 1,
                    "amount_minor": 2900,
                    "discount_minor": 0,
                    "period": {
                        "starts_at": "2026-04-01T00:00:00Z",
                        "ends_at": "2026-05-01T00:00:00Z",
                    },
                }
            ],
            "subtotal_minor": 2900,
            "discount_minor": 0,
            "tax_minor": None,
            "total_minor": 2900,
            "credited_minor": 0,
            "balance_minor": 0,
            "paid_minor": 2900,
            "due_minor": 0,
            "issued_at": "2026-04-01T00:00:00Z",
            "due_at": "2026-04-15T00:00:00Z",
            "paid_at": "2026-04-01T00:00:00Z",
            "pdf": f"/api/invoices/{paid.pk}/pdf",
        }

    def test_are_printed(self, client, paid, django_assert_num_queries):
        with django_assert_num_queries(QUERIES["pdf"]):
            answer = client.get(f"{INVOICES}{paid.pk}/pdf")
        assert (answer.status_code, answer["Content-Type"]) == (200, "application/pdf")
        assert answer["Content-Disposition"] == 'inline; filename="INV-000001.pdf"'
        assert answer.content.startswith(b"%PDF-")

    @pytest.mark.parametrize("tail", ["", "pdf"])
    def test_are_nobody_elses(self, paid, at, tail):
        stranger = factories.client_for(factories.make_user(at=at))
        answer = stranger.get(f"{INVOICES}{paid.pk}/{tail}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    def test_are_not_shown_to_members_or_as_drafts(self, client, user, at, invoice):
        member = factories.make_user(at=at, customer=factories.customer_of(user), role="member")
        assert factories.client_for(member).get(INVOICES).status_code == 403
        row = Subscription.objects.get()
        Invoice.objects.create(
            customer=row.customer, subscription=row, currency="EUR", billed_at=MAY
        )
        assert len(client.get(INVOICES).json()["results"]) == 1


class TestOperating:
    def act(self, service, invoice, action, body=None, *, key="a"):
        body = {"reason": "because"} if body is None else body
        return post(service, f"{INVOICES}{invoice.pk}/{action}/", body, key=key)

    def test_marks_paid_and_activates(self, service, invoice, django_assert_num_queries):
        with django_assert_num_queries(QUERIES["mark-paid"]):
            answer = self.act(service, invoice, "mark-paid", {"reason": "r", "reference": "t"})
        assert (answer.status_code, answer.json()["status"]) == (200, "paid")
        assert Subscription.objects.get().status == "active"
        body = {"reason": "r", "reference": "t"}
        again = self.act(service, invoice, "mark-paid", body, key="another")
        assert (again.json(), "Idempotent-Replayed" in again) == (answer.json(), False)
        assert Payment.objects.get().reason == "r"

    @pytest.mark.parametrize(
        ("action", "state"),
        [
            ("mark-paid", "paid"),
            ("mark-failed", "open"),
            ("void", "void"),
            ("mark-uncollectible", "uncollectible"),
        ],
    )
    def test_happens_once_under_its_key(self, client, service, paid, action, state):
        with clock.overridden(clock.FixedClock(at=HALF_WAY)):
            post(client, CHANGE, {"plan": "team"})
        second = Invoice.objects.get(number=2)
        before = everything()
        url = f"{INVOICES}{second.pk}/{action}/"
        unkeyed = service.post(url, {"reason": "because"})
        assert (unkeyed.status_code, unkeyed.json()["code"]) == (400, "idempotency_key_missing")
        assert everything() == before
        first = self.act(service, second, action)
        assert (first.status_code, first.json()["status"]) == (200, state)
        after = everything()
        again = self.act(service, second, action)
        assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
        other = self.act(service, second, action, {"reason": "another"})
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        elsewhere = self.act(service, paid, action)
        assert (elsewhere.status_code, elsewhere.json()["code"]) == (422, "idempotency_key_reused")
        assert everything() == after

    @pytest.mark.parametrize("action", ["void", "mark-uncollectible"])
    def test_of_what_is_closed_so_already_is_answered_alike(self, client, service, paid, action):
        with clock.overridden(clock.FixedClock(at=HALF_WAY)):
            post(client, CHANGE, {"plan": "team"})
        second = Invoice.objects.get(number=2)
        first = self.act(service, second, action)
        after = everything()
        again = self.act(service, second, action, key="b")
        assert (again.status_code, again.json()) == (200, first.json())
        assert everything() == after

    def test_that_was_refused_leaves_its_key_free(self, service, invoice):
        body = {"reason": "r", "reference": "t"}
        self.act(service, invoice, "void", key="v")
        before = everything()
        refused = self.act(service, invoice, "mark-paid", body)
        assert (refused.status_code, refused.json()["code"]) == (409, "invoice_closed")
        assert everything() == before
        assert not IdempotencyRecord.objects.filter(key="a").exists()

    def test_marks_failed_and_starts_grace(self, client, service, paid):
        with clock.overridden(clock.FixedClock(at=HALF_WAY)):
            post(client, CHANGE, {"plan": "team"})
            second = Invoice.objects.get(number=2)
            answer = self.act(service, second, "mark-failed")
        assert (answer.status_code, answer.json()["status"]) == (200, "open")
        assert Subscription.objects.get().status == "past_due"

    def test_voids_and_gives_up(self, client, service, paid, django_assert_num_queries):
        with clock.overridden(clock.FixedClock(at=HALF_WAY)):
            post(client, CHANGE, {"plan": "team"})
        second = Invoice.objects.get(number=2)
        with django_assert_num_queries(QUERIES["give-up"]):
            answer = self.act(service, second, "mark-uncollectible")
        assert answer.json()["status"] == "uncollectible"
        with django_assert_num_queries(QUERIES["void"]):
            answer = self.act(service, second, "void", key="b")
        assert answer.json()["status"] == "void"

    def test_takes_back_by_credit_note_once_under_its_key(
        self, client, service, paid, django_assert_num_queries
    ):
        body = {"amount_minor": 900, "reason": "two bad days"}
        with django_assert_num_queries(QUERIES["credit-note"]):
            answer = self.act(service, paid, "credit-notes", body)
        assert answer.status_code == 201
        note = CreditNote.objects.get()
        assert answer.json() == {
            "id": str(note.pk),
            "number": "CN-000001",
            "invoice": str(paid.pk),
            "currency": "EUR",
            "amount_minor": 900,
            "balance_minor": 900,
            "reason": "two bad days",
            "issued_at": "2026-04-01T00:00:00Z",
        }
        again = self.act(service, paid, "credit-notes", body)
        assert (again.json(), CreditNote.objects.count()) == (answer.json(), 1)
        with django_assert_num_queries(QUERIES["balance"]):
            balance = client.get("/api/balance/").json()
        assert balance == {"results": [{"currency": "EUR", "balance_minor": 900}]}
        with django_assert_num_queries(QUERIES["balance-entries"]):
            entries = client.get("/api/balance/entries/").json()["results"]
        assert [(each["kind"], each["amount_minor"]) for each in entries] == [("credit_note", 900)]

    @pytest.mark.parametrize(
        ("action", "body", "status", "code"),
        [
            ("mark-paid", {"reason": "r"}, 409, "invoice_closed"),
            ("mark-failed", {"reason": "r"}, 409, "invoice_closed"),
            ("void", {"reason": "r"}, 409, "invoice_closed"),
            ("mark-uncollectible", {"reason": "r"}, 409, "invoice_closed"),
            ("void", {}, 422, "invalid"),
            ("credit-notes", {"reason": "r", "amount_minor": 2901}, 422, "amount_mismatch"),
            ("credit-notes", {"reason": "r", "amount_minor": 0}, 422, "invalid"),
        ],
    )
    def test_refuses_what_the_state_does_not_allow(self, service, paid, action, body, status, code):
        before = everything()
        url = f"{INVOICES}{paid.pk}/{action}/"
        answer = service.post(url, body, headers={"Idempotency-Key": "x"})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert everything() == before

    @pytest.mark.parametrize(
        "action", ["mark-paid", "mark-failed", "void", "mark-uncollectible", "credit-notes"]
    )
    def test_is_for_service_keys_with_the_scope(self, client, invoice, action):
        before = everything()
        body = {"reason": "r"} | ({"amount_minor": 1} if action == "credit-notes" else {})
        reader = factories.service_client(scopes=("billing:read",))
        for caller, code in ((client, "permission_denied"), (reader, "insufficient_scope")):
            answer = caller.post(
                f"{INVOICES}{invoice.pk}/{action}/", body, headers={"Idempotency-Key": "x"}
            )
            assert (answer.status_code, answer.json()["code"]) == (403, code)
        service = factories.service_client()
        answer = service.post(
            f"{INVOICES}{uuid4()}/{action}/", body, headers={"Idempotency-Key": "x"}
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert everything() == before


class TestCoupons:
    SPRING = {
        "key": "SPRING",
        "name": "Spring sale",
        "percent_off": "12.5",
        "duration": "repeating",
        "invoices_max": 3,
        "expires_at": "2027-01-01T00:00:00Z",
        "redemptions_max": 9,
    }

    def test_are_made_listed_and_archived(self, service, user, django_assert_num_queries):
        with django_assert_num_queries(QUERIES["create-coupon"]):
            made = service.post(COUPONS, self.SPRING)
        shown = self.SPRING | {
            "amount_off_minor": None,
            "currency": None,
            "redemptions": 0,
            "archived_at": None,
        }
        assert (made.status_code, made.json()) == (201, shown)
        with django_assert_num_queries(QUERIES["list-coupons"]):
            assert service.get(COUPONS).json()["results"] == [shown]
        with django_assert_num_queries(QUERIES["archive-coupon"]):
            archived = service.post(f"{COUPONS}SPRING/archive/", {})
        assert archived.json() == shown | {"archived_at": "2026-04-01T00:00:00Z"}

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"percent_off": "101"}, "invalid"),
            ({"percent_off": None}, "invalid"),
            ({"currency": "EUR"}, "invalid"),
            ({"invoices_max": 0}, "invalid"),
        ],
    )
    def test_are_refused_where_they_do_not_fit_together(self, service, user, change, code):
        before = everything()
        answer = service.post(COUPONS, self.SPRING | change)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert everything() == before

    def test_are_for_service_keys(self, client, service):
        assert client.post(COUPONS, self.SPRING).status_code == 403
        assert client.get(COUPONS).status_code == 403
        answer = service.post(f"{COUPONS}NONE/archive/", {})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert not Coupon.objects.exists()
