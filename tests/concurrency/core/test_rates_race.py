"""Sixteen at once under one rate limit: exactly as many as it says."""

import threading
from collections import Counter

import pytest
from django.conf import settings

from core import rates
from core.models import RateState
from core.rates import Limit
from core.services import rates as rate_service
from tests.concurrency import racing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
LIMITS = (
    Limit(name="minute", requests=20, seconds=6000),
    Limit(name="hour", requests=50, seconds=36_000),
)
LIMITED = [rate_service.limited(limit, caller="somebody") for limit in LIMITS]
THREADS, TRIES = 8, 10


def granted(store) -> int:
    def act() -> int:
        return sum(store.take(LIMITED).is_allowed for _ in range(TRIES))

    return sum(racing.in_threads([act] * THREADS))


def test_control_without_the_lock_more_than_the_limit_pass():
    marks = [0] * len(LIMITS)
    barrier = threading.Barrier(THREADS)

    def unlocked() -> int:
        seen = list(marks)
        barrier.wait()
        verdict = rates.decide(LIMITED, marks=seen, now_us=1)
        marks[:] = verdict.marks
        return verdict.is_allowed

    passed = Counter()
    for _ in range(TRIES):
        passed.update(racing.in_threads([unlocked] * THREADS))
    assert passed[True] > LIMITS[0].requests


def test_in_the_database_exactly_the_limit_passes():
    assert granted(rate_service.DatabaseStore()) == LIMITS[0].requests
    assert RateState.objects.count() == len(LIMITS)


def test_in_one_process_exactly_the_limit_passes():
    assert granted(rate_service.LocalStore()) == LIMITS[0].requests


@pytest.mark.redis
def test_in_redis_exactly_the_limit_passes_over_all_clients(redis_url):
    stores = [rate_service.RedisStore(url=redis_url) for _ in range(THREADS)]

    def act(store):
        return lambda: sum(store.take(LIMITED).is_allowed for _ in range(TRIES))

    assert sum(racing.in_threads([act(store) for store in stores])) == LIMITS[0].requests


@pytest.mark.redis
def test_in_redis_a_refusal_takes_from_no_limit(redis_url):
    store = rate_service.RedisStore(url=redis_url)
    verdicts = [store.take(LIMITED) for _ in range(LIMITS[0].requests + 5)]
    assert [each.is_allowed for each in verdicts] == [True] * LIMITS[0].requests + [False] * 5
    assert verdicts[-1].standings[1].remaining == LIMITS[1].requests - LIMITS[0].requests


def test_without_redis_the_process_counts_and_asks_again_later(caplog):
    store = rate_service.RedisStore(url="redis://127.0.0.1:1/0")
    assert granted(store) == LIMITS[0].requests
    assert "Redis failed" in caplog.text
    assert len(caplog.records) <= THREADS


def test_the_store_of_the_api_is_local_where_no_redis_is_configured():
    assert settings.REDIS_URL or isinstance(rate_service.shared_store(), rate_service.LocalStore)
