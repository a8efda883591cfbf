"""The admin's house rules: who may do what, on POST alone, with a reason, and told before."""

import re
from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.test import Client

from core import clock, errors
from core.admin.base import EngineAdmin
from core.admin.operations import Inspection, OperationForm, ReasonForm
from core.models import AuditEntry, OutboxEvent, ServiceKey, User
from core.services import login, service_keys
from subscriptionEngine.roles import ROLES
from subscriptions.models import Subscription
from tests import factories, staff

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock")]

EVERYBODY = set(ROLES)
ALLOWED = {
    ("subscriptions.Feature", "switch_feature", "feature"): {"owner"},
    ("subscriptions.FeatureSwitch", "end_switch", "switch"): {"owner"},
    ("core.ServiceKey", "rotate_key", "key"): {"owner"},
    ("subscriptions.Feature", "archive_feature", "feature"): {"catalog manager", "owner"},
    ("subscriptions.Plan", "archive_plan", "plan"): {"catalog manager", "owner"},
    ("subscriptions.Plan", "draft_version", "plan"): {"catalog manager", "owner"},
    ("subscriptions.PlanVersion", "publish_version", "draft"): {"catalog manager", "owner"},
    ("subscriptions.PlanVersion", "archive_version", "published"): {"catalog manager", "owner"},
    ("subscriptions.PlanVersion", "next_version", "published"): {"catalog manager", "owner"},
    ("subscriptions.PlanVersion", "compare_versions", "published"): EVERYBODY,
    ("metering.Meter", "archive_meter", "meter"): {"catalog manager", "owner"},
    ("core.Customer", "give_grant", "customer"): {"support", "owner"},
    ("core.Customer", "override_entitlement", "customer"): {"support", "owner"},
    ("metering.Grant", "void_grant", "grant"): {"support", "owner"},
    ("metering.Hold", "release_hold", "hold"): {"support", "owner"},
    ("metering.UsageEntry", "reverse_entry", "entry"): {"support", "owner"},
    ("subscriptions.Override", "end_override", "override"): {"support", "owner"},
    ("subscriptions.Subscription", "mark_paid", "waiting"): {"finance", "owner"},
    ("subscriptions.PlanVersion", "migrate_subscribers", "archived"): {"catalog manager", "owner"},
    ("subscriptions.Subscription", "cancel_now", "active"): {"support", "owner"},
    ("subscriptions.Subscription", "cancel_at_period_end", "active"): {"support", "owner"},
    ("subscriptions.Subscription", "undo_cancel", "active"): {"support", "owner"},
    ("subscriptions.Subscription", "pause", "active"): {"support", "owner"},
    ("subscriptions.Subscription", "extend_trial", "trial"): {"support", "owner"},
    ("subscriptions.Subscription", "resume", "active"): {"support", "owner"},
    ("subscriptions.Subscription", "pause_collection", "active"): {"finance", "owner"},
    ("subscriptions.Subscription", "resume_collection", "active"): {"finance", "owner"},
    ("subscriptions.Subscription", "change_plan", "active"): {"support", "owner"},
    ("billing.Invoice", "mark_invoice_paid", "invoice"): {"finance", "owner"},
    ("billing.Invoice", "mark_invoice_failed", "invoice"): {"finance", "owner"},
    ("billing.Invoice", "void_invoice", "invoice"): {"finance", "owner"},
    ("billing.Invoice", "give_up_invoice", "invoice"): {"finance", "owner"},
    ("billing.Invoice", "write_credit_note", "invoice"): {"finance", "owner"},
    ("billing.Invoice", "adjust_balance", "invoice"): {"finance", "owner"},
    ("billing.BalanceEntry", "adjust_balance", "balance_entry"): {"finance", "owner"},
    ("billing.Coupon", "archive_coupon", "coupon"): {"finance", "owner"},
    ("core.Customer", "start_plan", "waiting_customer"): {"support", "owner"},
    ("core.Customer", "change_time_zone", "customer"): {"support", "owner"},
    ("core.Customer", "explain_decision", "customer"): EVERYBODY,
    ("core.ServiceKey", "revoke_key", "key"): {"owner"},
    ("core.User", "set_password", "user"): {"owner"},
    ("resources.Venue", "show_day", "venue"): EVERYBODY,
    ("resources.Venue", "close_for_a_time", "venue"): {"support", "owner"},
    ("resources.Closure", "lift_closure", "closure"): {"support", "owner"},
    ("resources.Resource", "book_for_customer", "court"): {"support", "owner"},
    ("resources.Booking", "check_in", "booking"): {"support", "owner"},
    ("resources.Booking", "confirm_held", "held_booking"): {"support", "owner"},
    ("resources.Booking", "move_to", "booking"): {"support", "owner"},
    ("resources.Booking", "mark_no_show", "booking"): {"support", "owner"},
    ("resources.Booking", "cancel_on_terms", "booking"): {"support", "owner"},
    ("resources.Booking", "cancel_free", "booking"): {"support", "owner"},
}
AFTER = {
    "undo_cancel": "cancel_at_period_end",
    "resume": "pause",
    "resume_collection": "pause_collection",
}
AT_START = {"check_in", "mark_no_show"}
TELLING_NOTHING = {"set_password"}  # what was and is may not be told
NO_END = {"ends_at_0": "", "ends_at_1": ""}
VALUES = {
    "rotate_key": {"overlap_seconds": "60"},
    "switch_feature": {"state": "deny", "ttl_seconds": "60"},
    "change_plan": {"plan": "pro", "quantity": "2", "when": "", "usage_policy": "keep"},
    "pause": {"resume_at_0": "", "resume_at_1": ""},
    "give_grant": {"feature": "api_calls", "units": "5", "category": "promotional"},
    "override_entitlement": {"feature": "api_calls", "units": "5", **NO_END},
    "extend_trial": {"ends_at_0": "2026-08-01", "ends_at_1": "00:00:00"},
    "write_credit_note": {"amount": "9.00"},
    "adjust_balance": {"amount": "9.00"},
    "change_time_zone": {"time_zone": "Europe/Berlin"},
    "start_plan": {"plan": "pro", "quantity": "1"},
    "set_password": {"password": "a new long passphrase"},
    "show_day": {"day": "2026-03-12"},
    "close_for_a_time": {"day": "2026-03-12", "starts_at": "18:00", "ends_at": "19:00"},
    "book_for_customer": {
        "customer": "the-member",
        "day": "2026-03-12",
        "starts_at": "09:00",
        "minutes": "60",
    },
    "move_to": {"day": "2026-03-13", "starts_at": "10:00", "is_policy_waived": "on"},
}
LISTS = {
    "core.AuditEntry": {"owner"},
    "billing.BalanceEntry": EVERYBODY,
    "billing.Coupon": EVERYBODY,
    "billing.CreditNote": EVERYBODY,
    "billing.Invoice": EVERYBODY,
    "billing.Issuer": EVERYBODY,
    "billing.MrrMovement": EVERYBODY,
    "billing.Payment": EVERYBODY,
    "core.Customer": EVERYBODY,
    "core.OutboxEvent": {"finance", "owner"},
    "core.ServiceKey": {"owner"},
    "core.User": {"support", "owner"},
    "metering.Balance": EVERYBODY,
    "metering.Grant": EVERYBODY,
    "metering.Hold": EVERYBODY,
    "metering.Meter": EVERYBODY,
    "metering.MeterEvent": EVERYBODY,
    "metering.UsageEntry": EVERYBODY,
    "resources.Booking": EVERYBODY,
    "resources.BookingPolicy": EVERYBODY,
    "resources.Closure": EVERYBODY,
    "resources.Resource": EVERYBODY,
    "resources.ResourceType": EVERYBODY,
    "resources.Venue": EVERYBODY,
    "resources.WaitlistEntry": EVERYBODY,
    "subscriptions.Feature": EVERYBODY,
    "subscriptions.FeatureSwitch": EVERYBODY,
    "subscriptions.Override": EVERYBODY,
    "subscriptions.Plan": EVERYBODY,
    "subscriptions.PlanGroup": EVERYBODY,
    "subscriptions.PlanVersion": EVERYBODY,
    "subscriptions.Subscription": EVERYBODY,
    "subscriptions.TimelineEntry": EVERYBODY,
}


