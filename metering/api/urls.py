"""Route usage, entitlements and what shows limits and usage."""

from django.urls import path

from metering.api import (
    afterwards,
    alerts,
    customers,
    events,
    history,
    holds,
    meters,
    moves,
    overview,
    views,
)

urlpatterns = [
    path("subscriptions/me/", overview.OwnSubscriptionView.as_view(), name="own-subscription"),
    path("subscriptions/me/cancel/", moves.CancelView.as_view(), name="cancel"),
    path("subscriptions/me/undo-cancel/", moves.UndoCancelView.as_view(), name="undo-cancel"),
    path("subscriptions/me/pause/", moves.PauseView.as_view(), name="pause"),
    path("subscriptions/me/resume/", moves.ResumeView.as_view(), name="resume"),
    path("entitlements/", overview.EntitlementsView.as_view(), name="entitlements"),
    path("entitlements/<str:feature>/", overview.EntitlementView.as_view(), name="entitlement"),
    path("entitlements/<str:feature>/explain/", overview.ExplainView.as_view(), name="explain"),
    path("usage/check/", views.CheckView.as_view(), name="usage-check"),
    path("usage/consume/", views.ConsumeView.as_view(), name="usage-consume"),
    path("usage/record/", afterwards.RecordView.as_view(), name="usage-record"),
    path("usage/give-back/", afterwards.GiveBackView.as_view(), name="usage-give-back"),
    path("usage/holds/", holds.HoldsView.as_view(), name="holds"),
    path("usage/holds/<uuid:hold_id>/", holds.HoldView.as_view(), name="hold"),
    path("usage/holds/<uuid:hold_id>/capture/", holds.CaptureView.as_view(), name="hold-capture"),
    path("usage/holds/<uuid:hold_id>/release/", holds.ReleaseView.as_view(), name="hold-release"),
    path("usage/holds/<uuid:hold_id>/extend/", holds.ExtendView.as_view(), name="hold-extend"),
    path(
        "usage/entries/<uuid:entry_id>/reverse/",
        afterwards.ReverseView.as_view(),
        name="usage-entry-reverse",
    ),
    path("customers/<str:customer>/grants/", customers.GrantsView.as_view(), name="grants"),
    path(
        "customers/<str:customer>/grants/<uuid:grant_id>/void/",
        customers.VoidGrantView.as_view(),
        name="grant-void",
    ),
    path("customers/<str:customer>/alerts/", alerts.AlertsView.as_view(), name="alerts"),
    path(
        "customers/<str:customer>/alerts/<uuid:alert_id>/",
        alerts.AlertView.as_view(),
        name="alert",
    ),
    path(
        "customers/<str:customer>/overrides/",
        customers.OverridesView.as_view(),
        name="overrides",
    ),
    path(
        "customers/<str:customer>/overrides/<uuid:override_id>/end/",
        customers.EndOverrideView.as_view(),
        name="override-end",
    ),
    path("usage/entries/", views.EntriesView.as_view(), name="usage-entries"),
    path("usage/history/", history.HistoryView.as_view(), name="usage-history"),
    path("events/", events.EventsView.as_view(), name="events"),
    path("meters/", meters.MetersView.as_view(), name="meters"),
    path("meters/<str:key>/query/", meters.MeterQueryView.as_view(), name="meter-query"),
]
