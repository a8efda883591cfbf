"""Read every setting from the environment; defaults are safe for production.

Source: `.env.example` lists each variable once, with its unit.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from core import logs, waiting

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
environ.Env.read_env(BASE_DIR / ".env", overwrite=False)

DEBUG: bool = env.bool("DEBUG", default=False)
DEVELOPMENT_KEY = "development-only-" + "x" * 50


def _secret(name: str) -> str:
    """Return a secret, or refuse to start without one outside development."""
    value: str = env.str(name, default="")
    if value:
        return value
    if DEBUG:
        return f"{DEVELOPMENT_KEY}-{name}"
    msg = f"{name} is not set. Set it to a random string, or set DEBUG=1 for development."
    raise ImproperlyConfigured(msg)


SECRET_KEY = _secret("SECRET_KEY")
JWT_SIGNING_KEY = _secret("JWT_SIGNING_KEY")
if SECRET_KEY == JWT_SIGNING_KEY:
    msg = "JWT_SIGNING_KEY must differ from SECRET_KEY."
    raise ImproperlyConfigured(msg)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Hold the engine's own knobs; units are in the names."""

    frontend_url: str
    mail_at_once: bool
    default_plan_key: str
    primary_plan_group_key: str
    lock_timeout_ms: int
    answer_timeout_ms: int
    access_token_seconds: int
    refresh_token_seconds: int
    refresh_reuse_grace_seconds: int
    body_bytes_max: int
    test_clocks_allowed: bool
    staff_grant_units_max: int
    event_batch_bytes_max: int
    resources_enabled: bool
    booking_hold_seconds: int
    waitlist_offer_seconds: int
    proration_method: str
    group_commit: bool
    identity_seconds: float


PORT = env.int("PORT", default=8000)
ENGINE = Engine(
    frontend_url=env.str("FRONTEND_URL", default=f"http://127.0.0.1:{PORT}"),
    mail_at_once=env.bool("MAIL_AT_ONCE", default=DEBUG),
    default_plan_key=env.str("DEFAULT_PLAN", default="free"),
    primary_plan_group_key=env.str("PRIMARY_PLAN_GROUP", default="main"),
    lock_timeout_ms=env.int("LOCK_TIMEOUT_MS", default=3000),
    answer_timeout_ms=env.int("ANSWER_TIMEOUT_MS", default=4500),
    access_token_seconds=env.int("ACCESS_TOKEN_SECONDS", default=600),
    refresh_token_seconds=env.int("REFRESH_TOKEN_SECONDS", default=1_209_600),
    refresh_reuse_grace_seconds=env.int("REFRESH_REUSE_GRACE_SECONDS", default=10),
    body_bytes_max=env.int("BODY_BYTES_MAX", default=1_048_576),
    test_clocks_allowed=env.bool("ALLOW_TEST_CLOCKS", default=DEBUG),
    staff_grant_units_max=env.int("STAFF_GRANT_UNITS_MAX", default=10_000),
    event_batch_bytes_max=env.int("EVENT_BATCH_BYTES_MAX", default=16_777_216),
    resources_enabled=env.bool("RESOURCES_ENABLED", default=True),
    booking_hold_seconds=env.int("BOOKING_HOLD_SECONDS", default=600),
    waitlist_offer_seconds=env.int("WAITLIST_OFFER_SECONDS", default=1800),
    proration_method=env.str("PRORATION_METHOD", default="second"),
    group_commit=env.bool("GROUP_COMMIT", default=True),
    identity_seconds=env.float("IDENTITY_SECONDS", default=5.0),
)

ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost"])
INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "core",
    "subscriptions",
    "metering",
    "resources",
    "billing",
    "subscriptionEngine",
]
MIDDLEWARE = [
    "core.api.middleware.RequestIdMiddleware",
    "core.api.middleware.ObservationMiddleware",
    "core.api.middleware.SecurityHeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "core.api.limits.RateLimitMiddleware",
    "core.api.middleware.LightEntrance",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "core.admin.reader.ReaderZoneMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "metering.enforcement.middleware.EntitlementsMiddleware",
    "core.api.middleware.LightExit",
]
ROOT_URLCONF = "subscriptionEngine.urls"
WSGI_APPLICATION = "subscriptionEngine.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "subscriptionEngine" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
APPEND_SLASH = False
# A dead network is noticed after 2 + 3 × 1 s of silence, or 4 s without an acknowledgement.
NETWORK = {
    "connect_timeout": 3,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4000,
}