def is_acting(label: str, name: str) -> bool:
    """Tell whether the operation does something, rather than show it."""
    operations = {each.name: each for each in staff.screen_of(label).operations}
    return not issubclass(operations[name], Inspection)


ACTING = [each for each in sorted(ALLOWED) if is_acting(each[0], each[1])]


def screens() -> dict[str, admin.ModelAdmin]:
    return {model._meta.label: screen for model, screen in admin.site._registry.items()}


def actions_of(screen: admin.ModelAdmin) -> list:
    names = ("actions_list", "actions_row", "actions_detail", "actions_submit_line", "actions")
    return [getattr(screen, each) for name in names for each in (getattr(screen, name, ()) or ())]


def address(case: tuple[str, str, str], world: staff.World) -> str:
    _, operation, row = case
    return staff.page(world.rows[row], operation)


class TestEveryScreen:
    def test_stands_on_the_common_base_and_has_its_row_in_the_tables_above(self):
        assert set(screens()) == set(LISTS)
        assert all(isinstance(screen, EngineAdmin) for screen in screens().values())
        declared = {
            (label, operation.name)
            for label, screen in screens().items()
            for operation in screen.operations
        }
        assert declared == {(label, name) for label, name, _ in ALLOWED}

    def test_has_no_action_but_its_operations_each_with_its_permission(self):
        for screen in screens().values():
            actions = actions_of(screen)
            assert [each.operation for each in actions] == list(screen.operations)
            for each in actions:
                assert each.allowed_permissions == [each.operation.name]
                assert re.fullmatch(
                    r"(core|subscriptions|metering|resources|billing)\.\w+",
                    each.operation.permission,
                )

    def test_asks_for_a_reason_wherever_it_acts(self):
        for screen in screens().values():
            for operation in screen.operations:
                asks = issubclass(operation.form, ReasonForm)
                assert asks != issubclass(operation, Inspection), operation.name
                assert issubclass(operation.form, OperationForm)

    def test_deletes_nothing(self, world):
        browser, before = staff.client(superuser=True), staff.rows()
        for row in world.rows.values():
            opts = row._meta
            answer = browser.post(
                f"/admin/{opts.app_label}/{opts.model_name}/{row.pk}/delete/", {"post": "yes"}
            )
            assert answer.status_code == 403
        assert staff.rows() == before


