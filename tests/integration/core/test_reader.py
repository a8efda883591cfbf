"""The admin shows and reads instants by the reader's clock, and names his zone."""

from datetime import UTC, datetime

import pytest
from django.utils import timezone

from core import zones
from core.admin.reader import ReaderZoneMiddleware
from core.models import AuditEntry, ServiceKey
from tests import factories, staff

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock")]
KEYS = "/admin/core/servicekey/"
VALUES = {"name": "worker", "scopes": ["usage:write"]}


@pytest.fixture
def browser():
    return staff.client(superuser=True)


def made(**fields):
    key = factories.make_service_key().service_key
    created_at = datetime(2026, 3, 10, 12, tzinfo=UTC)
    ServiceKey.objects.filter(pk=key.pk).update(created_at=created_at, **fields)


class TestZone:
    def test_is_that_of_the_browser_and_named(self, browser):
        made()
        browser.cookies["time_zone"] = "America/New_York"
        assert "2026-03-10 08:00:00 EDT" in browser.get(KEYS).content.decode()
        assert timezone.get_current_timezone_name() == "UTC"  # for whoever comes next

    @pytest.mark.parametrize("told", ["", "Mars/Olympus", "../../etc/passwd", "UTC\x00"])
    def test_is_utc_where_the_browser_tells_none(self, browser, told):
        made()
        browser.cookies["time_zone"] = told
        assert "2026-03-10 12:00:00 UTC" in browser.get(KEYS).content.decode()

    def test_is_that_of_what_is_entered_and_the_label_says_so(self, browser):
        browser.cookies["time_zone"] = "Europe/Berlin"
        assert "Expires at (Europe/Berlin)" in browser.get(f"{KEYS}add/").content.decode()
        entered = {"expires_at_0": "2026-07-01", "expires_at_1": "12:00"}
        told = browser.post(f"{KEYS}add/", {**VALUES, **entered, "reason": "new"})
        assert "until 2026-07-01 12:00 CEST" in told.content.decode()
        browser.post(f"{KEYS}add/", staff.confirmed(**VALUES, **entered))
        assert ServiceKey.objects.get(name="worker").expires_at == datetime(
            2026, 7, 1, 10, tzinfo=UTC
        )

    def test_is_of_no_concern_outside_the_admin(self, browser):
        browser.cookies["time_zone"] = "America/New_York"
        seen = []
        request = browser.get("/livez").wsgi_request
        ReaderZoneMiddleware(lambda _: seen.append(timezone.get_current_timezone_name()))(request)
        assert seen == ["UTC"]


class TestAuditLog:
    def test_names_who_acted_and_leads_to_what_he_changed(self, browser):
        key = factories.make_service_key().service_key
        browser.post(staff.page(key, "revoke_key"), staff.confirmed())
        entry = AuditEntry.objects.get(action="service_key.revoked")
        for address in ("/admin/core/auditentry/", staff.page(entry)):
            page = browser.get(address).content.decode()
            assert f"{entry.actor} (staff" in page
            assert f'href="{staff.page(key)}">service key</a>' in page


def test_no_request_reads_the_zones_of_the_machine_again(browser, monkeypatch):
    browser.get(KEYS)
    monkeypatch.setattr(zones, "available_timezones", None)
    browser.cookies["time_zone"] = "Europe/Berlin"
    assert browser.get(KEYS).status_code == 200
    assert browser.get("/api/plans/").status_code == 200
