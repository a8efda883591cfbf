"""Examine a running engine: what is wrong, how grave it is, and what to do."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import redis
from django.conf import settings
from django.core import checks
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from redis.exceptions import RedisError

from core import clock as clocks
from core import db
from core.models import Mail, OutboxDelivery, ServiceKey, WorkFailure

DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
POSTGRES_VERSION_MIN = 140_000
CLOCK_SKEW_SECONDS_MAX = 2.0
MAIL_LAG_MAX = OUTBOX_LAG_MAX = timedelta(minutes=15)
KEY_EXPIRES_SOON = timedelta(days=14)
KEY_UNUSED = timedelta(days=90)
TRIGGERS = ("usage_entry_no_update", "audit_entry_append_only")
ERROR, WARNING, OK = "error", "warning", "ok"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing examined: its grade (`ok`, `warning`, `error`), what is so, and the remedy."""

    name: str
    grade: str
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Return what is found, in the order of the examination; nothing is changed.

    Where the database does not answer or is not migrated, what needs it is left out.
    """
    findings = list(_settings())
    try:
        findings.extend(_database())
        findings.extend(_migrations())
    except (DatabaseError, InterfaceError) as error:
        remedy = "Start PostgreSQL, or mend DATABASE_URL."
        detail = f"does not answer: {type(error).__name__}"
        return [*findings, Finding(name="database", grade=ERROR, detail=detail, remedy=remedy)]
    if all(each.grade == OK for each in findings if each.name == "migrations"):
        for part in PARTS:
            findings.extend(part())
    return findings


def is_healthy(findings: list[Finding]) -> bool:
    """Tell whether no finding is an error."""
    return all(each.grade != ERROR for each in findings)


def _settings() -> Iterator[Finding]:
    messages = checks.run_checks(include_deployment_checks=not settings.DEBUG)
    for message in messages:
        grade = ERROR if message.level >= checks.ERROR else WARNING
        yield Finding(
            name="settings", grade=grade, detail=str(message.msg), remedy=str(message.hint or "")
        )
    if settings.DEBUG:
        remedy = "Set DEBUG=0 in production."
        yield Finding(name="settings", grade=WARNING, detail="DEBUG is on", remedy=remedy)
    elif not messages:
        yield Finding(name="settings", grade=OK, detail="sound")


def _database() -> Iterator[Finding]:
    if not db.is_postgres():
        remedy = "Set DATABASE_URL to PostgreSQL for more than one process."
        grade = OK if settings.DEBUG else WARNING
        yield Finding(name="database", grade=grade, detail="SQLite: one writer", remedy=remedy)
        return
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        version = int(cursor.fetchone()[0])
    if version < POSTGRES_VERSION_MIN:
        detail, remedy = f"PostgreSQL {version // 10_000}", "Use version 14 or later."
        yield Finding(name="database", grade=ERROR, detail=detail, remedy=remedy)
    else:
        yield Finding(name="database", grade=OK, detail=f"PostgreSQL {version // 10_000}")
    for name in DURABLE:
        with connection.cursor() as cursor:
            cursor.execute(f"SHOW {name}")
            value = cursor.fetchone()[0]
        if value == "off":
            detail, remedy = f"{name} is off: acknowledged usage can be lost", f"Set {name} = on."
            yield Finding(name="durability", grade=ERROR, detail=detail, remedy=remedy)


def _migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if pending:
        detail = f"{len(pending)} are not applied"
        remedy = "Run manage.py migrate."
        yield Finding(name="migrations", grade=ERROR, detail=detail, remedy=remedy)
    else:
        yield Finding(name="migrations", grade=OK, detail="all applied")


def _triggers() -> Iterator[Finding]:
    source, column = ("pg_trigger", "tgname") if db.is_postgres() else ("sqlite_master", "name")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {source} WHERE {column} IN (%s, %s)", TRIGGERS)  # noqa: S608 - names of ours
        found = {row[0] for row in cursor.fetchall()}
    for name in sorted(set(TRIGGERS) - found):
        detail = f"the trigger {name} is gone: history could be rewritten"
        remedy = "Migrate the app back and forth over the migration that makes it."
        yield Finding(name="triggers", grade=ERROR, detail=detail, remedy=remedy)


def _clock() -> Iterator[Finding]:
    skew = abs(clocks.host_now().timestamp() - clocks.DatabaseClock().now().timestamp())
    if skew > CLOCK_SKEW_SECONDS_MAX:
        detail = f"this host and the database differ by {skew:.1f} s"
        remedy = "Run a time service on both; decisions follow the database's clock."
        yield Finding(name="clock", grade=WARNING, detail=detail, remedy=remedy)
    else:
        yield Finding(name="clock", grade=OK, detail=f"within {skew:.3f} s of the database")


def _redis() -> Iterator[Finding]:
    if not settings.REDIS_URL:
        yield Finding(name="redis", grade=OK, detail="not used")
        return
    started = time.perf_counter()
    try:
        redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1).ping()
    except (RedisError, OSError) as error:
        detail = f"does not answer: {type(error).__name__}; caches and rates are per process"
        remedy = "Start Redis, or leave REDIS_URL empty."
        yield Finding(name="redis", grade=WARNING, detail=detail, remedy=remedy)
        return
    milliseconds = (time.perf_counter() - started) * 1000
    yield Finding(name="redis", grade=OK, detail=f"answers in {milliseconds:.0f} ms")


def _mail() -> Iterator[Finding]:
    now = clocks.process_clock().now()
    late = Mail.objects.filter(due_at__lte=now - MAIL_LAG_MAX).count()
    if late:
        detail = f"{late} mails have waited over {MAIL_LAG_MAX.seconds // 60} minutes"
        remedy = "Run manage.py mail --every 5, and look at EMAIL_URL."
        yield Finding(name="mail", grade=WARNING, detail=detail, remedy=remedy)
    else:
        yield Finding(name="mail", grade=OK, detail="nothing waits")


def _outbox() -> Iterator[Finding]:
    now = clocks.process_clock().now()
    waiting = OutboxDelivery.objects.filter(delivered_at__isnull=True).order_by("id")
    oldest = waiting.first()
    lag = now - _made_at(oldest.pk) if oldest else timedelta()
    if lag > OUTBOX_LAG_MAX:
        detail = f"{waiting.count()} deliveries wait, the oldest for {lag.total_seconds():.0f} s"
        remedy = "Run manage.py worker, and look at manage.py parked."
        yield Finding(name="outbox", grade=WARNING, detail=detail, remedy=remedy)
    else:
        yield Finding(
            name="outbox", grade=OK, detail=f"delivered up to {lag.total_seconds():.0f} s"
        )
    parked = WorkFailure.objects.filter(next_attempt_at__isnull=True).count()
    if parked:
        detail = f"{parked} pieces of work failed for good and are parked"
        remedy = "Run manage.py parked, mend the cause, and release them."
        yield Finding(name="worker", grade=WARNING, detail=detail, remedy=remedy)


def _made_at(identity: UUID) -> datetime:
    """Return when an id of version 7 was made, to the millisecond."""
    return datetime.fromtimestamp((identity.int >> 80) / 1000, UTC)


def _keys() -> Iterator[Finding]:
    now = clocks.process_clock().now()
    for key in ServiceKey.objects.filter(revoked_at__isnull=True).order_by("created_at"):
        if not key.is_usable(at=now) or key.rotated_at is not None:
            continue
        if key.expires_at is not None and key.expires_at <= now + KEY_EXPIRES_SOON:
            detail = f"{key.prefix} ({key.name}) expires at {clocks.rfc3339(key.expires_at)}"
            remedy = f"Run manage.py servicekeys rotate {key.prefix}."
            yield Finding(name="service keys", grade=WARNING, detail=detail, remedy=remedy)
        elif (key.last_used_at or key.created_at) <= now - KEY_UNUSED:
            detail = f"{key.prefix} ({key.name}) was not used for {KEY_UNUSED.days} days"
            remedy = f"Run manage.py servicekeys revoke {key.prefix}."
            yield Finding(name="service keys", grade=WARNING, detail=detail, remedy=remedy)


PARTS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _triggers,
    _clock,
    _redis,
    _mail,
    _outbox,
    _keys,
)
