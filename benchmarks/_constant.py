"""What the HTTP figures are compared with: views that answer a constant, on stock settings.

`stock` is what `startproject` and the two libraries' guides give: Django's middleware, DRF's
renderers and negotiation, simplejwt's stateless user. `limited` counts by `limits` in Redis,
`throttled` by DRF's throttle in Django's Redis cache. Serve with granian as the engine is served.
"""

import os

import django
from django.conf import settings

from benchmarks._answer import ANSWER

SIGNING_KEY = "a-signing-key-for-the-benchmark-alone-0123456789-abcdefghij"
settings.configure(
    SECRET_KEY="a-secret-key-for-the-benchmark-alone-0123456789-abcdefghijklm",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "rest_framework",
        "rest_framework_simplejwt",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": os.environ.get("BENCHMARK_REDIS_URL", ""),
        }
    },
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [
            "rest_framework_simplejwt.authentication.JWTStatelessUserAuthentication"
        ],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    },
    SIMPLE_JWT={"SIGNING_KEY": SIGNING_KEY},
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402 - the settings come first
from django.urls import path  # noqa: E402 - as above
from limits import parse, storage, strategies  # noqa: E402 - as above
from rest_framework import throttling  # noqa: E402 - as above
from rest_framework.request import Request  # noqa: E402 - as above
from rest_framework.response import Response  # noqa: E402 - as above
from rest_framework.views import APIView  # noqa: E402 - as above

RATE = "1000000000/day"
_window = strategies.FixedWindowRateLimiter(
    storage.storage_from_string(os.environ.get("BENCHMARK_REDIS_URL", "memory://"))
)
_limit = parse(RATE)


class Stock(APIView):
    """Answer a constant."""

    def get(self, request: Request) -> Response:  # noqa: ARG002 - DRF's signature
        """Answer."""
        return Response(ANSWER)

    def post(self, request: Request) -> Response:
        """Read the body, and answer."""
        request.data["units"]
        return Response(ANSWER)


class Limited(APIView):
    """Count in Redis by `limits`, whose count may be lost, and answer a constant."""

    def post(self, request: Request) -> Response:
        """Count, and answer."""
        request.data["units"]
        if not _window.hit(_limit, str(request.user.id)):
            return Response(status=403)
        return Response(ANSWER)


class Rate(throttling.UserRateThrottle):
    """DRF's throttle, which keeps every instant of the window."""

    rate = "10000/minute"


class Throttled(APIView):
    """Count by DRF's throttle in Django's cache, and answer a constant."""

    throttle_classes = (Rate,)

    def post(self, request: Request) -> Response:
        """Answer."""
        request.data["units"]
        return Response(ANSWER)


urlpatterns = [
    path("stock/", Stock.as_view()),
    path("limited/", Limited.as_view()),
    path("throttled/", Throttled.as_view()),
]
application = get_wsgi_application()
