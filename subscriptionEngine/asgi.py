"""Expose the ASGI application for servers that want one."""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application

from core import waiting

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "subscriptionEngine.settings")
application = get_asgi_application()
waiting.bound_answers(milliseconds=settings.ENGINE.answer_timeout_ms)
