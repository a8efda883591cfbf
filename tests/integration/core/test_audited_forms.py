"""What staff edit in a form of the admin stands in the audit log: row, lines and reason."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import RequestFactory

from core.models import AuditEntry, User
from subscriptions.models import Feature
from tests import staff

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock")]
WHY = "a ticket asks for it"
CHANGES = {
    "billing.Issuer": ("issuer", {"tax_id": "DE 1"}),
    "core.User": ("user", {"first_name": "Kim"}),
    "resources.BookingPolicy": ("policy", {"days_ahead": "7"}),
    "resources.Resource": ("court", {"buffer_after_minutes": "5"}),
    "resources.ResourceType": ("resource_type", {"minutes_max": "90"}),
    "resources.Venue": ("venue", {"name": "The club"}),
    "subscriptions.Feature": ("feature", {"name": "Calls"}),
    "subscriptions.Plan": ("plan", {"description": "For teams"}),
    "subscriptions.PlanGroup": ("group", {"name": "The main one"}),
    "subscriptions.PlanVersion": ("draft", {"trial_days": "3"}),
}
OWN_PAGES = {"core.ServiceKey", "metering.Meter"}  # they are made by operations
ADDED = {
    "core.User": {
        "username": "kim",
        "email": "kim@example.com",
        "usable_password": "true",
        "password1": "another long passphrase",
        "password2": "another long passphrase",
    },
    "resources.BookingPolicy": {"type": "resource_type", "plan": "plan"},
    "resources.Resource": {"venue": "venue", "type": "resource_type", "name": "C9", "key": "c9"},
    "resources.ResourceType": {
        "name": "Table",
        "key": "table",
        "feature": "feature",
        "minutes_min": "30",
        "minutes_max": "60",
        "grid_minutes": "30",
    },
    "resources.Venue": {"name": "Hall", "key": "hall", "time_zone": "UTC"},
    "subscriptions.Feature": {"key": "seats", "name": "Seats", "type": "boolean"},
    "subscriptions.Plan": {"key": "big", "name": "Big", "plan_group": "group"},
    "subscriptions.PlanGroup": {"key": "extra", "name": "Extra"},
}


def screens(*, adding: bool) -> set[str]:
    """Return the screens on which a superuser may add, or change, a row."""
    request = RequestFactory().get("/")
    request.user = User(is_superuser=True, is_active=True, is_staff=True)
    return {
        model._meta.label
        for model, screen in admin.site._registry.items()
        if (screen.has_add_permission if adding else screen.has_change_permission)(request)
    }


def filled(shown: Any) -> dict[str, Any]:
    """Return what a browser sends of a form that nobody touched."""
    context = shown.context
    formsets = [each.formset for each in context["inline_admin_formsets"]]
    forms = [context["adminform"].form]
    forms += [form for each in formsets for form in (each.management_form, *each.initial_forms)]
    sent = {}
    for form in forms:
        for bound in form:
            value = bound.value()
            widget = bound.field.widget
            names = [bound.html_name]
            if hasattr(widget, "decompress"):
                value, names = widget.decompress(value), [f"{names[0]}_{n}" for n in (0, 1)]
            else:
                value = [value]
            for name, each in zip(names, value, strict=True):
                if each is not None and each is not False:
                    sent[name] = "on" if each is True else each
    return sent


class TestForms:
    def test_have_each_their_case_here(self):
        assert screens(adding=False) == set(CHANGES)
        assert screens(adding=True) == set(ADDED) | OWN_PAGES

    @pytest.mark.parametrize("label", sorted(CHANGES))
    def test_of_a_row_ask_why_and_write_what_was_and_is(self, world, label):
        name, changed = CHANGES[label]
        row, browser = world.rows[name], staff.client(superuser=True)
        address, before = staff.page(row), staff.rows()
        sent = filled(browser.get(address)) | changed
        assert browser.post(address, sent).status_code == 200  # without a reason
        assert staff.rows() == before
        answer = browser.post(address, sent | {"reason": WHY})
        assert answer.status_code == 302, answer.context["errors"]
        entry = AuditEntry.objects.order_by("-id")[0]
        assert (entry.object_type, entry.object_id) == (label.lower(), str(row.pk))
        assert entry.actor == f"staff {browser.session['_auth_user_id']}"
        assert (entry.reason, entry.request_id) == (WHY, answer["X-Request-Id"])
        assert {key: str(value) for key, value in entry.after.items()} == changed
        assert set(entry.before) == set(changed)

    @pytest.mark.parametrize("label", sorted(ADDED))
    def test_that_make_a_row_write_it_with_the_reason(self, world, label):
        model = staff.screen_of(label).model
        address = f"/admin/{label.lower().replace('.', '/')}/add/"
        browser = staff.client(superuser=True)
        given = {
            name: getattr(world.rows.get(value), "pk", value)
            for name, value in ADDED[label].items()
        }
        sent = filled(browser.get(address)) | given | {"reason": WHY}
        answer = browser.post(address, sent)
        assert answer.status_code == 302, answer.context["errors"]
        made = model.objects.order_by("-pk")[0]
        entry = AuditEntry.objects.get(object_type=label.lower(), object_id=str(made.pk))
        assert (entry.reason, entry.before) == (WHY, {})
        assert entry.action.endswith(".created")
        assert entry.after["id"] == made.pk


class TestLines:
    def test_that_are_made_changed_and_removed_are_written_each(self, world):
        browser, version = staff.client(superuser=True), world.draft
        kept = version.entitlements.get()
        gone = version.prices.get()
        other = Feature.objects.get(key="sso")
        sent = filled(browser.get(staff.page(version))) | {
            "entitlements-0-limit_units": "77",
            "entitlements-TOTAL_FORMS": "2",
            "entitlements-1-feature": other.pk,
            "entitlements-1-enabled": "on",
            "entitlements-1-reset_interval": "month",
            "entitlements-1-reset_count": "1",
            "entitlements-1-mode": "hard",
            "entitlements-1-priority": "0",
            "entitlements-1-rollover_min_units": "0",
            "prices-0-DELETE": "on",
            "reason": WHY,
        }
        answer = browser.post(staff.page(version), sent)
        assert answer.status_code == 302, answer.context["errors"]
        entries = {each.action: each for each in AuditEntry.objects.filter(reason=WHY)}
        assert set(entries) == {"entitlement.changed", "entitlement.created", "price.removed"}
        changed = entries["entitlement.changed"]
        assert (changed.object_id, changed.before) == (str(kept.pk), {"limit_units": 9})
        assert changed.after == {"limit_units": 77}
        assert entries["entitlement.created"].after["feature_id"] == other.pk
        assert entries["price.removed"].before["id"] == gone.pk
        assert entries["price.removed"].after == {}

    def test_of_a_role_given_are_written(self, world):
        browser = staff.client(superuser=True)
        sent = filled(browser.get(staff.page(world.user)))
        sent |= {"groups": [Group.objects.get(name="support").pk], "reason": WHY}
        assert browser.post(staff.page(world.user), sent).status_code == 302
        entry = AuditEntry.objects.get(reason=WHY)
        assert (entry.before, entry.after) == ({"groups": []}, {"groups": ["support"]})

    def test_are_not_written_where_nothing_changed(self, world):
        browser, before = staff.client(superuser=True), AuditEntry.objects.count()
        sent = filled(browser.get(staff.page(world.plan)))
        assert browser.post(staff.page(world.plan), sent | {"reason": WHY}).status_code == 302
        assert AuditEntry.objects.count() == before


def test_who_may_only_look_is_not_asked_for_a_reason(world):
    shown = staff.client("read-only").get(staff.page(world.plan))
    assert shown.status_code == 200
    assert 'name="reason"' not in shown.content.decode()
