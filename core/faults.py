"""Die on demand at a named point, so that tests can show that nothing is lost or done twice."""

import os

from django.conf import settings

EXIT_CODE = 137


def point(name: str) -> None:
    """End the process at once, without any clean-up, where ENGINE_CRASH_AT names this point.

    Only in development: in production the variable does nothing.
    """
    if settings.DEBUG and os.environ.get("ENGINE_CRASH_AT") == name:
        os._exit(EXIT_CODE)