def _database() -> dict[str, Any]:
    """Return the database's settings: PostgreSQL pooled, or SQLite with serialised writers."""
    url: str = env.str("DATABASE_URL", default="") or f"sqlite:///{BASE_DIR / 'db.sqlite3'}"
    config: dict[str, Any] = environ.Env.db_url_config(url)
    if config["ENGINE"] == "django.db.backends.sqlite3":
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": ENGINE.lock_timeout_ms / 1000,
            "init_command": (
                "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA foreign_keys=ON;"
            ),
        }
        config["TEST"] = {"NAME": f"{config['NAME']}.test"}
        return config
    config["ENGINE"] = "core.postgresql"
    behind_pooler: bool = env.bool("DATABASE_BEHIND_POOLER", default=False)
    config["CONN_MAX_AGE"] = 0
    config["DISABLE_SERVER_SIDE_CURSORS"] = behind_pooler
    config["OPTIONS"] = {
        **NETWORK,
        **config.get("OPTIONS", {}),
        # From its second run on a statement is prepared; at 0 a migration's pairs of commands fail.
        "prepare_threshold": None if behind_pooler else 1,
        "server_side_binding": not behind_pooler,
        "pool": {
            "min_size": 0,
            "max_size": env.int("DATABASE_POOL_MAX", default=20),
            "timeout": ENGINE.lock_timeout_ms / 1000,
            "connection_class": waiting.BoundedConnection,
        },
        "options": (
            f"-c lock_timeout={ENGINE.lock_timeout_ms}"
            f" -c statement_timeout={env.int('STATEMENT_TIMEOUT_MS', default=10_000)}"
            " -c idle_in_transaction_session_timeout="
            f"{env.int('IDLE_IN_TRANSACTION_TIMEOUT_MS', default=10_000)}"
        ),
    }
    return config


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL: str = env.str("REDIS_URL", default="")
LOCAL_CACHE = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
CACHES = {
    "local": LOCAL_CACHE,
    "default": (
        {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": REDIS_URL,
            "OPTIONS": {"socket_connect_timeout": 0.05, "socket_timeout": 0.05},
        }
        if REDIS_URL
        else LOCAL_CACHE
    ),
}

AUTH_USER_MODEL = "core.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "core.services.login.UsernameOrEmailBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
CSRF_FAILURE_VIEW = "core.api.problems.refuse_csrf"
AXES_FAILURE_LIMIT: int = env.int("LOGIN_FAILURES_MAX", default=10)
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_ENABLE_ADMIN = False
AXES_LOCKOUT_CALLABLE = "core.api.problems.refuse_login"

AXES_CLIENT_IP_CALLABLE = "core.api.addresses.client_address"