@pytest.fixture(scope="class")
def browsers(kept_world) -> dict[str | None, Client]:
    """Log in one of each role, and one without any."""
    return {role: staff.client(role) for role in (None, *ROLES)}


class TestPermissions:
    @pytest.mark.parametrize("case", sorted(ALLOWED), ids="-".join)
    def test_of_an_operation_are_the_roles_alone_and_never_given_by_being_staff(
        self, case, world, browsers
    ):
        before = staff.rows()
        values = staff.confirmed(**VALUES.get(case[1], {}))
        for role, browser in browsers.items():
            shown = browser.get(address(case, world))
            assert shown.status_code == (200 if role in ALLOWED[case] else 403), role
            if role not in ALLOWED[case]:
                assert browser.post(address(case, world), values).status_code == 403, role
        assert Client().post(address(case, world), values).status_code == 302
        assert staff.rows() == before

    @pytest.mark.parametrize("role", sorted(ROLES))
    def test_of_a_list_are_the_roles_alone(self, role, browsers):
        for label, allowed in LISTS.items():
            expected = 200 if role in allowed else 403
            assert browsers[role].get(staff.listed(label)).status_code == expected, label

    def test_of_everything_are_the_superusers_and_the_sidebar_shows_what_one_may_see(self, world):
        shown = staff.client("read-only").get("/admin/").content.decode()
        assert "/admin/core/customer/" in shown
        assert "/admin/core/servicekey/" not in shown
        assert "/admin/core/servicekey/" in staff.client("owner").get("/admin/").content.decode()


