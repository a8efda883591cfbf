"""The audit log: written with the change, readable, and never rewritten."""

import io
import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction
from rest_framework.test import APIClient

from core import clock, db
from core.actors import Actor
from core.models import AuditEntry, ServiceKey
from core.services import audit, service_keys
from subscriptions.models import PlanVersion
from subscriptions.services import catalog
from tests import factories

pytestmark = pytest.mark.django_db
ACTOR = Actor(name="user 1", reason="leaked", request_id="r1")


@pytest.fixture
def key(at) -> ServiceKey:
    made = service_keys.create(
        name="backend",
        scopes=("usage:write",),
        expires_at=None,
        actor=ACTOR,
        clock=factories.standing(at),
    )
    return made.service_key


class TestRecord:
    def test_keeps_who_what_why_and_what_differs(self, key, at):
        service_keys.revoke(service_key=key, actor=ACTOR, clock=factories.standing(at))
        entry = AuditEntry.objects.get(action="service_key.revoked")
        assert audit.line(entry) == {
            "id": str(entry.pk),
            "at": clock.rfc3339(at),
            "actor": "user 1",
            "action": "service_key.revoked",
            "object_type": "core.servicekey",
            "object_id": str(key.pk),
            "before": {"revoked_at": None},
            "after": {"revoked_at": clock.rfc3339(at)},
            "reason": "leaked",
            "request_id": "r1",
        }

    def test_keeps_no_secret(self, key):
        entry = AuditEntry.objects.get(action="service_key.created")
        assert entry.after["secret_hash"] == "[redacted]"
        assert entry.after["prefix"] == key.prefix
        assert key.secret_hash not in str(entry.after)

    def test_commits_with_the_change_or_not_at_all(self, key, at):
        def fail_after_recording():
            with transaction.atomic():
                audit.record_step(actor=ACTOR, action="x.y", row=key, at=at)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail_after_recording()
        assert not AuditEntry.objects.filter(action="x.y").exists()

    @pytest.mark.django_db(transaction=True)
    def test_needs_a_transaction(self, key, at):
        with pytest.raises(RuntimeError, match="transaction"):
            audit.record_step(actor=ACTOR, action="x.y", row=key, at=at)

    def test_is_never_rewritten(self, key):
        with pytest.raises(DatabaseError, match="append"), transaction.atomic():
            AuditEntry.objects.update(actor="nobody")
        if db.is_postgres():
            with pytest.raises(DatabaseError, match="append"), transaction.atomic():
                AuditEntry.objects.all().delete()
        assert AuditEntry.objects.get().actor == "user 1"

    def test_of_the_catalog_names_the_actor(self, at):
        plan = factories.make_plan("pro", at=at, publish=False)
        version = PlanVersion.objects.get()
        standing = factories.standing(at)
        catalog.publish(plan_version_id=version.pk, actor=ACTOR, clock=standing)
        catalog.draft(plan_id=plan.pk, actor=ACTOR, clock=standing)
        catalog.archive_version(plan_version_id=version.pk, actor=ACTOR, clock=standing)
        catalog.archive_plan(plan_id=plan.pk, actor=ACTOR, clock=standing)
        catalog.archive_plan(plan_id=plan.pk, actor=ACTOR, clock=standing)
        feature = factories.make_feature("api_calls", at=at)
        catalog.archive_feature(feature_id=feature.pk, actor=ACTOR, clock=standing)
        actions = AuditEntry.objects.filter(actor="user 1").order_by("id")
        assert list(actions.values_list("action", flat=True)) == [
            "plan_version.published",
            "plan_version.drafted",
            "plan_version.archived",
            "plan.archived",
            "feature.archived",
        ]


class TestExport:
    def exported(self, **options) -> list[dict]:
        out = io.StringIO()
        call_command("auditlog", stdout=out, **options)
        return [json.loads(line) for line in out.getvalue().splitlines()]

    def test_writes_a_line_an_entry_oldest_first(self, key, at):
        later = at + timedelta(hours=1)
        service_keys.revoke(service_key=key, actor=ACTOR, clock=factories.standing(later))
        actions = [each["action"] for each in self.exported()]
        assert actions == ["service_key.created", "service_key.revoked"]
        assert len(self.exported(since=clock.rfc3339(later))) == 1
        assert len(self.exported(until=clock.rfc3339(later))) == 1
        assert self.exported(actor="nobody") == []
        assert len(self.exported(action="service_key.revoked", object_id=str(key.pk))) == 1

    @pytest.mark.parametrize("text", ["yesterday", "2026-11-01T00:00:00"])
    def test_refuses_what_is_no_instant(self, text):
        with pytest.raises(CommandError):
            self.exported(since=text)


class TestApi:
    PATH = "/api/audit/"

    def staff(self, *permissions) -> APIClient:
        user = factories.make_user(at=clock.DatabaseClock().now())
        user.is_staff = True
        user.save()
        for name in permissions:
            user.user_permissions.add(Permission.objects.get(codename=name))
        return factories.client_for(user)

    def test_lists_newest_first_for_staff_who_may(self, key, at, django_assert_num_queries):
        client = self.staff("view_auditentry")
        with django_assert_num_queries(4):
            answer = client.get(self.PATH, {"object_type": "core.servicekey"})
        assert answer.status_code == 200
        assert [each["action"] for each in answer.json()["results"]] == ["service_key.created"]
        assert client.get(self.PATH, {"since": "2026-01-01T00:00:00"}).status_code == 400

    def test_refuses_everybody_else(self, key, at):
        user = factories.client_for(factories.make_user(at=clock.DatabaseClock().now()))
        for client in (self.staff(), user, factories.service_client()):
            answer = client.get(self.PATH)
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert APIClient().get(self.PATH).status_code == 401
