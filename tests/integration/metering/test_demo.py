"""The demo data: what the README promises, safe to repeat, refused outside development."""

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from core.models import User
from metering.models import Balance, UsageEntry
from subscriptions.models import Entitlement, Plan, Subscription
from tests import factories

pytestmark = pytest.mark.django_db


def test_stands_as_promised_and_repeating_changes_nothing(settings, capsys):
    settings.DEBUG = True
    call_command("demo")
    first = (list(Balance.objects.values()), UsageEntry.objects.count())
    call_command("demo")
    assert (list(Balance.objects.values()), UsageEntry.objects.count()) == first
    assert "alice / alice-demo-password" in capsys.readouterr().out
    alice = User.objects.get(username="alice")
    body = factories.client_for(alice).get("/api/subscriptions/me/").json()
    assert (body["plan"], body["limits"]["api_calls"], body["usage"]["api_calls"]) == (
        "Pro",
        1000,
        998,
    )
    limits = Entitlement.objects.filter(feature__key="api_calls").order_by("limit_units")
    assert list(limits.values_list("plan_version__plan__key", "limit_units")) == [
        ("free", 100),
        ("basic", 500),
        ("pro", 1000),
    ]
    assert User.objects.get(username="admin").is_superuser


def test_is_refused_outside_development_unless_forced(settings):
    settings.DEBUG = False
    with pytest.raises(CommandError, match="--force"):
        call_command("demo")
    assert not User.objects.exists()
    call_command("demo", "--force")
    assert Subscription.objects.count() == 1


def test_keeps_what_an_operator_made_of_it(settings):
    settings.DEBUG = True
    call_command("demo")
    Plan.objects.filter(key="pro").update(name="Professional")
    call_command("demo")
    assert Plan.objects.get(key="pro").name == "Professional"
