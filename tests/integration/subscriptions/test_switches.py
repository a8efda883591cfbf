"""The emergency switch of a feature: reasoned, expiring, obeyed within two seconds."""

import io
import time
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from core import clock, errors
from core.actors import Actor
from core.models import AuditEntry
from subscriptions import errors as own_errors
from subscriptions import switches as copy
from subscriptions.models import FeatureSwitch
from subscriptions.services import switches
from tests import factories

pytestmark = pytest.mark.django_db
ACTOR = Actor(name="user 1", reason="runaway client")


@pytest.fixture
def feature(at, standing_clock):
    copy.forget()
    return factories.make_feature("api_calls", at=at)


def turn(at, *, state="deny", seconds=600, actor=ACTOR, key="api_calls") -> FeatureSwitch:
    done = switches.turn(
        feature_key=key,
        state=state,
        ttl_seconds=seconds,
        actor=actor,
        clock=factories.standing(at),
    )
    copy.forget()
    return done


def refused(feature) -> bool:
    try:
        copy.refuse_suspended(feature_id=feature.pk, feature_key=feature.key)
    except own_errors.FeatureSuspended:
        return True
    return False


class TestTurn:
    def test_denies_until_it_expires(self, feature, at):
        assert not refused(feature)
        turn(at)
        assert refused(feature)
        with clock.overridden(factories.standing(at + timedelta(seconds=600))):
            assert not refused(feature)
        entry = AuditEntry.objects.get()
        assert (entry.action, entry.reason) == ("feature.switched", "runaway client")

    def test_opens_to_all(self, feature, at):
        turn(at, state="allow")
        assert copy.is_open_to_all(feature.pk)
        assert not refused(feature)

    def test_replaces_the_one_before(self, feature, at):
        turn(at)
        turn(at + timedelta(seconds=5), state="allow")
        first, second = FeatureSwitch.objects.order_by("created_at")
        assert (first.ended_at, second.ended_at) == (at + timedelta(seconds=5), None)
        assert copy.is_open_to_all(feature.pk)

    @pytest.mark.parametrize(
        ("wrong", "pointer"),
        [
            ({"state": "maybe"}, "/state"),
            ({"seconds": 59}, "/ttl_seconds"),
            ({"seconds": switches.TTL_SECONDS_MAX + 1}, "/ttl_seconds"),
            ({"actor": Actor(name="x", reason=" ")}, "/reason"),
        ],
    )
    def test_refuses_what_is_not_valid(self, feature, at, wrong, pointer):
        with pytest.raises(errors.Invalid) as refusal:
            turn(at, **wrong)
        assert refusal.value.facts()["errors"][0]["pointer"] == pointer
        assert not FeatureSwitch.objects.exists()

    def test_refuses_an_unknown_feature(self, feature, at):
        with pytest.raises(own_errors.FeatureUnknown):
            turn(at, key="nope")
        with pytest.raises(own_errors.FeatureUnknown):
            switches.release(feature_key="nope", actor=ACTOR, clock=factories.standing(at))


class TestRelease:
    def release(self, at) -> bool:
        done = switches.release(feature_key="api_calls", actor=ACTOR, clock=factories.standing(at))
        copy.forget()
        return done

    def test_ends_the_switch_at_once(self, feature, at):
        turn(at)
        assert self.release(at + timedelta(seconds=1))
        assert not refused(feature)
        assert not self.release(at + timedelta(seconds=2))

    def test_tells_that_the_clock_was_first(self, feature, at):
        turn(at)
        assert not self.release(at + timedelta(seconds=601))
        assert FeatureSwitch.objects.get().ended_at == at + timedelta(seconds=600)


class TestCopy:
    def test_is_read_once_in_two_seconds(self, feature, at, django_assert_num_queries):
        with django_assert_num_queries(1):
            copy.state_of(feature.pk)
            copy.state_of(feature.pk)
        copy.remember({}, loaded_at=time.monotonic() - copy.AGE_SECONDS_MAX - 0.01)
        with django_assert_num_queries(1):
            copy.state_of(feature.pk)

    def test_that_cannot_be_read_lets_nobody_in(self, feature, monkeypatch):
        def gone():
            raise OperationalError

        monkeypatch.setattr(copy, "_load", gone)
        with pytest.raises(OperationalError):
            copy.state_of(feature.pk)


class TestUsage:
    def test_is_refused_unrecorded_and_replays_stand(self, feature, at):
        factories.make_plan("free", at=at)
        user = factories.make_user(at=at)
        client = factories.client_for(user)
        body = {"feature": "api_calls", "units": 1}

        def consume(key):
            return client.post("/api/usage/consume/", body, format="json", HTTP_IDEMPOTENCY_KEY=key)

        assert consume("k1").status_code == 200
        turn(at)
        answer = consume("k2")
        assert (answer.status_code, answer.json()["code"]) == (403, "feature_suspended")
        assert answer.json()["until"] == clock.rfc3339(at + timedelta(seconds=600))
        assert consume("k1").status_code == 200
        check = client.post("/api/usage/check/", body, format="json")
        assert check.json()["code"] == "feature_suspended"
        switches.release(feature_key="api_calls", actor=ACTOR, clock=factories.standing(at))
        copy.forget()
        again = consume("k2")
        assert (again.status_code, again.json()["used"]) == (200, 2)


class TestShown:
    """Switches and values obey as units do, wherever they are shown."""

    @pytest.fixture
    def client(self, at, feature):
        factories.make_plan("free", at=at, booleans={"sso": True}, statics={"region": "eu"})
        factories.make_feature("beta", at=at, kind="boolean")
        return factories.client_for(factories.make_user(at=at))

    def shown(self, client):
        copy.forget()
        found = client.get("/api/entitlements/").json()["entitlements"]
        beta = client.get("/api/entitlements/beta/").json()
        me = client.get("/api/subscriptions/me/").json()["features"]
        enabled = {key: found[key]["enabled"] for key in ("sso", "region", "api_calls")}
        return enabled | {"beta": beta["enabled"]}, me["sso"], me["region"]

    def test_are_off_where_denied_and_on_where_opened(self, client, at):
        on = {"sso": True, "region": True, "api_calls": True, "beta": False}
        assert self.shown(client) == (on, True, "eu")
        for key in ("sso", "region", "api_calls", "beta"):
            turn(at, key=key)
        assert self.shown(client) == (dict.fromkeys(on, False), False, None)
        for key in ("sso", "beta"):
            turn(at, key=key, state="allow")
        opened = dict.fromkeys(on, False) | {"sso": True, "beta": True}
        assert self.shown(client) == (opened, True, None)

    def test_change_the_tags(self, client, at):
        paths = ("/api/entitlements/", "/api/subscriptions/me/")
        tags = {path: client.get(path)["ETag"] for path in paths}
        turn(at, key="sso")
        for path in paths:
            assert client.get(path, HTTP_IF_NONE_MATCH=tags[path]).status_code == 200
            copy.forget()


class TestCommand:
    def run(self, *words) -> str:
        out = io.StringIO()
        call_command("switch", *words, "--reason", "test", stdout=out)
        return out.getvalue()

    def test_turns_and_releases(self, feature):
        assert "deny all until" in self.run("api_calls", "deny")
        assert "is off" in self.run("api_calls", "off")
        assert "no switch" in self.run("api_calls", "off")
        with pytest.raises(CommandError, match="nope"):
            self.run("nope", "deny")
