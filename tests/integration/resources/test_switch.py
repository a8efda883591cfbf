"""The switch: off, nothing of resources is to be found from outside."""

import json
import os
import subprocess
import sys

import pytest
from django.conf import settings

LOOK = """
import django, json
django.setup()
from django.contrib import admin
from django.urls import resolve
from drf_spectacular.generators import SchemaGenerator
from core.api import problems
schema = SchemaGenerator().get_schema(request=None, public=True)
addresses = ("/api/resources/", "/api/resources/availability/", "/api/bookings/", "/api/waitlist/")
print(json.dumps({
    "paths": [path for path in schema["paths"] if "resources" in path or "booking" in path],
    "tags": sorted({op["tags"][0] for path in schema["paths"].values() for op in path.values()}),
    "routed": [a for a in addresses if resolve(a).func is not problems.unknown_address],
    "admin": [m._meta.label for m in admin.site._registry if m._meta.app_label == "resources"],
}))
"""


def look(*, enabled: bool) -> dict[str, list[str]]:
    environment = os.environ | {
        "RESOURCES_ENABLED": str(int(enabled)),
        "DJANGO_SETTINGS_MODULE": "subscriptionEngine.settings",
        "DEBUG": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        env=environment,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("enabled", [True, False])
def test_addresses_admin_and_schema_follow_the_switch(enabled):
    found = look(enabled=enabled)
    assert ("/api/resources/" in found["paths"]) is enabled
    assert ("resources" in found["tags"]) is enabled
    assert bool(found["routed"]) is enabled
    if not enabled:
        assert found == {"paths": [], "tags": found["tags"], "routed": [], "admin": []}
        assert "usage" in found["tags"]
