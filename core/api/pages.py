"""Serve the pages that developers read: welcome, Swagger, one per error code."""

import html
import re
from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from drf_spectacular.views import SpectacularSwaggerSplitView

from core.api import problems

CODE = re.compile(r"[a-z_]{1,64}", re.ASCII)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
        color: #1b1f24; background: #fff; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; font: 14px/1.5 ui-monospace, monospace; }}
a {{ color: #0b57d0; }}
</style>
</head>
<body>{body}</body>
</html>
"""
WELCOME = """<h1>Subscription &amp; Entitlement Engine</h1>
<p>May this customer do this now? Ask, and it is counted exactly once.</p>
<ul>
<li><a href="/api/docs/">API with Swagger UI</a></li>
<li><a href="/api/redoc/">API with Redoc</a></li>
<li><a href="/api/schema/">OpenAPI schema</a></li>
<li><a href="/admin/">Admin</a></li>
</ul>
"""


class SwaggerView(SpectacularSwaggerSplitView):
    """Serve Swagger UI with its script in a file of its own, from this host alone."""

    url_name = "schema"


@problems.safe_only
def welcome(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Show where the documentation and the admin are."""
    return HttpResponse(PAGE.format(title="Subscription & Entitlement Engine", body=WELCOME))


@problems.safe_only
def error_page(request: HttpRequest, code: str) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Show the page that explains a problem's code."""
    source = Path(settings.BASE_DIR) / "docs" / "errors" / f"{code}.md"
    if not CODE.fullmatch(code) or not source.is_file():
        raise Http404
    text = html.escape(source.read_text(encoding="utf-8"))
    return HttpResponse(PAGE.format(title=code, body=f"<pre>{text}</pre>"))
