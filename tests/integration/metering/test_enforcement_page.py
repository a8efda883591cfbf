"""docs/enforcement.md: every example runs, in its order, and does what the page says."""

import json
import re
from pathlib import Path

import pytest
from django.db import transaction
from django.template import Context, Template
from django.test import RequestFactory
from rest_framework.test import APIRequestFactory

from metering import errors
from metering.enforcement.middleware import EntitlementsMiddleware
from metering.models import Balance
from metering.services import holds, owned_holds
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock", "plans")]
PAGE = (Path(__file__).resolve().parents[3] / "docs" / "enforcement.md").read_text()
BLOCK = re.compile(r"^```(python|django)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def plans(at):
    factories.make_plan("free", at=at, limits={"api_calls": 1})
    factories.make_plan(
        "pro",
        at=at,
        limits={"api_calls": 4, "tokens": 4000, "exports": 1},
        price_minor=100,
        booleans={"reports_pdf": True, "sso": True},
        statics={"search_per_minute": 2},
    )


@pytest.fixture
def page():
    names: dict[str, object] = {}
    for language, text in BLOCK.findall(PAGE):
        if language == "python":
            exec(compile(text, "docs/enforcement.md", "exec"), names)
    return names


@pytest.fixture
def user(page, at):
    return page["subscriber"](factories.make_user(at=at))


@pytest.fixture
def customer(user):
    return factories.customer_of(user)


def units(customer, feature="api_calls"):
    row = Balance.objects.get(customer=customer, feature__key=feature)
    return row.used_units, row.held_units


def by_session(user, path="/", **headers):
    request = RequestFactory().get(path, headers=headers)
    request.user = user
    return request


def ask(view, user, method="get", body=None):
    token = factories.client_for(user)._credentials["HTTP_AUTHORIZATION"]
    request = getattr(APIRequestFactory(), method)("/", body, HTTP_AUTHORIZATION=token)
    return view.as_view()(request)


class TestPage:
    def test_stages_a_subscriber(self, customer):
        assert units(customer) == (2, 0)

    def test_charges_a_view_that_succeeds(self, page, user, customer):
        assert page["report"](by_session(user)).status_code == 400
        assert units(customer) == (2, 0)
        assert page["report"](by_session(user, "/?month=3")).status_code == 200
        assert units(customer) == (3, 0)

    def test_charges_before(self, page, user, customer):
        answer = ask(page["Translate"], user, "post", {"text": "court"})
        assert answer.data == {"text": "COURT"}
        assert units(customer) == (4, 0)
        refused = ask(page["Translate"], user, "post", {"text": "court"})
        assert (refused.status_code, refused.data["code"]) == (403, "usage_limit_reached")
        assert units(customer) == (4, 0)

    def test_charges_whom_a_callable_finds(self, page, customer):
        request = RequestFactory().get("/", headers={"X-Workspace": customer.external_key})
        assert page["webhook"](request).status_code == 200
        assert units(customer) == (3, 0)

    def test_counts_in_the_transaction_that_stands(self, page, user, customer):
        with transaction.atomic():
            assert page["publish"](by_session(user)).status_code == 200
        assert units(customer) == (3, 0)

    def test_opens_a_view_by_plan(self, page, user, at):
        assert ask(page["Report"], user).status_code == 200
        refused = ask(page["Report"], factories.make_user(at=at))
        assert (refused.status_code, refused.data["code"]) == (403, "feature_not_in_plan")

    def test_limits_how_often(self, page, user):
        assert [ask(page["Search"], user).status_code for _ in range(3)] == [200, 200, 429]

    def test_captures_what_was_needed(self, page, customer):
        assert page["answer"](customer, "a" * 100) == 1000
        assert units(customer, "tokens") == (1000, 0)
        with pytest.raises(errors.UsageLimitReached):
            page["answer"](customer, "b")
        assert units(customer, "tokens") == (1000, 0)

    def test_counts_with_the_rows_of_a_caller(self, page, customer, at):
        class Document:
            def save(self):
                customer.name = "exported"
                customer.save()

        assert page["export"](customer, Document()) == at
        assert units(customer, "exports") == (1, 0)
        with pytest.raises(errors.UsageLimitReached):
            page["export"](customer, Document())
        assert units(customer, "exports") == (1, 0)

    def test_names_the_hold_of_a_transaction(self):
        assert "`owned_holds.exchange_step`" in PAGE
        assert callable(owned_holds.exchange_step)
        assert str(holds.TTL_SECONDS_DEFAULT) in PAGE

    def test_shows_what_somebody_may(self, page, user):
        request = by_session(user)
        answer = EntitlementsMiddleware(page["dashboard"])(request)
        assert json.loads(answer.content) == {
            "may_sign_on": True,
            "may_ask_twice": True,
            "searches": 2,
            "used": 2,
        }

    def test_renders_its_template(self, page, user):
        (source,) = [text for language, text in BLOCK.findall(PAGE) if language == "django"]
        request = by_session(user)
        EntitlementsMiddleware(lambda _: None)(request)
        shown = Template(source).render(Context({"request": request}))
        assert '<a href="/sso/">' in shown
        assert '<progress max="4" value="2" aria-label="api_calls">' in shown
