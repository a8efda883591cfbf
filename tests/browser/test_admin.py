"""The admin in a real browser, wide and narrow: nothing foreign, nothing cut off, all labelled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from core import clock
from core.models import Customer, User
from core.services import service_keys
from metering.models import Balance, UsageEntry
from metering.services import demo
from resources.models import Booking, Venue
from resources.services import demo as club
from subscriptions.models import Feature, Plan, PlanVersion, Subscription
from subscriptions.services import catalog
from tests import staff
from tests.integration.core.test_admin import LISTS

pytestmark = pytest.mark.django_db(transaction=True)

WIDTHS = (1440, 390)
LOGIN = {"username": "admin", "password": "admin-demo-password"}
UNLABELLED = """() => [...document.querySelectorAll('input, select, textarea')]
    .filter(each => each.type !== 'hidden' && each.offsetParent !== null)
    .filter(each => !(each.labels?.length || each.ariaLabel || each.title || each.placeholder))
    .map(each => each.name || each.outerHTML)"""


@dataclass
class Visit:
    """One browser page that keeps what went wrong, at each of its widths."""

    page: Any
    host: str
    widths: Sequence[int]
    faults: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        answer = self.page.goto(f"{self.host}{path}")
        if answer.status != 200:
            self.faults.append(f"{path}: {answer.status}")
        for width in self.widths:
            self.page.set_viewport_size({"width": width, "height": 900})
            over = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if over > 0:
                self.faults.append(f"{path}: {over} px wider than {width}")
            self.faults += [f"{path}: {each} has no label" for each in self.unlabelled()]

    def unlabelled(self) -> list[str]:
        names: list[str] = self.page.evaluate(UNLABELLED)
        return names


def visit(
    browser: Any, *, host: str, widths: Sequence[int] = WIDTHS, zone: str = "Europe/Berlin"
) -> Visit:
    view = {"width": widths[0], "height": 900}
    page = browser.new_context(viewport=view, timezone_id=zone).new_page()
    page.set_default_timeout(60_000)
    seen = Visit(page=page, host=host, widths=widths)
    own = (host, "data:", "blob:")
    page.on("request", lambda sent: sent.url.startswith(own) or seen.faults.append(sent.url))
    page.on(
        "response",
        lambda got: got.status < 400 or seen.faults.append(f"{got.status} {got.url}"),
    )
    page.on("pageerror", lambda error: seen.faults.append(str(error)))
    page.goto(f"{host}/admin/")
    for name, value in LOGIN.items():
        page.fill(f"[name={name}]", value)
    with page.expect_navigation():
        page.click("[type=submit]")
    return seen


@pytest.fixture
def host(live_server) -> str:
    """Serve the demo, with a draft beside it and a key."""
    real = clock.DatabaseClock()
    demo.fill(clock=real)
    club.fill(member=Customer.objects.get(), clock=real)
    catalog.draft(plan_id=Plan.objects.get(key="pro").pk, clock=real)
    service_keys.create(name="worker", scopes=["usage:write"], expires_at=None, clock=real)
    return live_server.url


def addresses() -> list[str]:
    """Return every kind of page once."""
    draft = PlanVersion.objects.get(status="draft")
    published = PlanVersion.objects.filter(status="published").first()
    customer, subscription = Customer.objects.get(), Subscription.objects.get()
    venue, booking = Venue.objects.get(), Booking.objects.get()
    rows = [
        customer,
        subscription,
        draft,
        published,
        *(model.objects.first() for model in (Plan, Feature, Balance, UsageEntry, User)),
    ]
    operations = [
        (draft, "publish_version"),
        (draft, "compare_versions"),
        (subscription, "cancel_now"),
        (customer, "start_plan"),
        (customer, "explain_decision"),
    ]
    return [
        "/admin/",
        *(staff.listed(label) for label in LISTS),
        *(f"/admin/{name}/add/" for name in ("core/servicekey", "subscriptions/feature")),
        *(staff.page(row) for row in rows),
        *(staff.page(row, operation) for row, operation in operations),
        f"{staff.page(venue, 'show_day')}?day={booking.starts_at:%Y-%m-%d}",
        staff.page(booking),
    ]


class TestPages:
    def test_ask_no_other_host_fit_the_window_and_label_every_field(self, chromium, host):
        seen = visit(chromium, host=host)
        for path in addresses():
            seen.open(path)
        assert seen.faults == []

    def test_would_be_found_reaching_out_too_wide_and_unlabelled(self, chromium, host):
        seen = visit(chromium, host=host)
        seen.page.evaluate(
            """() => { document.body.innerHTML = '<input name="bare"><p style="width: 3000px">-';
                       new Image().src = 'http://127.0.0.1:9/away.png'; }"""
        )
        assert seen.page.evaluate("document.documentElement.scrollWidth - innerWidth") > 0
        assert seen.unlabelled() == ["bare"]
        seen.page.wait_for_timeout(500)
        assert seen.faults == ["http://127.0.0.1:9/away.png"]


class TestZone:
    def test_is_the_browser_s_from_the_first_page_after_the_login(self, chromium, host):
        seen = visit(chromium, host=host, zone="Asia/Kolkata")
        seen.open("/admin/core/customer/")
        assert " IST" in seen.page.inner_text("#result_list")
        assert seen.faults == []


class TestOperation:
    def test_is_told_confirmed_and_done_by_hand(self, chromium, host):
        seen = visit(chromium, host=host, widths=WIDTHS[1:])
        subscription = Subscription.objects.get()
        seen.open(staff.page(subscription, "cancel_now"))
        assert "loses Pro at once" in seen.page.inner_text("#consequence")
        seen.page.fill("[name=reason]", "asked by phone")
        seen.page.click("button:has-text('Cancel now')")
        seen.page.get_by_text("The subscription is canceled.").first.wait_for(state="attached")
        subscription.refresh_from_db()
        assert (subscription.status, seen.faults) == ("canceled", [])
