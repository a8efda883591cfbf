"""Remember what is read often: without the cache everything works, and nothing decides by it."""

import logging
import pickle
from collections.abc import Callable

from django.core.cache import cache
from redis.exceptions import RedisError

SECONDS_MAX = 3600
BROKEN = (RedisError, OSError, pickle.UnpicklingError, EOFError, AttributeError, ValueError)
logger = logging.getLogger(__name__)


def remembered(key: str, *, build: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Return what was built under the key, or build it; a broken cache only costs time.

    The key carries the revision of what it stands for, so that nothing stale is found.
    """
    try:
        found = cache.get(key)
    except BROKEN as error:
        logger.warning("the cache does not answer: %s", error)
        return build()
    if isinstance(found, dict):
        return found
    built = build()
    try:
        cache.set(key, built, timeout=SECONDS_MAX)
    except BROKEN as error:
        logger.warning("the cache does not answer: %s", error)
    return built
