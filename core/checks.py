"""Refuse settings that would make production weak: at start, and in `manage.py check`.

Each check names the setting and its remedy. Development (DEBUG=1) is told only what is broken.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from core.api import limits

TAG = "engine"
SECRET_KEY_LENGTH_MIN, JWT_KEY_LENGTH_MIN, METRICS_TOKEN_LENGTH_MIN = 50, 32, 20
DISTINCT_CHARACTERS_MIN = 5
ACCESS_TOKEN_SECONDS_MAX = 3600
RATES = ("RATE_LIMIT_ADDRESS", "RATE_LIMIT_USER", "RATE_LIMIT_KEY")


def refuse_weak_settings() -> None:
    """Return where the settings are sound.

    :raises ImproperlyConfigured: naming every fault and its remedy.
    """
    faults = [each for each in find_faults() if each.level >= checks.ERROR]
    if faults:
        raise ImproperlyConfigured("\n".join(f"{each.msg} {each.hint}" for each in faults))


@checks.register(TAG)
def check_settings(
    app_configs: Sequence[AppConfig] | None,  # noqa: ARG001 - Django's signature
    **_: Any,  # noqa: ANN401 - Django's signature
) -> list[checks.CheckMessage]:
    """Return what is wrong with the settings."""
    return list(find_faults())


def find_faults() -> Iterator[checks.CheckMessage]:
    """Yield what is wrong with the settings, errors and warnings."""
    yield from _broken()
    if not settings.DEBUG:
        yield from _weak_secrets()
        yield from _open_doors()


def _broken() -> Iterator[checks.CheckMessage]:
    for name in RATES:
        try:
            limits.parsed("setting", getattr(settings, name))
        except ValueError as error:
            yield _error("E001", f"{name}: {error}.", "Or leave it empty.")
    for text in settings.TRUSTED_PROXIES:
        try:
            is_everybody = ipaddress.ip_network(text).prefixlen == 0
        except ValueError as error:
            yield _error("E002", f"TRUSTED_PROXIES: {error}.", "Write networks: 10.0.0.0/8.")
            continue
        if is_everybody:
            detail = f"TRUSTED_PROXIES: {text} lets any client name its own address."
            yield _error("E003", detail, "Name the proxies' networks alone.")


def _weak_secrets() -> Iterator[checks.CheckMessage]:
    secrets = {
        "SECRET_KEY": (settings.SECRET_KEY, SECRET_KEY_LENGTH_MIN),
        "JWT_SIGNING_KEY": (settings.JWT_SIGNING_KEY, JWT_KEY_LENGTH_MIN),
        "METRICS_TOKEN": (settings.METRICS_TOKEN, METRICS_TOKEN_LENGTH_MIN),
    }
    for name, (value, length_min) in secrets.items():
        is_unused = name == "METRICS_TOKEN" and not value
        is_varied = len(set(value)) >= DISTINCT_CHARACTERS_MIN
        if not is_unused and not (len(value) >= length_min and is_varied):
            detail = f"{name} is weak: it needs {length_min} random characters."
            yield _error(
                "E004", detail, 'python -c "import secrets; print(secrets.token_urlsafe(64))"'
            )


def _open_doors() -> Iterator[checks.CheckMessage]:
    if "*" in settings.ALLOWED_HOSTS:
        detail = "ALLOWED_HOSTS has *: links could be made for any host."
        yield _error("E005", detail, "Name the hosts that you serve.")
    for origin in settings.CORS_ALLOWED_ORIGINS:
        if origin in {"*", "null"}:
            detail = f"CORS_ALLOWED_ORIGINS has {origin}: any site could act for its visitors."
            yield _error("E006", detail, "Name the origins of your frontends.")
    if settings.ENGINE.access_token_seconds > ACCESS_TOKEN_SECONDS_MAX:
        detail = "ACCESS_TOKEN_SECONDS is over an hour: a stolen token works as long."
        yield checks.Warning(detail, hint="600 is usual.", id=f"{TAG}.W001")


def _error(number: str, detail: str, remedy: str) -> checks.CheckMessage:
    return checks.Error(detail, hint=remedy, id=f"{TAG}.{number}")
