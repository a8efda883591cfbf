"""Route every address of the engine."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView

from core.api import health, metrics, pages, problems

handler400 = "core.api.problems.handler400"
handler403 = "core.api.problems.handler403"
handler404 = "core.api.problems.handler404"
handler500 = "core.api.problems.handler500"

resources = (
    [path("api/", include("resources.api.urls"))] if settings.ENGINE.resources_enabled else []
)

urlpatterns = [
    path("", pages.welcome, name="welcome"),
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.metrics_page, name="metrics"),
    path("docs/errors/<slug:code>", pages.error_page, name="error-page"),
    path("admin/", admin.site.urls),
    path("api/", include("core.api.urls")),
    path("api/", include("subscriptions.api.urls")),
    path("api/", include("metering.api.urls")),
    *resources,
    path("api/", include("billing.api.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", pages.SwaggerView.as_view(), name="docs"),
    path("api/redoc/", SpectacularRedocView.as_view(template_name="redoc.html"), name="redoc"),
    re_path("", problems.unknown_address, name="unknown-address"),
]
