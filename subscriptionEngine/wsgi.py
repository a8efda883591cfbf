"""Expose the WSGI application that `manage.py serve` runs."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from core import waiting

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "subscriptionEngine.settings")
application = get_wsgi_application()
waiting.bound_answers(milliseconds=settings.ENGINE.answer_timeout_ms)