class TestOperation:
    @pytest.mark.parametrize("case", sorted(ALLOWED), ids="-".join)
    def test_changes_nothing_on_get_nor_before_it_is_confirmed_nor_without_a_reason(
        self, case, world
    ):
        browser, before = staff.client(superuser=True), staff.rows()
        values = staff.confirmed(**VALUES.get(case[1], {}))
        unconfirmed = {name: value for name, value in values.items() if name != "_confirmed"}
        assert browser.get(address(case, world), values).status_code == 200
        assert browser.head(address(case, world), values).status_code == 200
        assert browser.post(address(case, world), unconfirmed).status_code == 200
        assert browser.post(address(case, world), values | {"reason": " "}).status_code == 200
        assert staff.rows() == before
        assert LogEntry.objects.count() == 0

    @pytest.mark.parametrize("case", ACTING, ids="-".join)
    def test_stands_in_the_audit_log_with_actor_and_reason(self, case, world, at):
        label, name, row = case
        if name == "migrate_subscribers":
            Subscription.objects.filter(pk=world.active.pk).update(plan_version=world.archived)
        browser = staff.client(superuser=True)
        if name in AFTER:
            before = address((label, AFTER[name], row), world)
            assert browser.post(before, staff.confirmed()).status_code == 302
        latest = AuditEntry.objects.order_by("-id").first()
        now = world.booking.starts_at if name in AT_START else at
        with clock.overridden(factories.standing(now)):
            values = staff.confirmed(**VALUES.get(name, {}))
            answer = browser.post(address(case, world), values)
        assert answer.status_code == (200 if name == "rotate_key" else 302)
        entries = AuditEntry.objects.filter(id__gt=latest.pk if latest else UUID(int=0))
        assert {each.actor for each in entries} == {f"staff {browser.session['_auth_user_id']}"}
        assert "a ticket asks for it" in {each.reason for each in entries}
        assert {each.request_id for each in entries} == {answer["X-Request-Id"]}
        assert any(each.before != each.after for each in entries) or name in TELLING_NOTHING

    def test_refuses_a_form_from_elsewhere(self, world):
        browser, before = staff.client(superuser=True, csrf=True), staff.rows()
        answer = browser.post(staff.page(world.active, "cancel_now"), staff.confirmed())
        assert answer.status_code == 403
        assert answer["Content-Type"].startswith("text/html")
        assert "token is missing" in answer.content.decode()
        assert staff.rows() == before

    def test_of_a_row_that_is_not_there_is_not_found(self, world):
        gone = staff.page(world.key, "revoke_key").replace(str(world.key.pk), "7")
        answer = staff.client(superuser=True).get(gone)
        assert answer.status_code == 404
        assert answer["Content-Type"].startswith("text/html")
        assert answer["X-Request-Id"] in answer.content.decode()

    def test_is_offered_where_the_row_and_the_role_let_it_make_sense(self, world):
        path = f"/admin/subscriptions/subscription/{world.waiting.pk}/mark-paid/"
        for role, is_shown in (("finance", True), ("support", False)):
            shown = staff.client(role).get(staff.page(world.waiting))
            assert (path in shown.content.decode()) is is_shown
        settled = staff.client("finance").get(staff.page(world.active))
        assert "mark-paid" not in settled.content.decode()


class TestServiceKeys:
    VALUES = {"name": "worker", "scopes": ["usage:write"], "expires_at_0": "", "expires_at_1": ""}

    def test_show_their_secret_once_and_work(self, at):
        browser = staff.client("owner")
        told = browser.post("/admin/core/servicekey/add/", {**self.VALUES, "reason": "new"})
        assert "usage:write" in told.content.decode()
        assert not ServiceKey.objects.filter(name="worker").exists()
        made = browser.post("/admin/core/servicekey/add/", staff.confirmed(**self.VALUES))
        credential = re.search(r'id="secret">([^<]+)<', made.content.decode()).group(1)
        found = service_keys.authenticate(credential=credential, clock=factories.standing(at))
        assert (found.name, found.scopes) == ("worker", ["usage:write"])
        assert "no-store" in made["Cache-Control"]
        assert LogEntry.objects.get().get_change_message().endswith("a ticket asks for it")
        page = browser.get(staff.page(found)).content.decode()
        assert credential.partition(".")[2] not in page
        assert found.secret_hash not in page

    def test_are_refused_with_what_is_wrong(self):
        browser, before = staff.client("owner"), staff.rows()
        past = {**self.VALUES, "expires_at_0": "2020-01-01", "expires_at_1": "00:00"}
        answer = browser.post("/admin/core/servicekey/add/", staff.confirmed(**past))
        assert answer.status_code == 409
        assert "The expiry has passed." in answer.content.decode()
        for wrong in ({"scopes": ["all:things"]}, {"scopes": []}, {"name": ""}):
            browser.post("/admin/core/servicekey/add/", staff.confirmed(**{**self.VALUES, **wrong}))
        assert staff.rows() == before

    def test_are_rotated_with_an_overlap_and_shown_once(self, at):
        old = factories.make_service_key()
        browser = staff.client("owner")
        address = staff.page(old.service_key, "rotate_key")
        told = browser.post(address, {"overlap_seconds": "3600", "reason": "yearly"})
        assert "works for 3,600 seconds more" in told.content.decode()
        made = browser.post(address, staff.confirmed(overlap_seconds="3600"))
        credential = re.search(r'id="secret">([^<]+)<', made.content.decode()).group(1)
        for each in (credential, old.credential):
            service_keys.authenticate(credential=each, clock=factories.standing(at))
        later = factories.standing(at + timedelta(seconds=3600))
        with pytest.raises(errors.Unauthenticated):
            service_keys.authenticate(credential=old.credential, clock=later)
        entry = AuditEntry.objects.get(action="service_key.rotated")
        assert entry.actor.startswith("staff ")
        assert entry.reason == "a ticket asks for it"

    def test_end_when_revoked(self, at):
        key = factories.make_service_key().service_key
        answer = staff.client("owner").post(staff.page(key, "revoke_key"), staff.confirmed())
        key.refresh_from_db()
        assert (answer.status_code, key.is_usable(at=at)) == (302, False)


