"""Customers and usage in the admin: all in force on one page, and lists that stay fast."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from core.admin import base
from core.models import AuditEntry, Customer, OutboxEvent
from metering import errors
from metering.models import Balance, Grant, Hold, Meter, MeterEvent, UsageEntry
from subscriptions.models import (
    Feature,
    FeatureSwitch,
    Override,
    Plan,
    PlanGroup,
    PlanVersion,
    Subscription,
)
from tests import factories, staff
from tests.integration.core.test_admin import LISTS

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock")]

ROWS = 200
QUERIES_MAX = 12


@pytest.fixture
def browser(world) -> Client:
    return staff.client("support")


class TestCustomer:
    def test_shows_members_what_is_in_force_and_what_happened(self, world, browser):
        shown = browser.get(staff.page(world.customer)).content.decode()
        for text in (world.user.username, "api_calls", "1,997", "Pro v2", "payment_succeeded"):
            assert text in shown

    def test_stands_in_the_list_with_plan_status_and_worst_usage(self, world, browser, at):
        factories.consume(world.customer, 1700, at=at)
        shown = browser.get(staff.listed("core.Customer", q=world.user.username))
        row = " ".join(shown.content.decode().split())
        assert 'data-label="Plan">Pro</td>' in row
        assert 'data-label="Worst usage">85 %</td>' in row

    def test_worst_usage_forgets_a_period_that_is_over(self, world, at):
        balance = world.balance
        screen = staff.screen_of("core.Customer")
        rows = [world.customer]
        screen.prepare_page(rows)
        assert rows[0].worst == 0
        Balance.objects.filter(pk=balance.pk).update(
            period_starts_at=at - timedelta(days=40), period_ends_at=at
        )
        screen.prepare_page(rows)
        assert rows[0].worst is None

    @pytest.mark.parametrize("by", ["id", "external_key", "beginning", "username", "email"])
    def test_is_found_by_key_id_and_member(self, world, browser, by):
        terms = {
            "id": str(world.customer.pk),
            "external_key": world.customer.external_key,
            "beginning": world.customer.external_key[:-1],
            "username": world.user.username.upper(),
            "email": world.user.email,
        }
        shown = browser.get("/admin/core/customer/", {"q": terms[by]})
        assert list(shown.context["cl"].result_list) == [world.customer]

    def test_starts_a_plan_with_its_consequence_told_before(self, world, browser, at):
        Subscription.objects.filter(customer=world.waiting_customer).update(
            status="expired", ended_at=at
        )
        address = staff.page(world.waiting_customer, "start_plan")
        asked = {"plan": "pro", "quantity": "2", "reason": "by phone"}
        told = browser.post(address, asked).content.decode()
        assert "2 × 29.00 EUR a month" in told
        assert "once the payment is marked" in told
        assert "2,000 a month (hard)" in told
        answer = browser.post(address, asked | {"_confirmed": "yes"})
        row = Subscription.objects.get(customer=world.waiting_customer, status="incomplete")
        assert answer["Location"] == staff.page(row)
        assert (row.quantity, row.timeline.get().reason) == (2, "by phone")

    def test_starts_one_plan_however_often_the_form_is_sent(self, world, browser, at):
        Subscription.objects.all().update(status="expired", ended_at=at)
        address = staff.page(world.customer, "start_plan")
        token = re.search(r'name="_token" value="(\w+)"', browser.get(address).content.decode())
        sent = staff.confirmed(plan="pro", quantity="1", _token=token.group(1))
        answers = [browser.post(address, sent) for _ in range(2)]
        row = Subscription.objects.get(customer=world.customer, ended_at__isnull=True)
        assert [each["Location"] for each in answers] == [staff.page(row)] * 2
        other = browser.post(address, sent | {"quantity": "2"})
        assert other.status_code == 409
        assert "was used for another request" in other.content.decode()

    def test_starts_no_second_plan_of_a_group(self, world, browser):
        before = staff.rows()
        values = staff.confirmed(plan="pro", quantity="1")
        answer = browser.post(staff.page(world.customer, "start_plan"), values)
        assert answer.status_code == 409
        assert "There is a live subscription already" in answer.content.decode()
        assert staff.rows() == before

    @pytest.mark.parametrize(
        ("units", "verdict"), [("1997", "Yes."), ("1998", "No: usage_limit_reached.")]
    )
    def test_may_use_what_the_decision_says_and_asking_counts_nothing(
        self, world, browser, units, verdict
    ):
        before = staff.rows()
        address = staff.page(world.customer, "explain_decision")
        shown = browser.get(address, {"feature": "api_calls", "units": units}).content.decode()
        assert verdict in shown
        assert "3 units are used and 0 held in it" in shown
        assert staff.rows() == before

    def test_is_explained_in_the_past_too(self, world, browser):
        before = staff.rows()
        question = {"feature": "api_calls", "units": "1", "at_0": "2020-01-01", "at_1": "00:00"}
        answer = browser.get(staff.page(world.customer, "explain_decision"), question)
        assert answer.status_code == 200
        assert "No: " in answer.content.decode()
        assert staff.rows() == before


class TestUsage:
    def test_is_never_edited_by_hand(self, world):
        browser, before = staff.client(superuser=True), staff.rows()
        for row in (world.balance, world.entry):
            assert browser.post(staff.page(row), {"used_units": "0"}).status_code == 403
        for model in ("balance", "usageentry"):
            assert browser.get(f"/admin/metering/{model}/add/").status_code == 403
        assert staff.rows() == before

    def test_shows_a_denial_with_its_code(self, world, browser, at):
        with pytest.raises(errors.UsageLimitReached):
            factories.consume(world.customer, 99_999, at=at)
        denied = browser.get(staff.listed("metering.UsageEntry", kind="denied"))
        assert [each.kind for each in denied.context["cl"].result_list] == ["denied"]
        assert "usage_limit_reached" in denied.content.decode()
        shown = browser.get(staff.page(UsageEntry.objects.get(kind="denied"))).content.decode()
        assert "99999" in shown

    def test_of_one_customer_is_found_by_his_key_and_by_the_link_of_his_page(
        self, world, browser, at
    ):
        other = factories.make_customer(at=at)
        factories.subscribe(other, "pro", at=at)
        factories.consume(other, 1, at=at)
        for query in ({"q": other.external_key}, {"customer__id__exact": str(other.pk)}):
            shown = browser.get("/admin/metering/usageentry/", query)
            assert [each.customer for each in shown.context["cl"].result_list] == [other]
        assert str(other.pk) in browser.get(staff.page(other)).content.decode()


def copies(row: Any, customers: list[Customer], **changed: Any) -> None:
    """Give every customer a row like this one."""
    model = type(row)
    names = [each.attname for each in model._meta.concrete_fields if each.name != "id"]
    values = {name: getattr(row, name) for name in names} | changed
    model.objects.bulk_create(
        model(**values | {"customer_id": customer.pk}) for customer in customers
    )


FILLED = {"core", "subscriptions", "metering"}  # the rooms above fill their own lists


@pytest.fixture
def many(world, at) -> staff.World:
    """Give every list 200 rows."""
    names = [f"name-{number}" for number in range(ROWS)]
    customers = Customer.objects.bulk_create(
        Customer(external_key=name, name=name, created_at=at) for name in names
    )
    PlanGroup.objects.bulk_create(PlanGroup(key=name, name=name) for name in names)
    Feature.objects.bulk_create(
        Feature(key=name, name=name, type="boolean", created_at=at) for name in names
    )
    plans = Plan.objects.bulk_create(
        Plan(key=name, name=name, plan_group=world.group, created_at=at) for name in names
    )
    PlanVersion.objects.bulk_create(
        PlanVersion(plan=plan, number=1, created_at=at) for plan in plans
    )
    Meter.objects.bulk_create(
        Meter(key=name, name=name, event_type="x", aggregation="count", created_at=at)
        for name in names
    )
    event = MeterEvent(source="s", event_id="e", item=0, event_type="x", position=0)
    event.occurred_at = event.received_at = at
    copies(world.active, customers, status="canceled", ended_at=at)
    copies(world.entry, customers, key=None, balance_id=None)
    copies(world.balance, customers)
    copies(world.override, customers)
    copies(world.grant, customers)
    AuditEntry.objects.bulk_create(
        AuditEntry(at=at, actor="a", action="b", object_type="c", object_id=name) for name in names
    )
    FeatureSwitch.objects.bulk_create(
        FeatureSwitch(
            feature=world.feature,
            state="deny",
            created_at=at,
            expires_at=at + timedelta(days=1),
            ended_at=at,
        )
        for _ in names
    )
    held = Hold.objects.values("entry_id")
    entries = UsageEntry.objects.filter(key=None).exclude(pk__in=held).iterator()
    for customer in customers:
        copies(world.hold, [customer], entry_id=next(entries).pk)
    copies(world.active.timeline.all()[0], customers)
    copies(OutboxEvent.objects.all()[0], customers)
    copies(event, customers, meter_id=world.meter.pk)
    return world


class TestLists:
    def test_of_200_rows_ask_at_most_12_queries(self, many, monkeypatch):
        browser = staff.client(superuser=True)
        asked = {}
        for label in LISTS:
            monkeypatch.setattr(staff.screen_of(label), "list_per_page", ROWS)
            with CaptureQueriesContext(connection) as queries:
                answer = browser.get(staff.listed(label))
            asked[label] = len(queries)
            assert answer.status_code == 200
            if label.split(".")[0] in FILLED and label not in {"core.User", "core.ServiceKey"}:
                assert len(answer.context["cl"].result_list) == ROWS, label
        assert {label: n for label, n in asked.items() if n > QUERIES_MAX} == {}

    @pytest.mark.parametrize("label", ["metering.UsageEntry", "core.OutboxEvent", "core.Customer"])
    def test_count_and_sort_no_table_whole(self, many, label, monkeypatch):
        monkeypatch.setattr(base, "COUNT_MAX", 150)
        browser = staff.client(superuser=True)
        with CaptureQueriesContext(connection) as queries:
            answer = browser.get(staff.listed(label))
        table = staff.screen_of(label).model._meta.db_table
        counting = [
            each["sql"] for each in queries if "COUNT(" in each["sql"] and table in each["sql"]
        ]
        assert len(counting) == 1
        assert "LIMIT 150" in counting[0]
        assert answer.context["cl"].result_count == 150
        assert answer.context["cl"].sortable_by == ()

    def test_of_all_customers_show_the_newest_rows_and_of_one_every_row(self, many, monkeypatch):
        monkeypatch.setattr(base, "WINDOW_ROWS", 50)
        browser = staff.client(superuser=True)
        shown = browser.get("/admin/metering/usageentry/")
        assert shown.context["cl"].result_count == 50
        newest = list(UsageEntry.objects.order_by("-pk").values_list("pk", flat=True)[:50])
        assert [each.pk for each in shown.context["cl"].result_list] == newest
        own = browser.get("/admin/metering/usageentry/", {"q": many.customer.external_key})
        assert {each.customer for each in own.context["cl"].result_list} == {many.customer}
        assert (
            own.context["cl"].result_count
            == UsageEntry.objects.filter(customer=many.customer).count()
        )


class TestEmptyLists:
    @pytest.mark.parametrize("label", sorted(LISTS))
    def test_say_what_to_do_where_there_is_nothing(self, label):
        shown = staff.client(superuser=True).get(staff.listed(label, q="no-such-thing"))
        assert "Nothing matches" in shown.content.decode()
        assert staff.screen_of(label).empty_text or label == "core.User"

    def test_say_how_the_first_row_comes(self):
        shown = staff.client(superuser=True).get("/admin/subscriptions/plan/").content.decode()
        assert "No plans yet" in shown
        assert "then draft and publish a version of it." in shown


class TestMeter:
    FORM = {
        "key": "tokens",
        "name": "",
        "event_type": "llm.call",
        "aggregation": "sum",
        "value_path": "$.tokens",
        "group_by": '{"model": "$.model"}',
        "filters": "",
        "late_horizon_seconds": "60",
    }

    def test_is_defined_by_the_service_with_its_consequence_told_before(self):
        manager = staff.client("catalog manager")
        told = manager.post("/admin/metering/meter/add/", {**self.FORM, "reason": "new"})
        assert "tokens reads every event llm.call from now on." in told.content.decode()
        assert Meter.objects.count() == 0
        answer = manager.post("/admin/metering/meter/add/", staff.confirmed(**self.FORM))
        meter = Meter.objects.get()
        assert answer["Location"] == staff.page(meter)
        assert (meter.group_by, meter.filters, meter.name) == ({"model": "$.model"}, {}, "tokens")
        assert manager.post(staff.page(meter), {"name": "x"}).status_code == 403
        assert (
            manager.post(staff.page(meter, "archive_meter"), staff.confirmed()).status_code == 302
        )
        meter.refresh_from_db()
        assert meter.archived_at is not None

    @pytest.mark.parametrize(
        ("wrong", "status"),
        [
            ({"value_path": ""}, 409),
            ({"group_by": '["model"]'}, 200),
            ({"filters": '{"$.a": "b"}'}, 200),
            ({"group_by": "{"}, 200),
        ],
    )
    def test_is_refused_with_what_is_wrong(self, wrong, status):
        values = staff.confirmed(**{**self.FORM, **wrong})
        answer = staff.client("catalog manager").post("/admin/metering/meter/add/", values)
        assert (answer.status_code, Meter.objects.count()) == (status, 0)


class TestGiving:
    def test_more_units_is_told_and_done_once(self, world, browser):
        asked = {"feature": "api_calls", "units": "500", "category": "promotional"}
        address = staff.page(world.customer, "give_grant")
        told = browser.post(address, {"reason": "x", **asked}).content.decode()
        assert "gets 500 units of api_calls at once; they expire never." in told
        assert "He has 1,997 left of 2,000 now" in told
        sent = staff.confirmed(_token="a" * 32, **asked)
        assert [browser.post(address, sent).status_code for _ in range(2)] == [302, 302]
        grant = Grant.objects.get(customer=world.customer)
        assert (grant.units, grant.category) == (500, "promotional")
        assert grant.reason == "a ticket asks for it"
        assert Balance.objects.get(pk=world.balance.pk).limit_units == 2500

    def test_more_units_than_the_role_may_give_is_refused(self, world, browser, settings):
        cap = settings.ENGINE.staff_grant_units_max
        asked = {"feature": "api_calls", "category": "paid"}
        address = staff.page(world.customer, "give_grant")
        before = staff.rows()
        answer = browser.post(address, staff.confirmed(units=str(cap + 1), **asked))
        assert answer.status_code == 409
        assert f"Your role grants at most {cap:,} units at a time" in answer.content.decode()
        assert staff.rows() == before
        assert browser.post(address, staff.confirmed(units=str(cap), **asked)).status_code == 302
        owner = staff.client("owner")
        assert owner.post(address, staff.confirmed(units=str(cap + 1), **asked)).status_code == 302

    def test_is_ended_by_voiding(self, world, browser, at):
        address = staff.page(world.grant, "void_grant")
        assert "What is left of the 20 side_calls is gone" in browser.get(address).content.decode()
        assert browser.post(address, staff.confirmed()).status_code == 302
        world.grant.refresh_from_db()
        assert world.grant.voided_at == at

    def test_an_override_changes_the_limit_until_it_ends(self, world, browser):
        asked = {"feature": "api_calls", "units": "100", "ends_at_0": "2026-03-20"}
        asked |= {"ends_at_1": "00:00:00", "value": ""}
        address = staff.page(world.customer, "override_entitlement")
        told = browser.post(address, {"reason": "x", **asked}).content.decode()
        assert "100 units a period more, from now until 2026-03-20 00:00 UTC" in told
        browser.post(address, staff.confirmed(**asked))
        override = Override.objects.get(customer=world.customer)
        assert Balance.objects.get(pk=world.balance.pk).limit_units == 2100
        browser.post(staff.page(override, "end_override"), staff.confirmed())
        assert Balance.objects.get(pk=world.balance.pk).limit_units == 2000

    def test_an_override_that_the_feature_has_not_is_refused(self, world, browser):
        before = staff.rows()
        values = staff.confirmed(feature="sso", units="5", ends_at_0="", ends_at_1="", value="")
        answer = browser.post(staff.page(world.customer, "override_entitlement"), values)
        assert answer.status_code == 409
        assert staff.rows() == before


class TestTakingBack:
    def test_a_hold_is_released(self, world, browser):
        address = staff.page(world.hold, "release_hold")
        assert "can use 7 side_calls again at once" in browser.get(address).content.decode()
        assert browser.post(address, staff.confirmed()).status_code == 302
        world.hold.refresh_from_db()
        assert world.hold.state == "released"
        assert Balance.objects.get(pk=world.hold.balance_id).held_units == 0

    def test_an_entry_is_reversed_at_most_once(self, world, browser):
        address = staff.page(world.entry, "reverse_entry")
        assert browser.post(address, staff.confirmed()).status_code == 302
        assert Balance.objects.get(pk=world.balance.pk).used_units == 0
        before = staff.rows()
        assert browser.post(address, staff.confirmed()).status_code == 409
        assert staff.rows() == before

    def test_a_denial_has_nothing_to_take_back(self, world, browser, at):
        with pytest.raises(errors.UsageLimitReached):
            factories.consume(world.customer, 99_999, at=at)
        denial = UsageEntry.objects.get(kind="denied")
        before = staff.rows()
        answer = browser.post(staff.page(denial, "reverse_entry"), staff.confirmed())
        assert answer.status_code == 409
        assert staff.rows() == before


class TestNearLimit:
    def test_keeps_the_customers_of_the_band(self, world, browser, at):
        factories.consume(world.customer, 1596, at=at)
        listed = "/admin/core/customer/?near="
        assert list(browser.get(f"{listed}80").context["cl"].result_list) == []
        factories.consume(world.customer, 1, at=at)
        assert list(browser.get(f"{listed}80").context["cl"].result_list) == [world.customer]
        assert list(browser.get(f"{listed}100").context["cl"].result_list) == []
        factories.consume(world.customer, 400, at=at)
        assert list(browser.get(f"{listed}100").context["cl"].result_list) == [world.customer]
