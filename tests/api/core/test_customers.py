"""customers/: create, read and change, for backends and staff; and the clock of a test."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import Permission

from core.models import AuditEntry, Customer, OutboxEvent
from subscriptions.models import Subscription
from tests import factories

CUSTOMERS = "/api/customers/"
AT = datetime(2026, 3, 10, 12, tzinfo=UTC)


pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _standing(standing_clock):
    """Let every request read the standing clock."""


@pytest.fixture
def backend():
    return factories.service_client()


def create(client, **fields):
    body = {"external_key": "acme", "name": "Acme"} | fields
    return client.post(CUSTOMERS, body, format="json")


def rename(client, name, **headers):
    return client.patch(f"{CUSTOMERS}acme/", {"name": name}, format="json", **headers)


class TestCreate:
    def test_answers_the_customer_under_his_key(self, backend, django_assert_num_queries):
        with django_assert_num_queries(5):
            answer = create(backend, time_zone="Europe/Berlin", currency="CHF")
        body = answer.json()
        assert answer.status_code == 201
        assert body | {"id": "x"} == {
            "id": "x",
            "external_key": "acme",
            "name": "Acme",
            "time_zone": "Europe/Berlin",
            "currency": "CHF",
            "revision": 0,
            "created_at": "2026-03-10T12:00:00Z",
            "test_clock_at": None,
        }
        shown = backend.get(f"{CUSTOMERS}{body['id']}/")
        assert (shown.json(), shown["ETag"]) == (body, '"0"')
        unchanged = backend.get(f"{CUSTOMERS}acme/", HTTP_IF_NONE_MATCH='"0"')
        assert unchanged.status_code == 304

    @pytest.mark.parametrize(
        ("fields", "status", "code"),
        [
            ({"external_key": ""}, 422, "invalid"),
            ({"external_key": 7}, 422, "invalid"),
            ({"name": "x" * 256}, 422, "invalid"),
            ({"time_zone": "Mars/Olympus"}, 422, "invalid"),
            ({"currency": "eur"}, 422, "invalid"),
            ({"currency": "EURO"}, 422, "invalid"),
            ({"plan": "pro"}, 400, "unknown_field"),
            ({"test_clock_at": "2026-01-01T00:00:00"}, 400, "naive_datetime"),
        ],
    )
    def test_refuses_what_does_not_fit_and_creates_nobody(self, backend, fields, status, code):
        answer = create(backend, **fields)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert not Customer.objects.exists()

    def test_refuses_a_key_that_is_taken(self, backend):
        create(backend)
        answer = create(backend, name="Other")
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/external_key")
        assert Customer.objects.get().name == "Acme"

    def test_is_for_backends_and_staff_with_the_permission(self):
        user = factories.make_user(at=AT)
        before = Customer.objects.count()
        refused = create(factories.client_for(user))
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
        reader = factories.service_client(scopes=("customers:read",))
        assert create(reader).json()["code"] == "insufficient_scope"
        assert Customer.objects.count() == before
        user.is_staff = True
        user.save()
        user.user_permissions.add(Permission.objects.get(codename="add_customer"))
        assert create(factories.client_for(user)).status_code == 201


class TestRename:
    def test_follows_the_state_that_was_read(self, backend, django_assert_num_queries):
        create(backend)
        with django_assert_num_queries(9):
            answer = rename(backend, "Acme Ltd", HTTP_IF_MATCH='"0"')
        assert (answer.json()["name"], answer["ETag"]) == ("Acme Ltd", '"1"')
        line = AuditEntry.objects.get(action="customer.renamed")
        assert (line.before, line.after) == ({"name": "Acme"}, {"name": "Acme Ltd"})
        assert rename(backend, "Acme Inc", HTTP_IF_MATCH="*").json()["revision"] == 2
        assert rename(backend, "Acme").json()["revision"] == 3

    @pytest.mark.parametrize("tag", ['"0"', "1", '"x"', 'W/"1"'])
    def test_is_refused_where_he_has_changed_since(self, backend, tag):
        create(backend)
        rename(backend, "Acme Ltd")
        answer = rename(backend, "Late", HTTP_IF_MATCH=tag)
        assert (answer.status_code, answer.json()["code"]) == (412, "version_conflict")
        assert Customer.objects.get().name == "Acme Ltd"

    def test_is_refused_for_nobody_and_for_anything_but_a_name(self, backend):
        assert rename(backend, "x").json()["code"] == "not_found"
        create(backend)
        answer = backend.patch(f"{CUSTOMERS}acme/", {"currency": "USD"}, format="json")
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_field")
        assert Customer.objects.get().currency == "EUR"


class TestAnotherZone:
    def move(self, client, **body):
        return client.patch(f"{CUSTOMERS}acme/", body, format="json")

    def test_is_answered_and_counts_from_the_next_boundary(
        self, backend, django_assert_num_queries
    ):
        factories.make_plan("free", at=AT)
        create(backend)
        acme = Customer.objects.get()
        factories.consume(acme, 1, at=AT)
        usage = f"/api/subscriptions/me/?customer={acme.pk}"
        before = backend.get(usage)
        with django_assert_num_queries(25):
            answer = self.move(backend, time_zone="Europe/Berlin", name="Acme Ltd")
        body = answer.json()
        assert (answer.status_code, body["time_zone"], body["name"], body["revision"]) == (
            200,
            "Europe/Berlin",
            "Acme Ltd",
            1,
        )
        assert answer["ETag"] == '"1"'
        actions = AuditEntry.objects.order_by("id").values_list("action", flat=True)
        assert list(actions)[-2:] == ["customer.renamed", "customer.time_zone_changed"]
        after = backend.get(usage).json()
        assert after["resets_at"] == before.json()["resets_at"]

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"time_zone": "Mars/Olympus"}, 422, "invalid"),
            ({"time_zone": ""}, 422, "invalid"),
            ({"time_zone": None}, 422, "invalid"),
            ({"time_zone": 1}, 422, "invalid"),
            ({"name": "Acme Ltd", "time_zone": "UTC+1"}, 422, "invalid"),
            ({}, 422, "invalid"),
        ],
    )
    def test_is_refused_where_it_is_none(self, backend, body, status, code):
        create(backend)
        answer = self.move(backend, **body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        row = Customer.objects.get()
        assert (row.name, row.time_zone, row.former_zones, row.revision) == ("Acme", "UTC", None, 0)

    def test_that_he_has_changes_nothing(self, backend):
        create(backend)
        assert self.move(backend, time_zone="UTC").json()["revision"] == 0
        assert not AuditEntry.objects.filter(action="customer.time_zone_changed").exists()


class TestAdvance:
    def advance(self, client, to, *, named="acme"):
        path = f"{CUSTOMERS}{named}/test-clock/advance/"
        return client.post(path, {"to": to}, format="json")

    @pytest.fixture
    def acme(self, backend) -> Customer:
        factories.make_plan("free", at=AT)
        factories.make_plan("pro", at=AT, price_minor=2900, rank=5, version={"trial_days": 14})
        create(backend, test_clock_at="2026-01-31T00:00:00Z")
        return Customer.objects.get()

    def test_walks_trial_and_renewals_each_at_its_own_instant(self, backend, acme):
        assert acme.created_at == acme.test_clock_at
        row = factories.subscribe(acme, "pro", at=AT)
        assert row.trial_ends_at == datetime(2026, 2, 14, tzinfo=UTC)
        Subscription.objects.update(has_payment_method=True)
        answer = self.advance(backend, "2026-05-01T00:00:00Z")
        assert answer.json()["test_clock_at"] == "2026-05-01T00:00:00Z"
        renewed = OutboxEvent.objects.filter(event_type="subscription.renewed").order_by("id")
        assert [each.occurred_at for each in renewed] == [
            datetime(2026, month, 14, tzinfo=UTC) for month in (2, 3, 4)
        ]
        before = OutboxEvent.objects.count()
        assert self.advance(backend, "2026-05-01T00:00:00Z").status_code == 200
        assert OutboxEvent.objects.count() == before

    @pytest.mark.parametrize(
        ("to", "status", "code"),
        [
            ("2026-01-30T00:00:00Z", 422, "invalid"),
            ("2036-01-30T00:00:00Z", 422, "invalid"),
            ("2026-03-30T00:00:00", 400, "naive_datetime"),
            (7, 422, "invalid"),
        ],
    )
    def test_is_refused_backwards_and_too_far(self, backend, acme, to, status, code):
        answer = self.advance(backend, to)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        acme.refresh_from_db()
        assert acme.test_clock_at == datetime(2026, 1, 31, tzinfo=UTC)

    def test_is_refused_for_a_customer_of_the_worlds_time(self, backend):
        create(backend)
        answer = self.advance(backend, "2027-01-01T00:00:00Z")
        assert (answer.status_code, answer.json()["code"]) == (422, "test_clock_refused")
        assert self.advance(backend, "2027-01-01T00:00:00Z", named="x").status_code == 404

    def test_is_not_to_be_had_where_it_is_not_allowed(self, backend, settings):
        settings.ENGINE = replace(settings.ENGINE, test_clocks_allowed=False)
        answer = create(backend, test_clock_at="2026-01-31T00:00:00Z")
        assert (answer.status_code, answer.json()["code"]) == (422, "test_clock_refused")
        assert not Customer.objects.exists()
