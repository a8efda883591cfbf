"""The engine's own settings and stack, with one view that counts nothing: HTTP alone (P5)."""

from subscriptionEngine.settings import *  # noqa: F403 - a variant of the settings

ROOT_URLCONF = "benchmarks._light_urls"