class TestAuditLog:
    def test_shows_what_was_and_what_is_without_secrets(self, at):
        key = factories.make_service_key().service_key
        owner = staff.client("owner")
        owner.post(staff.page(key, "revoke_key"), staff.confirmed())
        entry = AuditEntry.objects.get(action="service_key.revoked")
        shown = owner.get(staff.page(entry)).content.decode()
        assert "revoked_at" in shown
        assert "a ticket asks for it" in shown
        assert key.secret_hash not in shown
        assert owner.post(staff.page(entry), {"reason": "x"}).status_code == 403

    @pytest.mark.parametrize("by", ["actor", "object_id", "request_id"])
    def test_is_searched_by_actor_object_and_request(self, by, at):
        key = factories.make_service_key().service_key
        factories.make_service_key()
        owner = staff.client("owner")
        owner.post(staff.page(key, "revoke_key"), staff.confirmed())
        entry = AuditEntry.objects.get(action="service_key.revoked")
        found = owner.get("/admin/core/auditentry/", {"q": getattr(entry, by)})
        rows = list(found.context["cl"].result_list)
        assert entry in rows
        assert all(getattr(row, by) == getattr(entry, by) for row in rows)


class TestUsers:
    def test_get_a_password_by_the_service_which_revokes_their_tokens(self, at):
        user = factories.make_user(at=at)
        factories.pair_for(user, at=at)
        for address in (
            staff.page(user, "set_password"),
            f"/admin/core/user/{user.pk}/password/",
        ):
            before = User.objects.get(pk=user.pk)
            answer = staff.client("owner").post(
                address, staff.confirmed(password="another long passphrase")
            )
            after = User.objects.get(pk=user.pk)
            assert answer.status_code == 302
            assert after.check_password("another long passphrase")
            assert after.token_version == before.token_version + 1

    def test_that_are_superusers_are_touched_by_superusers_alone(self, at):
        boss = User.objects.create_superuser(username="boss", email="b@example.com", password="x")
        owner = staff.client("owner")
        sent = staff.confirmed(password="another long passphrase")
        assert owner.post(staff.page(boss, "set_password"), sent).status_code == 403
        assert owner.post(f"/admin/core/user/{boss.pk}/password/", sent).status_code == 403
        assert owner.post(staff.page(boss), {"username": "b"}).status_code == 403
        assert User.objects.get(pk=boss.pk).password == boss.password

    def test_are_made_superusers_by_superusers_alone(self, at):
        user = factories.make_user(at=at)
        form = {
            "username": user.username,
            "email": user.email,
            "is_active": "on",
            "is_superuser": "on",
            "reason": "more to do",
            "memberships-TOTAL_FORMS": "0",
            "memberships-INITIAL_FORMS": "0",
        }
        address = staff.page(user)
        assert staff.client("owner").post(address, form).status_code == 302
        assert User.objects.get(pk=user.pk).is_superuser is False
        assert staff.client(superuser=True).post(address, form).status_code == 302
        assert User.objects.get(pk=user.pk).is_superuser is True

    def test_are_made_with_a_hashed_password_and_log_in(self):
        form = {"username": "kim", "email": "kim@example.com", "usable_password": "true"}
        form |= dict.fromkeys(("password1", "password2"), "another long passphrase")
        form |= {"reason": "a new colleague"}
        assert staff.client("owner").post("/admin/core/user/add/", form).status_code == 302
        found = login.find_user(login="KIM@example.com")
        assert found.check_password("another long passphrase")


class TestOutbox:
    def test_is_read_only_and_shows_the_payload(self, world):
        event = OutboxEvent.objects.filter(customer=world.customer).first()
        owner, before = staff.client("owner"), staff.rows()
        shown = owner.get(staff.page(event))
        assert str(world.active.pk) in shown.content.decode()
        assert owner.post(staff.page(event), {}).status_code == 403
        assert owner.get("/admin/core/outboxevent/add/").status_code == 403
        assert staff.rows() == before