EMAIL_URL: str = env.str("EMAIL_URL", default="consolemail://" if DEBUG else "smtp://localhost:25")
_email: dict[str, Any] = environ.Env.email_url_config(EMAIL_URL)
EMAIL_BACKEND: str = _email["EMAIL_BACKEND"]
EMAIL_HOST: str = _email["EMAIL_HOST"] or ""
EMAIL_PORT: int = _email["EMAIL_PORT"] or 25
EMAIL_HOST_USER: str = _email["EMAIL_HOST_USER"] or ""
EMAIL_HOST_PASSWORD: str = _email["EMAIL_HOST_PASSWORD"] or ""
EMAIL_USE_TLS: bool = _email.get("EMAIL_USE_TLS", False)
EMAIL_USE_SSL: bool = _email.get("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL: str = env.str("MAIL_FROM", default="engine@localhost")

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = "subscriptionEngine.formats"
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "static_root"
WHITENOISE_USE_FINDERS = True

HTTPS_ONLY: bool = env.bool("HTTPS_ONLY", default=not DEBUG)
SECURE_SSL_REDIRECT = HTTPS_ONLY
if env.bool("BEHIND_TLS_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS_ONLY else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS_ONLY
SECURE_HSTS_PRELOAD = HTTPS_ONLY
SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$"]
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = HTTPS_ONLY
CSRF_COOKIE_SECURE = HTTPS_ONLY
SESSION_COOKIE_HTTPONLY = True
TRUSTED_PROXIES: list[str] = env.list("TRUSTED_PROXIES", default=[])
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = ENGINE.body_bytes_max

RATE_LIMIT_ADDRESS: str = env.str("RATE_LIMIT_ADDRESS", default="")
RATE_LIMIT_USER: str = env.str("RATE_LIMIT_USER", default="")
RATE_LIMIT_KEY: str = env.str("RATE_LIMIT_KEY", default="")
RATE_LIMIT_PLAN_FEATURE: str = env.str("RATE_LIMIT_PLAN_FEATURE", default="")
METRICS_TOKEN: str = env.str("METRICS_TOKEN", default="")
CORS_ALLOWED_ORIGINS: list[str] = env.list("CORS_ALLOWED_ORIGINS", default=[])
CORS_ALLOW_CREDENTIALS = True
CSRF_TRUSTED_ORIGINS = CORS_ALLOWED_ORIGINS
CORS_EXPOSE_HEADERS = [
    "ETag",
    "Retry-After",
    "Idempotent-Replayed",
    "X-Request-Id",
    "RateLimit",
    "RateLimit-Policy",
]
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "x-csrftoken",
    "x-request-id",
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "core.api.authentication.TokenAuthentication",
        "core.api.authentication.ServiceKeyAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["core.api.limits.CallerThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["core.api.json.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["core.api.json.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "core.api.json.JSONOnly",
    "DEFAULT_PAGINATION_CLASS": "core.api.pagination.CursorPages",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "core.api.problems.render_exception",
    "UNAUTHENTICATED_USER": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "TEST_REQUEST_RENDERER_CLASSES": ["core.api.json.JSONRenderer"],
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(seconds=ENGINE.access_token_seconds),
    "REFRESH_TOKEN_LIFETIME": timedelta(seconds=ENGINE.refresh_token_seconds),
    "ALGORITHM": "HS256",
    "SIGNING_KEY": JWT_SIGNING_KEY,
    "AUDIENCE": "subscription-engine",
    "ISSUER": "subscription-engine",
    "UPDATE_LAST_LOGIN": False,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Subscription & Entitlement Engine",
    "DESCRIPTION": (
        "May this customer do this now? Plans, subscriptions, entitlements, usage and limits: "
        "never over a limit, nothing lost, counted exactly once."
    ),
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": r"/api",
    "COMPONENT_SPLIT_REQUEST": True,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "EffectiveEnum": ["now", "period_end"],
        "SubscriptionStatusEnum": "subscriptions.models.Subscription.Status",
        "InvoiceStatusEnum": "billing.models.Invoice.Status",
        "BookingStateEnum": "resources.models.Booking.State",
    },
}
UNFOLD = {
    "SITE_TITLE": "Subscription Engine",
    "SITE_HEADER": "Subscription Engine",
    "SITE_SYMBOL": "verified_user",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}core/favicon.svg"}
    ],
    "SCRIPTS": [f"{STATIC_URL}core/zone.js"],
    "ENVIRONMENT": "subscriptionEngine.navigation.environment",
    "SIDEBAR": {"navigation": "subscriptionEngine.navigation.areas"},
}
SILENCED_SYSTEM_CHECKS: list[str] = []
LOGGING = logs.configuration(as_json=env.bool("LOG_JSON", default=not DEBUG))
