"""Count requests against rate limits, in one of three stores, each exact in its reach.

- `DatabaseStore`: every process, no Redis; three statements. For logins and the like.
- `RedisStore`: every process, one script; where Redis does not answer, the process alone.
- `LocalStore`: this process alone.
"""

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import redis
from django.conf import settings
from redis.exceptions import RedisError

from core import clock as clocks
from core import db, locks, rates
from core.models import RateState
from core.rates import SECOND_US, Limit, Limited, Verdict

LOCAL_KEYS_MAX = 100_000
REDIS_PAUSE_SECONDS = 1.0
REDIS_TIMEOUT_SECONDS = 0.05
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local marks, moved, wait = {}, {}, 0
for i, key in ipairs(KEYS) do
  local mark = tonumber(redis.call('GET', key) or '0')
  marks[i] = mark
  moved[i] = math.max(mark, now) + tonumber(ARGV[2 * i - 1])
  wait = math.max(wait, moved[i] - now - tonumber(ARGV[2 * i]))
end
if wait <= 0 then
  for i, key in ipairs(KEYS) do
    local life = math.ceil((moved[i] - now) / 1000)
    redis.call('SET', key, string.format('%.0f', moved[i]), 'PX', life)
  end
end
local found = {string.format('%.0f', now)}
for i = 1, #KEYS do found[i + 1] = string.format('%.0f', marks[i]) end
return found
"""
logger = logging.getLogger(__name__)


class Store(Protocol):
    """Decide on one request under all its limits, and keep the marks."""

    def take(self, limited: Sequence[Limited]) -> Verdict:
        """Return the verdict; a refusal moves no mark."""
        ...


def limited(limit: Limit, *, caller: str) -> Limited:
    """Return the caller under the limit; the key hides who he is, and keeps his limits together."""
    digest = hashlib.sha256(caller.encode(errors="replace")).hexdigest()[:32]
    return Limited(key=f"{{{digest}}}{limit.name[:20]}", limit=limit)


class LocalStore:
    """Keep marks in this process; the least recently used of too many callers is forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._marks: OrderedDict[str, int] = OrderedDict()

    def take(self, limited: Sequence[Limited]) -> Verdict:
        """Decide under the process's lock, by its monotonic clock."""
        with self._lock:
            marks = [self._marks.get(each.key, 0) for each in limited]
            verdict = rates.decide(limited, marks=marks, now_us=time.monotonic_ns() // 1000)
            if verdict.is_allowed:
                for each, mark in zip(limited, verdict.marks, strict=True):
                    self._marks[each.key] = mark
                    self._marks.move_to_end(each.key)
                while len(self._marks) > LOCAL_KEYS_MAX:
                    self._marks.popitem(last=False)
            return verdict


class DatabaseStore:
    """Keep marks in the database: exact over all processes, whatever becomes of Redis."""

    def take(self, limited: Sequence[Limited]) -> Verdict:
        """Decide under the rows' locks, taken in the order of their keys."""
        return _take_in_database(limited=sorted(limited, key=lambda each: each.key))


@db.operation
def _take_in_database(*, limited: Sequence[Limited]) -> Verdict:
    with db.transaction():
        rows = [RateState(key=each.key) for each in limited]
        RateState.objects.bulk_create(rows, ignore_conflicts=True)
        locked = locks.lock_rate_states(keys=[each.key for each in limited])
        now_us = int(clocks.process_clock().now().timestamp() * SECOND_US)
        marks = [row.ahead_until_us for row in locked]
        verdict = rates.decide(limited, marks=marks, now_us=now_us)
        if verdict.is_allowed:
            for row, mark in zip(locked, verdict.marks, strict=True):
                row.ahead_until_us = mark
            RateState.objects.bulk_update(locked, ["ahead_until_us"])
        return verdict


class RedisStore:
    """Keep marks in Redis by one script; a Redis that fails is left alone for a second."""

    def __init__(self, *, url: str) -> None:
        client = redis.Redis.from_url(
            url,
            socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
            socket_timeout=REDIS_TIMEOUT_SECONDS,
            retry=None,
        )
        self._script = client.register_script(SCRIPT)
        self._fallback = LocalStore()
        self._paused_until = 0.0

    def take(self, limited: Sequence[Limited]) -> Verdict:
        """Decide in Redis by its clock; without it, in this process."""
        if time.monotonic() < self._paused_until:
            return self._fallback.take(limited)
        try:
            now_us, *marks = (int(each) for each in self._script(*_arguments(limited)))
        except (RedisError, OSError, ValueError, TypeError) as error:
            logger.warning("rate limits are counted per process: Redis failed: %s", error)
            self._paused_until = time.monotonic() + REDIS_PAUSE_SECONDS
            return self._fallback.take(limited)
        return rates.decide(limited, marks=marks, now_us=now_us)


def _arguments(limited: Sequence[Limited]) -> tuple[list[str], list[int]]:
    keys = [f"rate:{each.key}" for each in limited]
    return keys, [
        number for each in limited for number in (each.limit.interval_us, each.limit.window_us)
    ]


@cache
def shared_store() -> Store:
    """Return the store of the API's rate limits: Redis where it is configured, else local."""
    return RedisStore(url=settings.REDIS_URL) if settings.REDIS_URL else LocalStore()


def prune(*, clock: clocks.Clock) -> int:
    """Delete the marks that the clock has passed, and return their number."""
    now_us = int(clock.now().timestamp() * SECOND_US)
    return RateState.objects.filter(ahead_until_us__lte=now_us).delete()[0]
