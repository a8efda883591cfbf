"""Show venues, resources and bookings to staff; nothing where the switch is off."""

from django.conf import settings

if settings.ENGINE.resources_enabled:
    from resources.admin import bookings, places

    __all__ = ["bookings", "places"]
