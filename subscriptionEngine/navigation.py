"""List the admin's areas, as its sidebar shows them to those who may see them."""

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse_lazy

AREAS = (
    (
        "Customers",
        (
            ("Customers", "core.customer", "apartment"),
            ("Subscriptions", "subscriptions.subscription", "autorenew"),
            ("Timeline", "subscriptions.timelineentry", "timeline"),
        ),
    ),
    (
        "Billing",
        (
            ("Invoices", "billing.invoice", "receipt"),
            ("Payments", "billing.payment", "payments"),
            ("Credit notes", "billing.creditnote", "undo"),
            ("Balances in money", "billing.balanceentry", "account_balance_wallet"),
            ("MRR movements", "billing.mrrmovement", "trending_up"),
            ("Coupons", "billing.coupon", "local_offer"),
            ("Issuer", "billing.issuer", "domain"),
        ),
    ),
    (
        "Usage",
        (
            ("Balances", "metering.balance", "data_usage"),
            ("Usage ledger", "metering.usageentry", "receipt_long"),
            ("Grants", "metering.grant", "add_circle"),
            ("Overrides", "subscriptions.override", "tune"),
            ("Holds", "metering.hold", "lock_clock"),
            ("Meters", "metering.meter", "speed"),
            ("Meter events", "metering.meterevent", "sensors"),
        ),
    ),
    (
        "Catalog",
        (
            ("Plans", "subscriptions.plan", "sell"),
            ("Plan versions", "subscriptions.planversion", "history_edu"),
            ("Features", "subscriptions.feature", "extension"),
            ("Plan groups", "subscriptions.plangroup", "category"),
        ),
    ),
    (
        "Bookings",
        (
            ("Venues", "resources.venue", "location_on"),
            ("Bookings", "resources.booking", "event"),
            ("Waiting list", "resources.waitlistentry", "hourglass_top"),
            ("Closures", "resources.closure", "thunderstorm"),
            ("Resources", "resources.resource", "sports_tennis"),
            ("Resource types", "resources.resourcetype", "category"),
            ("Booking policies", "resources.bookingpolicy", "rule"),
        ),
    ),
    (
        "Operations",
        (
            ("Audit log", "core.auditentry", "fact_check"),
            ("Emergency switches", "subscriptions.featureswitch", "emergency"),
            ("Service keys", "core.servicekey", "key"),
            ("Outbox", "core.outboxevent", "outbox"),
            ("Users", "core.user", "group"),
        ),
    ),
)


def areas(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the areas of which the user may see something."""
    shown = []
    for title, screens in AREAS:
        items = [
            {"title": name, "icon": icon, "link": reverse_lazy(_address(model))}
            for name, model, icon in screens
            if _may_view(request, model)
        ]
        if items:
            shown.append({"title": title, "separator": True, "items": items})
    return shown


def environment(request: HttpRequest) -> list[str] | None:  # noqa: ARG001 - Unfold's signature
    """Return the mark of a development server, so that nobody takes it for production."""
    from django.conf import settings  # noqa: PLC0415 - settings name this module

    return ["Development", "warning"] if settings.DEBUG else None


def _address(model: str) -> str:
    return f"admin:{model.replace('.', '_')}_changelist"


def _may_view(request: HttpRequest, model: str) -> bool:
    app_label, name = model.split(".")
    is_shown = admin.site.is_registered(apps.get_model(model))
    return is_shown and request.user.has_perm(f"{app_label}.view_{name}")
