"""The doctor finds what is wrong and names the remedy; weak settings do not start."""

import dataclasses
import io
import json
from datetime import timedelta
from unittest import mock
from uuid import UUID

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from core import checks, clock, db
from core.models import Mail, OutboxDelivery, OutboxEvent, ServiceKey, WorkFailure
from core.services import doctor

pytestmark = pytest.mark.django_db
GOOD = {
    "DEBUG": False,
    "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijkl",
    "JWT_SIGNING_KEY": "0123456789abcdefghijklmnopqrstuvwxyz",
}


@pytest.fixture(autouse=True)
def _unsynced_server(monkeypatch) -> None:
    """Let the server of the suite leave its disk unsynced: no test cuts the machine's power."""
    monkeypatch.setattr(doctor, "DURABLE", [each for each in doctor.DURABLE if each != "fsync"])


def found(name) -> list[doctor.Finding]:
    return [each for each in doctor.examine() if each.name == name]


def grades(name) -> set[str]:
    return {each.grade for each in found(name)}


class TestDoctor:
    def test_finds_a_sound_engine_healthy(self):
        assert doctor.is_healthy(doctor.examine())
        for name in ("migrations", "clock", "mail", "redis"):
            assert grades(name) == {"ok"}

    def test_finds_a_database_that_does_not_answer(self):
        with mock.patch.object(doctor, "_database", side_effect=OperationalError("gone")):
            findings = doctor.examine()
        assert not doctor.is_healthy(findings)
        assert findings[-1].name == "database"
        assert "DATABASE_URL" in findings[-1].remedy

    def test_finds_missing_migrations_and_reads_no_table(self):
        planned = mock.Mock(migration_plan=mock.Mock(return_value=[1, 2]))
        with mock.patch.object(doctor, "MigrationExecutor", return_value=planned):
            findings = doctor.examine()
        assert findings[-1].detail == "2 are not applied"
        assert not doctor.is_healthy(findings)

    @pytest.mark.postgres
    def test_finds_acknowledged_usage_in_danger(self):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off")
        assert [each.grade for each in found("durability")] == ["error"]

    def test_finds_a_trigger_gone(self):
        table = " ON core_auditentry" if db.is_postgres() else ""
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER audit_entry_append_only{table}")
        assert [each.grade for each in found("triggers")] == ["error"]

    def test_finds_a_clock_that_is_off(self, monkeypatch):
        wrong = clock.host_now() + timedelta(hours=25)
        monkeypatch.setattr(clock, "host_now", lambda: wrong)
        assert grades("clock") == {"warning"}

    def test_finds_redis_gone(self, settings):
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
        assert grades("redis") == {"warning"}

    @pytest.mark.redis
    def test_finds_redis_answering(self, settings, redis_url):
        settings.REDIS_URL = redis_url
        assert grades("redis") == {"ok"}

    def test_finds_mail_that_waits(self):
        at = clock.process_clock().now() - timedelta(hours=1)
        Mail.objects.create(kind="reset", address="a@example.com", created_at=at, due_at=at)
        assert grades("mail") == {"warning"}

    def test_finds_an_outbox_that_waits_and_work_that_is_parked(self):
        assert grades("outbox") == {"ok"}
        assert found("worker") == []
        now = clock.process_clock().now()
        event = OutboxEvent.objects.create(event_type="x", payload={}, occurred_at=now)
        made_at = int((now - timedelta(hours=1)).timestamp() * 1000)
        OutboxDelivery.objects.create(pk=UUID(int=made_at << 80), event=event, consumer="mail")
        WorkFailure.objects.create(job="outbox", key="1", attempts=10, failed_at=now, error="gone")
        assert grades("outbox") == {"warning"}
        assert "1 deliveries wait" in found("outbox")[0].detail
        assert grades("worker") == {"warning"}

    def test_finds_keys_that_expire_or_are_forgotten(self):
        now = clock.process_clock().now()
        for key, age, life in (("soon", 0, 13), ("idle", 100, 400), ("fine", 1, 400)):
            ServiceKey.objects.create(
                name=key,
                prefix=key,
                secret_hash="x",
                created_at=now - timedelta(days=age),
                expires_at=now + timedelta(days=life),
            )
        ServiceKey.objects.create(
            name="ended", prefix="ended", secret_hash="x", created_at=now, expires_at=now
        )
        details = " ".join(each.detail for each in found("service keys"))
        assert "soon" in details
        assert "idle" in details
        assert "fine" not in details
        assert "ended" not in details


class TestCommand:
    def run(self, *words) -> str:
        out = io.StringIO()
        call_command("doctor", *words, stdout=out)
        return out.getvalue()

    def test_prints_findings_for_people_and_machines(self):
        assert "ok       migrations: all applied" in self.run()
        body = json.loads(self.run("--json"))
        assert body["healthy"] is True
        assert {"name", "grade", "detail", "remedy"} == set(body["findings"][0])

    def test_fails_on_an_error_with_its_remedy(self):
        bad = doctor.Finding(name="x", grade="error", detail="broken", remedy="mend it")
        out = io.StringIO()
        with (
            mock.patch.object(doctor, "examine", return_value=[bad]),
            pytest.raises(CommandError),
        ):
            call_command("doctor", stdout=out)
        assert "mend it" in out.getvalue()


class TestSettings:
    def faults(self, settings, **changes) -> list[str]:
        for name, value in (GOOD | changes).items():
            setattr(settings, name, value)
        return [str(each.id) for each in checks.find_faults()]

    def test_that_are_sound_start(self, settings):
        assert self.faults(settings) == []
        checks.refuse_weak_settings()

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            ({"SECRET_KEY": "short"}, "engine.E004"),
            ({"SECRET_KEY": "a" * 60}, "engine.E004"),
            ({"JWT_SIGNING_KEY": "0123456789abcdef"}, "engine.E004"),
            ({"METRICS_TOKEN": "short"}, "engine.E004"),
            ({"ALLOWED_HOSTS": ["*"]}, "engine.E005"),
            ({"CORS_ALLOWED_ORIGINS": ["null"]}, "engine.E006"),
            ({"TRUSTED_PROXIES": ["0.0.0.0/0"]}, "engine.E003"),
            ({"TRUSTED_PROXIES": ["proxy"]}, "engine.E002"),
            ({"RATE_LIMIT_USER": "many"}, "engine.E001"),
        ],
    )
    def test_that_are_weak_do_not_start(self, settings, change, fault):
        assert self.faults(settings, **change) == [fault]
        with pytest.raises(ImproperlyConfigured):
            checks.refuse_weak_settings()

    def test_that_are_doubtful_are_warned_of(self, settings):
        engine = dataclasses.replace(settings.ENGINE, access_token_seconds=7200)
        assert self.faults(settings, ENGINE=engine) == ["engine.W001"]
        checks.refuse_weak_settings()

    def test_of_development_may_be_weak(self, settings):
        assert self.faults(settings, DEBUG=True, SECRET_KEY="x") == []
        assert checks.check_settings(None) == []
