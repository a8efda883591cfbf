"""`manage.py explain` says what the API says, by the same code."""

import io
import json
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from metering.models import Balance, UsageEntry
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("standing_clock")]
STARTED = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def user():
    factories.make_plan("free", at=STARTED, limits={"api_calls": 10}, booleans={"sso": False})
    user = factories.make_user(at=STARTED, username="ada")
    factories.consume(factories.customer_of(user), 4, at=STARTED)
    return user


def explain(*options: str, customer: str = "of ada") -> str:
    out = io.StringIO()
    call_command("explain", "--customer", customer, *options, stdout=out)
    return out.getvalue()


def everything():
    return [list(model.objects.order_by("id").values()) for model in (Balance, UsageEntry)]


class TestExplain:
    @pytest.mark.parametrize(
        "question",
        [{}, {"units": "6"}, {"units": "7"}, {"units": "7", "at": "2026-04-02T00:00:00Z"}],
    )
    def test_answers_in_json_what_the_api_answers(self, user, question):
        before = everything()
        options = [text for name, value in question.items() for text in (f"--{name}", value)]
        said = json.loads(explain("--feature", "api_calls", "--json", *options))
        url = "/api/entitlements/api_calls/explain/"
        assert said == factories.client_for(user).get(url, question).json()
        assert said["feature"] == "api_calls"
        assert everything() == before

    def test_says_yes_in_sentences(self, user):
        lines = explain("--feature", "api_calls", "--units", "6").splitlines()
        assert lines[:2] == ["Yes.", "The rule that decides: used + held + units ≤ limit."]
        assert lines[-1] == "6 units asked: allowed."

    def test_says_no_in_sentences(self, user):
        lines = explain("--feature", "api_calls", "--units", "7").splitlines()
        assert lines[0] == "No: usage_limit_reached."
        assert "4 units are used and 0 held in it, under a limit of 10." in lines

    def test_explains_a_switch(self, user):
        assert explain("--feature", "sso").splitlines()[0] == "No: feature_not_in_plan."

    def test_takes_the_customer_s_id_too(self, user):
        named = str(factories.customer_of(user).pk)
        assert explain("--feature", "api_calls", customer=named).startswith("Yes.")

    def test_asks_for_the_entity_where_there_is_one(self, user):
        with pytest.raises(CommandError, match="invalid: api_calls is counted for the customer"):
            explain("--feature", "api_calls", "--entity", "robot")

    @pytest.mark.parametrize(
        ("options", "code"),
        [
            (["--feature", "api_callz"], "feature_unknown"),
            (["--feature", "api_calls", "--units", "0"], "invalid"),
            (["--feature", "api_calls", "--units", "1e3"], "invalid"),
            (["--feature", "api_calls", "--at", "2026-04-02T00:00:00"], "naive_datetime"),
            (["--feature", "api_calls", "--at", "tomorrow"], "invalid"),
        ],
    )
    def test_refuses_what_the_api_refuses(self, user, options, code):
        with pytest.raises(CommandError, match=rf"^{code}: "):
            explain(*options)

    def test_refuses_a_customer_that_is_not_there(self, user):
        with pytest.raises(CommandError, match=r"^not_found: "):
            explain("--feature", "api_calls", customer="nobody")
